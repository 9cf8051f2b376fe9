/**
 * What one small `tryWrite` costs when nothing has to wait: a buffer is filled nearly to its end, over and over.
 *
 * The file takes everything at once and keeps nothing, so that no device takes part. What is compared is the least that such a
 * write can be: a copy of the same bytes to the same memory at a place that is counted on.
 */
import { AlignedArena } from "@millrace/aligned-buffers";
import { BufferedWriter } from "@millrace/buffered-writer";
import type { PositionalWriter } from "@millrace/virtual-file";

import type { Sample } from "./contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "./cpu-run.js";
import { BenchError } from "./errors.js";
import { pseudoRandomBytes } from "./pseudo-random.js";

const CAPACITY: number = 512 * 1024;
const ALIGNMENT = 4096;
/** Writes of a slice. One buffer after the other is filled by it. */
const WRITES = 1 << 17;
const QUICK_WRITES = 1 << 14;

const nowhere: PositionalWriter = {
  writeAllAt: () => Promise.resolve(),
  setLength: () => Promise.resolve(),
};

function sampleOf(sample: Sample): Sample {
  return { ...sample, rate: sample.rate / 1e6, details: { ns: 1e9 / sample.rate } };
}

/** Copies a chunk to one place after the other, as a writer without anything around it would. */
export async function copyOnly(quick: boolean, chunkBytes: number): Promise<Sample> {
  const writes = quick ? QUICK_WRITES : WRITES;
  using arena = new AlignedArena({ bytes: CAPACITY });
  const target = arena.alloc(CAPACITY).spareView();
  const chunk = pseudoRandomBytes(chunkBytes);
  return sampleOf(
    await fastestSlice(quick ? QUICK_SLICES : FULL_SLICES, writes, () => {
      let [offset, used] = [0, 0];
      for (let write = 0; write < writes; write += 1) {
        if (used + chunkBytes > CAPACITY) used = 0;
        target.set(chunk, used);
        used += chunkBytes;
        offset += chunkBytes;
      }
      return offset;
    }),
  );
}

/** `tryWrite`, and `write` where that says that it has to wait: once in a buffer. */
export async function tryWrites(quick: boolean, chunkBytes: number): Promise<Sample> {
  const writes = quick ? QUICK_WRITES : WRITES;
  using arena = new AlignedArena({ bytes: 4 * CAPACITY });
  const writer = new BufferedWriter(nowhere, arena, {
    capacity: CAPACITY,
    alignment: ALIGNMENT,
    queueDepth: 3,
  });
  const chunk = pseudoRandomBytes(chunkBytes);
  const sample = await fastestSlice(quick ? QUICK_SLICES : FULL_SLICES, writes, async () => {
    const begin = writer.acknowledged;
    for (let write = 0; write < writes; write += 1) {
      const offset = writer.tryWrite(chunk) ?? (await writer.write(chunk));
      if (offset - begin !== write * chunkBytes)
        throw new BenchError("ERR_BENCH_WORK", `write ${write} is at ${offset}`);
    }
    return writer.acknowledged - begin;
  });
  await writer.shutdown("dropTail");
  return sampleOf(sample);
}
