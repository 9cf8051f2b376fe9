/**
 * Giving the memory of frames back to the kernel that no buffer of the pool needs any more.
 *
 * Their addresses stay the pool's: shared WebAssembly memory cannot shrink. Only the pages behind them go, and come back as
 * zeros when the pool grows again and uses them. Frames that are registered with io_uring keep theirs, because the kernel would go
 * on to read into the pages that were registered.
 */
import { discardPages, nativeStatus } from "@millrace/io-uring";

import type { BackendContext } from "./backend-context.js";

/** What became of the memory. */
export interface FrameRelease {
  /** Bytes that are the kernel's again. */
  readonly releasedBytes: number;
  /** Why there are none. */
  readonly keptBecause?: string;
}

/** Gives back the memory of the frames from `from` up to `to`, which nobody uses. */
export function releaseFrames(
  { frames, isMemoryRegistered }: Pick<BackendContext, "frames" | "isMemoryRegistered">,
  from: number,
  to: number,
): FrameRelease {
  if (isMemoryRegistered) return { releasedBytes: 0, keptBecause: "the frames are registered with io_uring" };
  const { available, reason = "" } = nativeStatus();
  if (!available) return { releasedBytes: 0, keptBecause: `there is no native part: ${reason}` };
  let releasedBytes = 0;
  for (let frame = from; frame < to;) {
    const count = Math.min(to - frame, frames.runFramesMax(frame));
    releasedBytes += discardPages(frames.view(frame, count));
    frame += count;
  }
  return releasedBytes > 0 ? { releasedBytes } : { releasedBytes, keptBecause: "the kernel has refused" };
}
