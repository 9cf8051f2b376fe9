/**
 * Which parts of a file to read for a set of ranges: whole chunks, each once, neighbours together.
 *
 * A chunk is what direct I/O must be a multiple of. Chunks that anybody wants and that follow each other become a batch, up to
 * a bound; a chunk that nobody wants always splits, so that nothing is read for nothing but the rest of a chunk. Batches
 * ascend, and depend on the set of ranges only, not on their order.
 *
 * Idea: vectored_dio_read.rs of Neon's pageserver. Different: ranges are merged, not chunk by chunk.
 */

/** Bytes of a file. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** One read of the file. Both numbers are multiples of the chunk. */
export interface Batch<R extends ByteRange> extends ByteRange {
  /** The ranges that want bytes of it, by offset. */
  readonly wantedBy: readonly R[];
}

interface Run {
  begin: number;
  end: number;
}

/**
 * Plans.
 *
 * @param ranges in any order; may overlap; empty ones are left out
 * @param chunkBytes bytes
 * @param batchBytesMax a multiple of `chunkBytes`, not 0
 */
export function planBatches<R extends ByteRange>(
  ranges: readonly R[],
  chunkBytes: number,
  batchBytesMax: number,
): readonly Batch<R>[] {
  const sorted = ranges.filter(({ lengthBytes }) => lengthBytes > 0);
  sorted.sort((a, b) => a.offsetBytes - b.offsetBytes);
  const batches: (Batch<R> & { wantedBy: R[] })[] = [];
  for (const { begin, end } of mergeRuns(sorted, chunkBytes)) {
    for (let at = begin; at < end; at += batchBytesMax)
      batches.push({ offsetBytes: at, lengthBytes: Math.min(batchBytesMax, end - at), wantedBy: [] });
  }
  // Both ascend, so that no range begins before the first batch of the one before it.
  let first = 0;
  for (const range of sorted) {
    while (first < batches.length && endOf(batches[first] as ByteRange) <= range.offsetBytes) first += 1;
    for (let index = first; index < batches.length; index++) {
      const batch = batches[index] as (typeof batches)[number];
      if (batch.offsetBytes >= endOf(range)) break;
      batch.wantedBy.push(range);
    }
  }
  return batches;
}

/** Where a range ends. */
export function endOf({ offsetBytes, lengthBytes }: ByteRange): number {
  return offsetBytes + lengthBytes;
}

/** The smallest multiple of `unit` that is not below `value`. */
export function roundUp(value: number, unit: number): number {
  const over = value % unit;
  return over === 0 ? value : value + (unit - over);
}

/** Runs of chunks without a gap. */
function mergeRuns(sorted: readonly ByteRange[], chunkBytes: number): readonly Run[] {
  const runs: Run[] = [];
  for (const range of sorted) {
    const begin = range.offsetBytes - (range.offsetBytes % chunkBytes);
    const end = roundUp(endOf(range), chunkBytes);
    const last = runs.at(-1);
    if (last === undefined || begin > last.end) runs.push({ begin, end });
    else last.end = Math.max(last.end, end);
  }
  return runs;
}
