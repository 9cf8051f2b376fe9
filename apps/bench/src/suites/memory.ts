/**
 * `memory`: what the memory that I/O is done on costs and brings, compared with what Node has.
 *
 * Huge pages are measured by direct reads into the same kind of memory with and without the kernel's advice; how much of
 * it really had huge pages stands beside the figures. Copying, zeroing and allocating only use the processor: 8 KiB
 * blocks of shared memory in its cache, best round of each side. Checksums of pages are in the suite `checksum`.
 */
import { readFileSync } from "node:fs";

import { AlignedArena, createMemorySegment } from "@millrace/aligned-buffers";

import type { Group, MaybeContestant } from "../available.js";
import { runGroups } from "../available.js";
import type { RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { pseudoRandomBytes } from "../pseudo-random.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";
import { ioRun, prepareGround } from "./aio-contestants.js";
import type { Ground } from "./aio-contestants.js";

const BLOCK_BYTES = 8192;
/** Blocks of each side: 128 KiB and 128 KiB, which stays in the second-level cache. */
const BLOCKS = 16;
const WORDS = BLOCK_BYTES / 4;
const PASSES = 512;
const QUICK_PASSES = 4;
const CACHE = "256 KiB in the processor's cache";

/** Why huge pages cannot be compared with others here. */
function hugePageProblem(): string | undefined {
  try {
    const setting = readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
    if (setting.includes("[madvise]")) return undefined;
    return setting.includes("[never]")
      ? "transparent huge pages are switched off"
      : "transparent huge pages are everywhere: there is nothing to compare them with";
  } catch {
    return "this kernel has no transparent huge pages";
  }
}

/** Direct reads with and without huge pages. */
function hugePages(
  ground: Ground,
  what: { readonly name: string; readonly goal: number },
  run: { readonly order: "random" | "sequential"; readonly queueDepth: number; readonly blockBytes: number },
): Group {
  const [reference, candidate] = [`4 KiB pages, ${what.name}`, `huge pages, ${what.name}`];
  const problem = hugePageProblem();
  const on = (name: string, isHuge: boolean): MaybeContestant => {
    const contestant = ioRun(ground, name, { driver: "raw", hugePages: isHuge, ...run });
    return { ...contestant, missing: contestant.missing ?? problem };
  };
  return {
    contestants: [on(reference, false), on(candidate, true)],
    rows: [
      {
        id: "M1",
        name: `huge pages, ${what.name}`,
        question: "How much faster are direct reads into huge pages than into pages of 4 KiB?",
        unit: "IOPS",
        reference,
        candidate,
        judge: "median",
        goal: { ratio: what.goal },
        cache: "past the page cache (O_DIRECT)",
      },
    ],
  };
}

/** A contestant that does something to every block, in place of nothing else. */
function perBlock(
  quick: boolean,
  name: string,
  command: string,
  work: (block: number) => number,
): MaybeContestant {
  const [slices, passes] = quick ? [QUICK_SLICES, QUICK_PASSES] : [FULL_SLICES, PASSES];
  function slice(): number {
    let sum = 0;
    for (let pass = 0; pass < passes; pass += 1) {
      for (let block = 0; block < BLOCKS; block += 1) sum = (Math.imul(sum, 31) + work(block)) | 0;
    }
    return sum;
  }
  return {
    name,
    command,
    missing: undefined,
    async run(): Promise<readonly Sample[]> {
      const sample = await fastestSlice(slices, passes * BLOCKS, slice);
      return [{ ...sample, rate: sample.rate / 1e6, details: { nsPerBlock: 1e9 / sample.rate } }];
    },
  };
}

function row(
  spec: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "M blocks/s", judge: "best", cache: CACHE, sameWork: true, ...spec };
}

/** Copies from the first half of a segment to its second half; the last word of each copy is looked at. */
function copying(quick: boolean): Group {
  const half = BLOCKS * BLOCK_BYTES;
  const segment = createMemorySegment(2 * half);
  const { bytes, byteOffset } = segment;
  bytes.set(pseudoRandomBytes(half));
  const words = new Int32Array(segment.buffer, byteOffset, (2 * half) / 4);
  const starts = Array.from({ length: BLOCKS }, (_, block) => block * BLOCK_BYTES);
  const sources = starts.map((start) => bytes.subarray(start, start + BLOCK_BYTES));
  const targets = starts.map((start) => bytes.subarray(half + start, half + start + BLOCK_BYTES));
  const asBuffer = (view: Uint8Array): Buffer => Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const [sourceBuffers, targetBuffers] = [sources.map(asBuffer), targets.map(asBuffer)];
  const copied = (block: number): number => words[(half + block * BLOCK_BYTES) / 4 + WORDS - 1] as number;
  const question =
    "How fast is a page copied from one place in shared memory to another, compared with Buffer.copy?";
  return {
    contestants: [
      perBlock(quick, "Buffer.copy", "Buffer.copy, shared memory to shared memory", (block) => {
        (sourceBuffers[block] as Buffer).copy(targetBuffers[block] as Buffer);
        return copied(block);
      }),
      perBlock(quick, "set", "Uint8Array.set, shared memory to shared memory", (block) => {
        (targets[block] as Uint8Array).set(sources[block] as Uint8Array);
        return copied(block);
      }),
      perBlock(quick, "copyWithin", "MemorySegment.copyWithin (memory.copy of WebAssembly)", (block) => {
        const source = byteOffset + block * BLOCK_BYTES;
        segment.copyWithin(source + half, source, BLOCK_BYTES);
        return copied(block);
      }),
    ],
    rows: [
      row({ id: "M2", name: "copying 8 KiB by set", question, reference: "Buffer.copy", candidate: "set" }),
      row({
        id: "M2",
        name: "copying 8 KiB by copyWithin",
        question,
        reference: "Buffer.copy",
        candidate: "copyWithin",
        gate: { ratio: 1 },
        goal: { ratio: 1.5 },
      }),
    ],
  };
}

/** Sets blocks to a byte; their last word is looked at. */
function zeroing(quick: boolean): Group {
  const segment = createMemorySegment(BLOCKS * BLOCK_BYTES);
  const { byteOffset } = segment;
  const words = new Int32Array(segment.buffer, byteOffset, BLOCKS * WORDS);
  const views = Array.from({ length: BLOCKS }, (_, block) =>
    segment.view(byteOffset + block * BLOCK_BYTES, BLOCK_BYTES),
  );
  /** Dirties the word first, so that zeroing it must be seen. */
  const dirty = (block: number): number => {
    const at = block * WORDS + WORDS - 1;
    words[at] = block + 1;
    return at;
  };
  return {
    contestants: [
      perBlock(quick, "Uint8Array.fill", "fill(0) of a view of shared memory", (block) => {
        const at = dirty(block);
        (views[block] as Uint8Array).fill(0);
        return (words[at] as number) + at;
      }),
      perBlock(quick, "MemorySegment.fill", "MemorySegment.fill (memory.fill of WebAssembly)", (block) => {
        const at = dirty(block);
        segment.fill(byteOffset + block * BLOCK_BYTES, BLOCK_BYTES, 0);
        return (words[at] as number) + at;
      }),
    ],
    rows: [
      row({
        id: "M3",
        name: "zeroing 8 KiB",
        question: "How fast is a page of shared memory zeroed, compared with Uint8Array.fill?",
        reference: "Uint8Array.fill",
        candidate: "MemorySegment.fill",
        gate: { ratio: 5 },
        goal: { ratio: 10 },
      }),
    ],
  };
}

/** Takes a block and gives it back. */
function allocating(quick: boolean, arena: AlignedArena): Group {
  return {
    contestants: [
      perBlock(
        quick,
        "Buffer.allocUnsafeSlow",
        "Buffer.allocUnsafeSlow(8192), left to the collector",
        () => Buffer.allocUnsafeSlow(BLOCK_BYTES).byteLength,
      ),
      perBlock(quick, "AlignedArena.alloc", "AlignedArena.alloc(8192), disposed at once", () => {
        using buffer = arena.alloc(BLOCK_BYTES);
        return buffer.capacity;
      }),
    ],
    rows: [
      row({
        id: "M4",
        name: "allocating 8 KiB",
        question:
          "What does a buffer of an arena cost, taken and given back, compared with one from the system?",
        reference: "Buffer.allocUnsafeSlow",
        candidate: "AlignedArena.alloc",
        cache: "allocator's own structures in the processor's cache",
      }),
    ],
  };
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  const { quick } = context;
  using ground = prepareGround(directory, quick);
  using arena = new AlignedArena({ bytes: BLOCKS * BLOCK_BYTES });
  const { rows, skipped } = await runGroups(context, [
    copying(quick),
    zeroing(quick),
    allocating(quick, arena),
    hugePages(
      ground,
      { name: "sequential 1 MiB, QD4", goal: 2 },
      { order: "sequential", queueDepth: 4, blockBytes: 2 ** 20 },
    ),
    hugePages(
      ground,
      { name: "random 8 KiB, QD64", goal: 1.1 },
      { order: "random", queueDepth: 64, blockBytes: BLOCK_BYTES },
    ),
  ]);
  const { timed } = quick ? QUICK_SLICES : FULL_SLICES;
  return {
    method: [
      `8 KiB blocks of shared memory, fastest of ${timed} slices a run; reads of a file of ${ground.sizes.fileBytes / 2 ** 20} MiB, ${ground.sizes.timedMs} ms a run`,
    ],
    rows,
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const memorySuite: Suite = {
  name: "memory",
  question: "What does memory for I/O cost and bring, compared with what Node has?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};
