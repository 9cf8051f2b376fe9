/**
 * The LSN of a page: its first eight bytes, as two little-endian halves, the high one first. After PageXLogRecPtr.
 */
import type { PoolMemory } from "@millrace/aligned-buffers";

/** Reads the LSN of a frame's page. Under the header lock, or a content lock, so that both halves are of one value. */
export function pageLsn(frames: PoolMemory, frame: number): bigint {
  const { buffer } = frames.segments[frames.segmentIndexOf(frame)] as { buffer: SharedArrayBuffer };
  const view = new DataView(buffer, frames.byteOffsetOf(frame), 8);
  return (BigInt(view.getUint32(0, true)) << 32n) | BigInt(view.getUint32(4, true));
}
