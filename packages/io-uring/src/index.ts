/** The public face of @millrace/io-uring: rings mapped into JavaScript, and the file calls that Node lacks. */
export { UringError, UringSystemError } from "./errors.js";
export type { UringErrorCode } from "./errors.js";
export { errno, errnoName, setupReason } from "./errno.js";
export { armFault, disarmFaults, hasCompletionFault } from "./faults.js";
export type { Fault, FaultOperation } from "./faults.js";
export {
  directIoAlignment,
  FADVISE,
  fadvise,
  FALLOCATE,
  fallocate,
  residentPages,
  SYNC_FILE_RANGE,
  syncFileRange,
} from "./file-calls.js";
export type { DirectIoAlignment, Unsupported } from "./file-calls.js";
export { ForeignRing, orphanedRings } from "./foreign-ring.js";
export { IovecTable } from "./iovec-table.js";
export { addressOf, adviseHugePages, discardPages, hugePageBytes } from "./memory.js";
export type { HugePageAdvice, TypedArray } from "./memory.js";
export { nativeStatus } from "./native.js";
export type { NativeStatus } from "./native.js";
export { FEATURE, FSYNC_DATASYNC, OPCODE, RWF, SETUP, SQE } from "./opcodes.js";
export { fdatasyncFd, fsyncFd, IOVECS_MAX, preadInto, preadv, pwriteFrom, pwritev } from "./positional.js";
export { probeUring } from "./probe.js";
export type { UringProbe } from "./probe.js";
export { Ring } from "./ring.js";
export type { RingOptions } from "./ring.js";
export type { RingPoll } from "./ring-poll.js";
export { COMPLETION_WORDS, ENTRY_WORDS } from "./ring-queues.js";
export type { RingQueues } from "./ring-queues.js";
