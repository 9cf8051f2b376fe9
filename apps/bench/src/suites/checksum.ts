/**
 * `checksum`: CRC-32C and PostgreSQL's page checksum of pages, against plain JavaScript (goal G18).
 *
 * All sides walk the same 1 MiB, which stays in the second-level cache, in blocks of 8 KiB, and combine the same
 * checksums; those of a row must agree. In place means that the pages lie in a WebAssembly memory, as those of a
 * buffer pool do; the plain function copies a page first. Only the processor takes part, so the best round of each side is judged.
 */
import { createMemorySegment } from "@millrace/aligned-buffers";
import {
  createPageChecksummer,
  crc32c,
  crc32cMethod,
  pageChecksum,
  pageChecksumMethod,
} from "@millrace/checksums";

import type { Contestant, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { pageChecksumByColumns } from "../page-checksum-columns.js";
import { pseudoRandomBytes } from "../pseudo-random.js";
import { slicingBy8 } from "../slicing-by-8.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";

const BLOCK_BYTES = 8192;
const INPUT_BYTES = 1024 * 1024;
const BLOCKS = INPUT_BYTES / BLOCK_BYTES;
/** Passes over the input in one slice: about 6 ms of the reference. */
const PASSES = 8;
const QUICK_PASSES = 1;
const CACHE = "input of 1 MiB in the processor's cache";

function contestant(
  quick: boolean,
  name: string,
  command: string,
  checksumOf: (block: number) => number,
): Contestant {
  const [slices, passes] = quick ? [QUICK_SLICES, QUICK_PASSES] : [FULL_SLICES, PASSES];
  function walk(): number {
    let combined = 0;
    for (let pass = 0; pass < passes; pass += 1) {
      for (let block = 0; block < BLOCKS; block += 1) combined = (combined ^ checksumOf(block)) + pass;
    }
    return combined;
  }
  return {
    name,
    command,
    async run(): Promise<readonly Sample[]> {
      const sample = await fastestSlice(slices, passes * INPUT_BYTES, walk);
      return [{ ...sample, rate: sample.rate / 1e9 }];
    },
  };
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { quick } = context;
  const input = pseudoRandomBytes(INPUT_BYTES);
  const starts = Array.from({ length: BLOCKS }, (_, block) => block * BLOCK_BYTES);
  const blocks = starts.map((start) => input.subarray(start, start + BLOCK_BYTES));
  const words = starts.map((start) => new Uint32Array(input.buffer, start, BLOCK_BYTES / 4));
  const signedWords = starts.map((start) => new Int32Array(input.buffer, start, BLOCK_BYTES / 4));
  const segment = createMemorySegment(INPUT_BYTES);
  segment.bytes.set(input);
  const inPlace = createPageChecksummer(segment.memory, BLOCK_BYTES);
  const rows = await runContest(
    context,
    [
      contestant(quick, "slicing-by-8", "slicing-by-8 in JavaScript (apps/bench)", (block) =>
        slicingBy8(words[block] as Uint32Array),
      ),
      contestant(quick, "crc32c", `@millrace/checksums crc32c (${crc32cMethod()})`, (block) =>
        crc32c(blocks[block] as Uint8Array),
      ),
      contestant(quick, "columns", "page checksum in JavaScript (apps/bench)", (block) =>
        pageChecksumByColumns(signedWords[block] as Int32Array, block),
      ),
      contestant(
        quick,
        "pageChecksum",
        `@millrace/checksums pageChecksum (${pageChecksumMethod()})`,
        (block) => pageChecksum(blocks[block] as Uint8Array, block),
      ),
      contestant(
        quick,
        "in place",
        `@millrace/checksums createPageChecksummer (${inPlace.method})`,
        (block) => inPlace.checksum(block * BLOCK_BYTES, block),
      ),
    ],
    [
      {
        id: "G18",
        name: "CRC-32C of 8 KiB",
        question: "How much faster than slicing-by-8 in JavaScript is the checksum of a page?",
        unit: "GB/s",
        reference: "slicing-by-8",
        candidate: "crc32c",
        judge: "best",
        gate: { ratio: 1.7 },
        goal: { ratio: 2.2 },
        cache: CACHE,
        sameWork: true,
      },
      {
        id: "G18",
        name: "page checksum, copied",
        question:
          "How much faster than JavaScript is PostgreSQL's checksum of a page that has to be copied first?",
        unit: "GB/s",
        reference: "columns",
        candidate: "pageChecksum",
        judge: "best",
        gate: { ratio: 3 },
        goal: { ratio: 3 },
        cache: CACHE,
        sameWork: true,
      },
      {
        id: "G18",
        name: "page checksum, in place",
        question:
          "How much faster than JavaScript is PostgreSQL's checksum of a page in a WebAssembly memory?",
        unit: "GB/s",
        reference: "columns",
        candidate: "in place",
        judge: "best",
        gate: { ratio: 3 },
        goal: { rate: 20 },
        cache: CACHE,
        sameWork: true,
      },
    ],
  );
  const { timed } = quick ? QUICK_SLICES : FULL_SLICES;
  return { method: [`8 KiB blocks of a 1 MiB input; fastest of ${timed} slices a run`], rows };
}

export const checksumSuite: Suite = {
  name: "checksum",
  question: "How fast are checksums of page-sized inputs, compared with plain JavaScript?",
  run,
};
