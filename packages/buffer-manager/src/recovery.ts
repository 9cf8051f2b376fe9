/**
 * What a thread leaves behind that ended without leaving the pool: `worker.terminate()`, an uncaught error.
 *
 * PostgreSQL restarts the server when a backend dies in shared memory. Here each thread says in its own words what it is about
 * to do, so that nearly everything can be undone:
 *
 * | left behind                            | what becomes of it                                                        |
 * | -------------------------------------- | ------------------------------------------------------------------------- |
 * | a header lock, a mapping partition     | the change that it protected is finished or taken back, then it is freed  |
 * | the strategy, an extension lock        | the free list is put in order, then it is freed                           |
 * | an I/O that is staged or in flight     | completed or cancelled by asynchronous I/O's own recovery                 |
 * | an I/O lock without an I/O             | given back as after a failed I/O: the page stays valid or dirty if it was |
 * | shared content locks, pins             | given back; one that may or may not have been taken is found by counting  |
 * | a content lock being taken or let go   | given back: the page was whole at that moment                             |
 * | an exclusive content lock              | the page may be half changed: the pool stops, ERR_BUFFER_PANIC            |
 * | a pin or lock that cannot be counted   | others use that buffer without a pause for a second: the pool stops       |
 * | its wait for an only pin, its requests | withdrawn; a resize that it ran is taken back                             |
 * | a sync of a file                       | somebody else's: what was written to the fork counts as not synced        |
 *
 * What a backend counted is kept. Whoever may have lost a wake-up to the death is woken, and looks again.
 */
import { STATE } from "./buffer-state.js";
import { dropOrphanedIo, endIoOf } from "./recovery-io.js";
import { releaseContentLocks } from "./recovery-locks.js";
import { findLockedHeader, releaseMutexes } from "./recovery-mapping.js";
import { releasePins, settlePins } from "./recovery-pins.js";
import { BufferHeaders } from "./headers.js";
import { foldStatistics } from "./io-statistics.js";
import { BACKEND, BACKEND_RECOVERING, DESCRIPTOR, HEADER, STRATEGY } from "./layout.js";
import type { PoolView } from "./pool-core.js";
import { panicPool } from "./pool-core.js";
import type { RecoveryContext } from "./recovery-context.js";
import { restoreSizes } from "./resize-sizes.js";
import { releaseSyncs } from "./sync-requests.js";
import { wakeAll } from "./wake-all.js";

/** Pause between two looks at what another thread is about to change. */
const LOOK_AGAIN_MS = 1;
/** Holder number of the supervisor where a lock wants one; backends are below 256. */
const SUPERVISOR_ID = 2000;

/** What a recovery needs of the pool. */
export type RecoveryView = Pick<PoolView, "words" | "doubles" | "layout">;

/** Recovers the backends of dead threads, one thread after the other. Lives with the pool. */
export class PoolRecovery {
  readonly #view: RecoveryView;
  readonly #headers: BufferHeaders;
  readonly #recoverIo: (threadId: number) => Promise<void>;
  readonly #pause: () => Promise<void>;
  #last: Promise<void> = Promise.resolve();

  /**
   * @param recoverIo has asynchronous I/O recover what the thread left of it
   * @param pause lets others run; a millisecond unless given
   */
  constructor(
    view: RecoveryView,
    recoverIo: (threadId: number) => Promise<void>,
    pause: () => Promise<void> = () => new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS)),
  ) {
    this.#view = view;
    this.#headers = new BufferHeaders(view.words, view.layout, -1, false);
    this.#recoverIo = recoverIo;
    this.#pause = pause;
  }

  /**
   * Recovers every backend that a thread left. Resolves when their places are free; the pool may have stopped by then.
   *
   * @throws what recovering its I/O throws; the pool has stopped then
   */
  async recoverThread(threadId: number): Promise<void> {
    const { words, layout } = this.#view;
    const dead: RecoveryContext[] = [];
    for (let id = 0; id < layout.backends; id++) {
      const at = layout.backendsAt + id * layout.backendWords;
      const mine = threadId + 1;
      if (Atomics.compareExchange(words, at + BACKEND.inUse, mine, BACKEND_RECOVERING) !== mine) continue;
      dead.push({ words, layout, headers: this.#headers, id, at, pause: this.#pause });
    }
    const turn = this.#last.then(() => this.#recoverAll(threadId, dead));
    this.#last = turn.catch(() => undefined);
    await turn;
  }

  async #recoverAll(threadId: number, dead: readonly RecoveryContext[]): Promise<void> {
    const { words, layout } = this.#view;
    try {
      // First what completions of I/O may need.
      for (const context of dead) releaseMutexes(context, await findLockedHeader(context));
      await this.#recoverIo(threadId);
      for (const context of dead) await this.#recover(context);
    } catch (error) {
      panicPool(words, layout);
      throw error;
    }
    wakeAll(words, layout);
  }

  async #recover(context: RecoveryContext): Promise<void> {
    const { words, layout, id, at } = context;
    if (!(await this.#repair(context))) panicPool(words, layout);
    foldStatistics(this.#view, id, SUPERVISOR_ID, false);
    words.fill(0, at + 1, at + layout.backendWords);
    Atomics.store(words, at + BACKEND.inUse, 0);
  }

  /** @returns false if something cannot be repaired */
  async #repair(context: RecoveryContext): Promise<boolean> {
    const { words, layout, id, at } = context;
    const doubtful = new Set<number>();
    for (const intent of [BACKEND.pinIntent, BACKEND.headerIntent]) {
      const buffer = Math.abs(words[at + intent] as number) - 1;
      if (buffer >= 0) doubtful.add(buffer);
    }
    endIoOf(context);
    for (const buffer of await dropOrphanedIo(context)) doubtful.add(buffer);
    const isReleased = await releaseContentLocks(context);
    withdrawWaiter(context);
    releasePins(context, doubtful);
    const isSettled = await settlePins(context, doubtful);
    releaseSyncs(words, layout, id);
    const strategy = layout.strategyAt + STRATEGY.bgwriter;
    Atomics.compareExchange(words, strategy, id + 1, 0);
    Atomics.compareExchange(words, HEADER.backgroundWriter, id + 1, 0);
    Atomics.compareExchange(words, HEADER.backgroundWriterStop, id + 1, 0);
    if (words[HEADER.resizer] === id + 1) restoreSizes(words, layout, SUPERVISOR_ID);
    return isReleased && isSettled;
  }
}

/** Takes back the dead backend's wish to be told when it has the only pin. */
function withdrawWaiter({ words, layout, headers, id }: RecoveryContext): void {
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    const waiterAt = headers.at(buffer) + DESCRIPTOR.pinWaiter;
    if (words[waiterAt] !== id + 1) continue;
    const state = headers.lock(buffer);
    const isHis = words[waiterAt] === id + 1;
    if (isHis) words[waiterAt] = 0;
    headers.unlock(buffer, isHis ? state & ~STATE.pinCountWaiter : state);
  }
}
