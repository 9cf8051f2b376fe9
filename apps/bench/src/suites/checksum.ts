/**
 * `checksum`: CRC-32C of page-sized inputs against slicing-by-8 in plain JavaScript (goal G18).
 *
 * Both sides walk the same 1 MiB, which stays in the second-level cache, in blocks of 8 KiB, and combine the same
 * checksums; they must agree. Only the processor takes part, so the best round of each side is judged.
 */
import { crc32c, crc32cMethod } from "@millrace/checksums";

import type { Contestant, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
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
  const rows = await runContest(
    context,
    [
      contestant(quick, "slicing-by-8", "slicing-by-8 in JavaScript (apps/bench)", (block) =>
        slicingBy8(words[block] as Uint32Array),
      ),
      contestant(quick, "crc32c", `@millrace/checksums crc32c (${crc32cMethod()})`, (block) =>
        crc32c(blocks[block] as Uint8Array),
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
        cache: "input of 1 MiB in the processor's cache",
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
