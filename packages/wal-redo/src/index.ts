/**
 * The public face of @millrace/wal-redo: PostgreSQL's redo of single pages as functions, and the masks under which two
 * states of a page are the same.
 */
export { applyBlock, needsBase, redoBlock } from "./apply.js";
export type { RedoOutcome } from "./apply.js";
export type { RedoEnvironment } from "./replay.js";
export { applyMapEffect, implicitEffects } from "./implicit-effects.js";
export type { MapEffect } from "./implicit-effects.js";
export { applySlruEffect, SLRU_PAGES_PER_SEGMENT, slruEffects } from "./slru-effects.js";
export type { SlruEffect, SlruName, SlruPageEffect, SlruRemoval } from "./slru-effects.js";
export { transactionEnd } from "./transaction-end.js";
export type { DroppedRelation, TransactionEnd } from "./transaction-end.js";
export { Page } from "./page.js";
export type { AddMode } from "./page.js";
export { maskPage } from "./mask.js";
export { RedoManager } from "./redo-manager.js";
export type { RedoProcessEvent, RedoStatus } from "./redo-manager.js";
export type { RedoEngine, RedoManagerOptions } from "./redo-options.js";
export type { PageKey, PageModification, RedoPurpose, RedoRequest } from "./redo-request.js";
export type { KillCause, RedoWorkerState } from "./redo-worker.js";
export type { RedoClock, Timer } from "./clock.js";
export type { StderrLine } from "./stderr-lines.js";
export type { RedoDialect } from "./wire.js";
export { RMGR } from "./rmgr.js";
export { RedoError } from "./errors.js";
export type { RedoErrorCode, RedoPlace } from "./errors.js";
