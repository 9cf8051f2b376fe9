/**
 * Filling a file with zeros, two writes in flight: what preallocation by really writing comes down to.
 *
 * fallocate would be faster, but leaves unwritten extents, and every first write to one changes metadata that a durable
 * write then has to wait for. PostgreSQL writes zeros to its WAL segments for the same reason (wal_init_zero).
 */
import type { AlignedArena } from "@millrace/aligned-buffers";

/** Large enough for a device, small enough for any arena. */
const CHUNK_BYTES: number = 256 * 1024;
const IN_FLIGHT = 2;

/** What can be written to. */
export interface ZeroTarget {
  write(source: Uint8Array, offsetBytes: number): Promise<number>;
}

/** Writes zeros from the beginning up to `lengthBytes`. */
export async function writeZeros(
  target: ZeroTarget,
  arena: AlignedArena,
  lengthBytes: number,
): Promise<void> {
  if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 0)
    throw new RangeError(`not a length: ${lengthBytes}`);
  using zeros = arena.alloc(CHUNK_BYTES, { zeroed: true });
  const view = zeros.view();
  let next = 0;
  const writeOn = async (): Promise<void> => {
    while (next < lengthBytes) {
      const offset = next;
      next += CHUNK_BYTES;
      await target.write(view.subarray(0, Math.min(CHUNK_BYTES, lengthBytes - offset)), offset);
    }
  };
  // All of them, also when one fails: the memory is lent until the last write is over.
  const outcomes = await Promise.allSettled(Array.from({ length: IN_FLIGHT }, writeOn));
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}
