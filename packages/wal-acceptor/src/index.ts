/**
 * The public face of the package: the consensus core and its stores, timelines, and the WAL port.
 */
export { AcceptorError, isAcceptorError } from "./errors.js";
export type { AcceptorErrorCode } from "./errors.js";
export { systemClock } from "./clock.js";
export type { Clock, Timer } from "./clock.js";
export { createFileSystem, ENGINE_FILES_MAX, withoutSync } from "./file-system.js";
export type { FileStatus, FileSystem } from "./file-system.js";
export { initialState } from "./persistent-state.js";
export type { InitialStateOptions, PersistentState, ServerInfo } from "./persistent-state.js";
export type { ControlStore } from "./control-store.js";
export { CONTROL_FILE_NAME } from "./control-file.js";
export { createDiskControlFile, openDiskControlStore } from "./disk-control-store.js";
export type { DiskControlStoreOptions } from "./disk-control-store.js";
export { createMemoryControlStore } from "./memory-control-store.js";
export type { MemoryControlStore, MemoryControlStoreOptions } from "./memory-control-store.js";
export type { WalReader, WalStore } from "./wal-store.js";
export { openDiskWalStore } from "./disk-wal-store.js";
export type { DiskWalStoreOptions } from "./disk-wal-store.js";
export { MemoryWalDisk } from "./memory-wal-disk.js";
export { createMemoryWalStore } from "./memory-wal-store.js";
export type { MemoryWalStep, MemoryWalStoreOptions } from "./memory-wal-store.js";
export { removableSegment } from "./wal-removal.js";
export type { RemovalPositions } from "./wal-removal.js";
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
export { Timeline } from "./timeline.js";
export type { LogEnd, TimelineOptions } from "./timeline.js";
export { configurationJson, pgTimelineJson, slotJson, timelineStatusJson } from "./timeline-status.js";
export type { TimelineStatus } from "./timeline-status.js";
export { TimelineReaders, WAL_KEEP_BYTES_DEFAULT } from "./timeline-readers.js";
export type { ReaderSettings, TimelineReadersOptions } from "./timeline-readers.js";
export { ConsumerSlots, SLOT_TTL_MS_DEFAULT, SlotLease, SLOTS_PER_TIMELINE_MAX } from "./consumer-slots.js";
export type { ConsumerSlotsOptions, SlotState } from "./consumer-slots.js";
export { PgTimelines, PG_TIMELINES_MAX } from "./pg-timelines.js";
export type { PgTimeline } from "./pg-timelines.js";
export { SENDERS_PER_TIMELINE_MAX, WalSenderGuard, WalSenderRegistry } from "./walsender-registry.js";
export type { SenderPeer, SenderPhase, SenderState } from "./walsender-registry.js";
export { createMemoryRecords } from "./timeline-records.js";
export type { TimelineRecords } from "./timeline-records.js";
export { WalHolds } from "./wal-holds.js";
export { sendWal } from "./walsender.js";
export type { EndedReplication, ReplicationEnd, ReplicationStream } from "./walsender.js";
export type { StreamEnd } from "./stream-end.js";
export { parseCommand } from "./command-grammar.js";
export type { StartReplication, WalPortCommand } from "./command-grammar.js";
export { TimelineRegistry } from "./timeline-registry.js";
export type { CreateTimelineRequest } from "./timeline-creation.js";
export type { DeleteResult, TimelineRegistryOptions, UnloadableTimeline } from "./timeline-registry.js";
export { createDiskTimelineStorage } from "./timeline-storage.js";
export type {
  DiskTimelineStorageOptions,
  TimelineKey,
  TimelineStorage,
  TimelineStores,
} from "./timeline-storage.js";
export { RECEIVERS_PER_TIMELINE_MAX } from "./compute-registry.js";
export type { ReceiverPhase, ReceiverState } from "./compute-registry.js";
export { FeedbackHub, FeedbackSubscription, StandbyFeedbackSlot } from "./feedback-hub.js";
export { Watch } from "./watch.js";
export { AcceptorNode } from "./acceptor-node.js";
export type { AcceptorNodeOptions, AcceptorNodeStatus } from "./acceptor-node.js";
export { Histogram } from "./histogram.js";
export type { HistogramSnapshot } from "./histogram.js";
export { AcceptorMeasures } from "./measures.js";
export type { StorageOperation } from "./measures.js";
export type { HistogramMetric, Metric, MetricSample } from "./metrics.js";
export { ensureNodeId, lockDirectory, LOCK_FILE, NODE_ID_FILE } from "./node-identity.js";
export type { DirectoryLock } from "./node-identity.js";
export type { WalPortListener } from "./wal-port.js";
export { ACCEPTOR_CHANNEL } from "./diagnostics.js";
export type { AcceptorEvent, EventPlace } from "./diagnostics.js";
export { JSON_DEPTH_MAX, parseJson, stringifyJson } from "./bigint-json.js";
export type { JsonValue } from "./bigint-json.js";
