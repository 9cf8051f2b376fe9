/**
 * The public face of @millrace/wal-proposer: an elected proposer that makes WAL durable on a quorum of acceptors,
 * and the bridge that feeds it from a stock PostgreSQL.
 */
export { ProposerError, SyncError } from "./errors.js";
export type { ProposerErrorCode, SyncFailure } from "./errors.js";
export { systemClock } from "./timers.js";
export type { Clock, Timer } from "./timers.js";
export { RING_BYTES_DEFAULT, WalRing } from "./wal-ring.js";
export { checkReport, PositionReporter, REPORT_INTERVAL_MS, UNCHANGED_GAP_MS } from "./position-reporter.js";
export type { PositionReport, PositionReporterOptions } from "./position-reporter.js";
export { ProposerCore } from "./proposer-core.js";
export type { ProposerState } from "./proposer-core.js";
export {
  ACCEPTORS_MAX,
  CONNECTION_TIMEOUT_MS_DEFAULT,
  HEARTBEAT_MS_DEFAULT,
  RECONNECT_MS_DEFAULT,
} from "./proposer-events.js";
export type {
  AcceptorView,
  AlarmCode,
  DisconnectReason,
  ProposerCoreOptions,
  ProposerEffect,
  ProposerEvent,
  RestartReason,
} from "./proposer-events.js";
export type { AcceptorState } from "./acceptor-progress.js";
export { Proposer } from "./proposer.js";
export type {
  AcceptorStatus,
  ElectionResult,
  ProposerHandlers,
  ProposerOptions,
} from "./proposer-options.js";
export { AcceptorConnection, SEND_WINDOW_BYTES } from "./acceptor-connection.js";
export type { AcceptorAddress, AcceptorConnectionOptions, AcceptorHandlers } from "./acceptor-connection.js";
export { CatchUp, chunkParts } from "./catch-up.js";
export type { CatchUpSource, CatchUpStream, CatchUpTarget, WalChunk } from "./catch-up.js";
export { catchUpSource } from "./catch-up-source.js";
export type { CatchUpSourceOptions, Donor } from "./catch-up-source.js";
export type { ReplicationConnection } from "./catch-up-reader.js";
export { DonorReader } from "./donor-reader.js";
export type { DonorReaderOptions, DonorStreamOptions } from "./donor-reader.js";
export { DIAGNOSTICS_CHANNEL } from "./diagnostics.js";
export type { ProposerNotice } from "./diagnostics.js";
export { Bridge } from "./bridge.js";
export {
  APPLICATION_NAME_DEFAULT,
  CLOSE_TIMEOUT_MS_DEFAULT,
  POSTGRES_RECONNECT_MS_DEFAULT,
  RETAIN_SLOT_DEFAULT,
  SLOT_TIMEOUT_MS_DEFAULT,
} from "./bridge-options.js";
export type {
  BridgeAcceptor,
  BridgeEnd,
  BridgeOptions,
  BridgeState,
  BridgeStatus,
  CreateTimelineRequest,
  DigestSource,
  PgTimelineRegistry,
} from "./bridge-options.js";
export type { PgTimeline } from "./postgres-history.js";
export type { DivergenceResult } from "./bridge-divergence.js";
export { DIVERGENCE_WINDOW_BYTES_DEFAULT } from "./divergence-check.js";
export { SYNC_TIMEOUT_MS_DEFAULT, syncAcceptors } from "./sync-acceptors.js";
export type { SyncOptions, SyncResult } from "./sync-acceptors.js";
export { durabilityWarnings } from "./postgres-settings.js";
export type { DurabilitySettings, SettingWarning } from "./postgres-settings.js";
export {
  RESTART_DELAY_MAX_MS,
  RESTART_DELAY_MIN_MS,
  restartDelayMs,
  RestartTally,
} from "./restart-backoff.js";
export type { BridgeEndReason } from "./restart-backoff.js";
