/**
 * The public face of the package: the consensus core and its stores, timelines, and the WAL port.
 */
export { AcceptorError, isAcceptorError } from "./errors.js";
export type { AcceptorErrorCode } from "./errors.js";
export { systemClock } from "./clock.js";
export type { Clock, Timer } from "./clock.js";
export { nodeFileSystem, withoutSync } from "./file-system.js";
export type { FileStatus, FileSystem, OpenFile, OpenMode } from "./file-system.js";
export { initialState } from "./persistent-state.js";
export type { InitialStateOptions, PersistentState, ServerInfo } from "./persistent-state.js";
export type { ControlStore } from "./control-store.js";
export type { WalReader, WalStore } from "./wal-store.js";
export { CONTROL_SAVE_INTERVAL_MS, SAFETY_VIOLATION_CHANNEL, SafekeeperCore } from "./safekeeper-core.js";
export type {
  FlushWal,
  InternalMessage,
  MembershipSwitchResult,
  NoFlushAppendRequest,
  PeerPositions,
  SafekeeperCoreOptions,
  SafetyViolation,
  TermBumpResult,
} from "./safekeeper-core.js";
export type { SystemIdMismatchPolicy } from "./core-greeting.js";
export type { AcceptorStateView } from "./core-state.js";
