/**
 * A view of all handles in use, like PostgreSQL's pg_aios, taken without stopping anybody.
 *
 * A row is copied, and then the state word is looked at again: if the generation has moved the handle has another life
 * and the row is dropped; if only the state has, the copy may mix two states and is taken again, a few times at most.
 */
import { HANDLE_STATE, STATE_MASK, stateName, unpackGeneration } from "./handle-state.js";
import type { HandleStateName } from "./handle-state.js";
import { copyTarget } from "./handle-view.js";
import { BACKEND, BACKEND_RECOVERING, HANDLE } from "./layout.js";
import { FLAG, isTransfer, operationName } from "./operations.js";
import type { IoOperation } from "./operations.js";
import type { AioRegistry } from "./registry.js";
import { createIoResult, TARGET_WORDS, unpackResult } from "./result.js";
import type { IoResult } from "./result.js";
import type { ThreadContext } from "./thread-context.js";
import { WAIT_EVENT_NAMES } from "./wait-events.js";

/** A handle in use. What does not apply to its state is null. */
export interface AioRow {
  /** Thread of the owner; null if its slot is empty. */
  readonly threadId: number | null;
  readonly backend: number;
  readonly handle: number;
  readonly generation: number;
  readonly state: HandleStateName;
  readonly operation: IoOperation | null;
  readonly offsetBytes: number | null;
  /** null for a sync. */
  readonly lengthBytes: number | null;
  readonly target: string | null;
  readonly targetDescription: string | null;
  readonly dataLength: number | null;
  /** From COMPLETED_IO on. */
  readonly rawResult: number | null;
  /** From COMPLETED_SHARED on. */
  readonly result: Readonly<IoResult> | null;
  readonly isSynchronous: boolean | null;
  readonly isLocalMemory: boolean | null;
  readonly isBuffered: boolean | null;
}

/** A thread that takes part. */
export interface BackendRow {
  readonly backend: number;
  readonly threadId: number;
  /** What it sleeps for, in PostgreSQL's words; null if it does not. */
  readonly waitEvent: string | null;
  /** Whether it is a dead thread's, whose I/O is being seen to. */
  readonly isRecovering: boolean;
}

/** All backends that are attached. */
export function readBackendRows({ words, layout }: ThreadContext): BackendRow[] {
  const rows: BackendRow[] = [];
  for (let backend = 0; backend < layout.backends; backend++) {
    const at = layout.backendsAt + backend * BACKEND.words;
    const inUse = Atomics.load(words, at + BACKEND.inUse);
    if (inUse === 0) continue;
    const event = WAIT_EVENT_NAMES[words[at + BACKEND.waitEvent] as number] ?? "";
    const threadId = words[at + BACKEND.threadId] as number;
    rows.push({
      backend,
      threadId,
      waitEvent: event === "" ? null : event,
      isRecovering: inUse === BACKEND_RECOVERING,
    });
  }
  return rows;
}

/** How often a row is taken again because its state moved meanwhile. */
const ATTEMPTS_MAX = 8;

/** All handles that are not idle. */
export function readRows(context: ThreadContext, registry: AioRegistry): AioRow[] {
  const rows: AioRow[] = [];
  for (let handle = 0; handle < context.table.count; handle++) {
    const row = readRow(context, registry, handle);
    if (row !== undefined) rows.push(row);
  }
  return rows;
}

function readRow(context: ThreadContext, registry: AioRegistry, handle: number): AioRow | undefined {
  const { table, words } = context;
  const at = table.at(handle);
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const word = Atomics.load(words, at);
    if ((word & STATE_MASK) === HANDLE_STATE.idle) return undefined;
    const row = copyRow(context, registry, handle, word);
    const again = Atomics.load(words, at);
    if (again === word) return row;
    if (again >>> 4 !== word >>> 4) return undefined;
  }
  return undefined;
}

function copyRow(context: ThreadContext, registry: AioRegistry, handle: number, word: number): AioRow {
  const { table, words, layout } = context;
  const at = table.at(handle);
  const state = word & STATE_MASK;
  const backend = words[at + HANDLE.owner] as number;
  const owner = layout.backendsAt + backend * BACKEND.words;
  const head = {
    threadId: words[owner + BACKEND.inUse] === 0 ? null : (words[owner + BACKEND.threadId] as number),
    backend,
    handle,
    generation: unpackGeneration(word, words[at + HANDLE.generationHigh] as number),
    state: stateName(state),
  };
  if (state === HANDLE_STATE.handedOut) return { ...head, ...NOTHING };
  const operation = table.operation(handle);
  const flags = table.flags(handle);
  const target = registry.targetOf(table.targetId(handle));
  const targetWords = new Int32Array(TARGET_WORDS);
  copyTarget(table, handle, targetWords);
  const isShared = state >= HANDLE_STATE.completedShared;
  return {
    ...head,
    operation: operationName(operation) ?? null,
    offsetBytes: table.offsetBytes(handle),
    lengthBytes: isTransfer(operation) ? (words[at + HANDLE.lengthBytes] as number) : null,
    target: target?.name ?? null,
    targetDescription: target?.describe(targetWords) ?? null,
    dataLength: table.dataLength(handle),
    rawResult: state >= HANDLE_STATE.completedIo ? (words[at + HANDLE.rawResult] as number) : null,
    result: isShared ? readResult(words, at) : null,
    isSynchronous: (flags & FLAG.synchronous) !== 0,
    isLocalMemory: (flags & FLAG.referencesLocal) !== 0,
    isBuffered: (flags & FLAG.buffered) !== 0,
  };
}

function readResult(words: Int32Array, at: number): IoResult {
  const packed = words[at + HANDLE.distilled] as number;
  return unpackResult(packed, words[at + HANDLE.distilledResult] as number, createIoResult());
}

const NOTHING = {
  operation: null,
  offsetBytes: null,
  lengthBytes: null,
  target: null,
  targetDescription: null,
  dataLength: null,
  rawResult: null,
  result: null,
  isSynchronous: null,
  isLocalMemory: null,
  isBuffered: null,
} as const;
