/**
 * The public face of @millrace/aligned-buffers: segments of page-aligned shared memory, arenas and pools made of them,
 * and buffers with checked ownership.
 */
export { AlignedArena, ALIGNMENT_MIN } from "./arena.js";
export type { AllocAsyncOptions, AllocOptions, ArenaOptions, ArenaStats } from "./arena.js";
export { attachArena } from "./attached-arena.js";
export type { AttachedArena, AttachedArenaHandle } from "./attached-arena.js";
export type { IoBuffer, IoBufferMut, Lease, Loan } from "./io-buffer.js";
export type { LeakReport } from "./leak-tracker.js";
export {
  attachMemorySegment,
  createMemorySegment,
  HUGE_PAGE_BYTES,
  isIoMemory,
  locate,
  PAGE_ALIGNMENT,
  SEGMENT_BYTES_MAX,
} from "./memory-segment.js";
export type {
  HugePages,
  MemoryHooks,
  MemoryLocation,
  MemorySegment,
  MemorySegmentHandle,
} from "./memory-segment.js";
export { attachPoolMemory, createPoolMemory, FRAME_BYTES_MIN, POOL_SEGMENTS_MAX } from "./pool-memory.js";
export type { PoolMemory, PoolMemoryHandle, PoolMemoryOptions } from "./pool-memory.js";
export type { SharedMemory } from "./webassembly.js";
export {
  AlignedBufferError,
  ArenaExhaustedError,
  BufferTamperedError,
  CapacityExceededError,
  FrozenBufferError,
  UseAfterMoveError,
} from "./errors.js";
export type { AlignedBufferErrorCode, MovedBy } from "./errors.js";
