/**
 * Checkpoints: every page that is dirty when one begins is written, by it or by whoever comes first.
 *
 * First all such pages are marked and sorted; what gets dirty later is not this checkpoint's business. Then those that still
 * carry the mark are written (sorted-writes.ts), with pauses as checkpoint-pace.ts wants them. A page that is dirtied while it
 * is written keeps its mark and may be written twice, never not at all. If a write fails the checkpoint fails; the marks that
 * are left do no harm, the next one sets them anyway. At the end every fork that anybody has written to is synced. After
 * BufferSync and ProcessSyncRequests of PostgreSQL 18.
 */
import { STATE } from "./buffer-state.js";
import { CheckpointList } from "./checkpoint-list.js";
import { CHECKPOINT_PAUSE_MS, CheckpointPace } from "./checkpoint-pace.js";
import { BACKEND, HEADER } from "./layout.js";
import { listBuffer, SortedWrites } from "./sorted-writes.js";
import type { WriteParts } from "./sorted-writes.js";
import type { Waiting } from "./waiting.js";
import { WRITE_BACK_AFTER, WriteBack } from "./write-back.js";

/** How a checkpoint goes. */
export interface CheckpointOptions {
  /**
   * Which pages are written: "permanent" ones, those of relations that survive a crash, or "all", as when the pool is shut
   * down. "permanent" unless said otherwise.
   */
  readonly pages?: "permanent" | "all";
  /** Without pauses. */
  readonly isImmediate?: boolean;
  /** Asked before each pause: whether to go on without any. */
  readonly isUrgent?: () => boolean;
  /** See `CheckpointPaceOptions`. */
  readonly target?: number;
  readonly timeoutMs?: number;
  readonly walBytes?: number;
  /** End of the WAL in bytes, so that pauses end when it is written fast. */
  readonly walPosition?: () => bigint;
  /** Whether files are synced at the end; they are unless this is false. */
  readonly sync?: boolean;
  /** Pages after which the kernel is asked to write back: 32 unless said otherwise, 0 for never. */
  readonly flushAfter?: number;
  /** Milliseconds, from any start; the process's clock unless given. */
  readonly now?: () => number;
}

/** What a checkpoint did. */
export interface CheckpointReport {
  /** Pages that were dirty when it began. */
  readonly marked: number;
  /** Pages that it wrote itself. */
  readonly written: number;
  /** Writes that took. */
  readonly writes: number;
  readonly pauses: number;
  /** Forks that were synced: those that anybody has written to since they were last. */
  readonly syncs: number;
}

/** A delayed checkpoint looks again after this time, in case the thread that delays it is gone. */
const DELAY_LOOK_MS = 10;

/**
 * Runs a checkpoint.
 *
 * The caller holds no content lock.
 *
 * @throws {BufferError} ERR_BUFFER_WRITE: a page could not be written; the checkpoint has not happened; ERR_BUFFER_POISONED: a
 *   sync failed
 */
export function* checkpoint(parts: WriteParts, options: CheckpointOptions = {}): Waiting<CheckpointReport> {
  const { files, counters, words, at } = parts.context;
  const { isImmediate = false, isUrgent = () => false, now = () => performance.now() } = options;
  const pace = new CheckpointPace({ ...options, now });
  const writeBack = new WriteBack(files, counters, options.flushAfter ?? WRITE_BACK_AFTER.checkpoint);
  yield* awaitHints(parts);
  const list = markPages(parts, options.pages === "all" ? STATE.dirty : STATE.dirty | STATE.permanent);
  const writes = new SortedWrites(parts, list, STATE.checkpointNeeded, writeBack);
  let pauses = 0;
  // Once for each page, as PostgreSQL does. Writes in flight end first: nobody need wait for them during the pause.
  yield* writes.run(function* (progress, pages) {
    for (let page = 0; page < pages; page++) {
      if (isImmediate || isUrgent() || !pace.isAhead(progress)) return;
      yield* writes.drain();
      pauses += 1;
      const value = Atomics.load(words, at + BACKEND.wake);
      const timeoutMs = CHECKPOINT_PAUSE_MS;
      yield { kind: "word", at: at + BACKEND.wake, value, event: "CheckpointWriteDelay", timeoutMs };
    }
  });
  const syncs = options.sync === false ? 0 : yield* parts.writer.syncs.syncAll();
  return { marked: list.count, written: writes.written, writes: writes.writes, pauses, syncs };
}

/** Waits for hints that have been logged and whose pages are not marked dirty yet. */
function* awaitHints({ context: { words, layout } }: WriteParts): Waiting<void> {
  for (let backend = 0; backend < layout.backends; backend++) {
    const first = layout.backendsAt + backend * layout.backendWords;
    const at = first + BACKEND.delayCheckpoint;
    while (Atomics.load(words, first + BACKEND.inUse) !== 0 && Atomics.load(words, at) !== 0) {
      yield { kind: "word", at, value: 1, event: "CheckpointWriteDelay", timeoutMs: DELAY_LOOK_MS };
    }
  }
}

/** Marks the pages that are dirty now. @param mask flags that a page must have, all of them */
function markPages({ context }: WriteParts, mask: number): CheckpointList {
  const { headers, words } = context;
  const list = new CheckpointList();
  const buffers = words[HEADER.high] as number;
  for (let buffer = 0; buffer < buffers; buffer++) {
    // Without the lock: whatever was dirty when the checkpoint began is seen as such by an atomic load.
    if ((headers.state(buffer) & mask) !== mask) continue;
    const state = headers.lock(buffer);
    const isWanted = (state & mask) === mask;
    if (isWanted) listBuffer(context, list, buffer);
    headers.unlock(buffer, isWanted ? state | STATE.checkpointNeeded : state);
  }
  list.sort();
  return list;
}
