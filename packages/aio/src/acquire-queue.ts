/**
 * Taking handles on the event loop: several flows of one thread at a time, each in its turn.
 *
 * At most one handle of a backend is handed out. A flow that has awaited its handle defines it a step later, and others may
 * run in between; they wait until it has, instead of being told that they broke a rule. A turn begins when the one before it
 * has got its handle or an error, so nobody is overtaken. PostgreSQL has no model for this: a process there has one flow.
 */
import type { IoHandle } from "./io-handle.js";
import type { OwnHandles } from "./own-handles.js";

/** The turns of one backend. */
export class AcquireQueue {
  readonly #own: OwnHandles;
  /** Settled when the last call so far has had its turn; never rejected. */
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(own: OwnHandles) {
    this.#own = own;
  }

  /**
   * Takes a handle, at once if one is idle and nobody waits.
   *
   * @param attempt takes a handle if one is idle; what it throws ends the turn
   * @param untilIdle resolves when it is worth another attempt
   */
  async acquire(attempt: () => IoHandle | undefined, untilIdle: () => Promise<void>): Promise<IoHandle> {
    if (this.#waiting === 0 && this.#own.handedOut < 0) {
      const handle = attempt();
      if (handle !== undefined) return handle;
    }
    this.#waiting += 1;
    const turn = this.#last.then(async () => this.#take(attempt, untilIdle));
    this.#last = turn.catch(() => undefined);
    return turn.finally(() => {
      this.#waiting -= 1;
    });
  }

  async #take(attempt: () => IoHandle | undefined, untilIdle: () => Promise<void>): Promise<IoHandle> {
    for (;;) {
      if (this.#own.handedOut >= 0) {
        await this.#own.untilNoneIsOut();
        continue;
      }
      const handle = attempt();
      if (handle !== undefined) return handle;
      await untilIdle();
    }
  }
}
