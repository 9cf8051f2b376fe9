/**
 * The LSN of a page: its first eight bytes, as two little-endian halves, the high one first. After PageXLogRecPtr.
 */
import type { PoolMemory } from "@millrace/aligned-buffers";

function viewOf(frames: PoolMemory, frame: number): DataView {
  const { buffer } = frames.segments[frames.segmentIndexOf(frame)] as { buffer: SharedArrayBuffer };
  return new DataView(buffer, frames.byteOffsetOf(frame), 8);
}

/** Reads the LSN of a frame's page. Under the header lock, or a content lock, so that both halves are of one value. */
export function pageLsn(frames: PoolMemory, frame: number): bigint {
  const view = viewOf(frames, frame);
  return (BigInt(view.getUint32(0, true)) << 32n) | BigInt(view.getUint32(4, true));
}

/** Sets it. Under the exclusive content lock, for a hint under the header lock, or of a frame that nobody else knows. */
export function setPageLsn(frames: PoolMemory, frame: number, lsn: bigint): void {
  const view = viewOf(frames, frame);
  view.setUint32(0, Number(lsn >> 32n), true);
  view.setUint32(4, Number(lsn & 0xffff_ffffn), true);
}
