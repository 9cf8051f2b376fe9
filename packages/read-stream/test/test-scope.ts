/** A scope that owns every pin of a model pool, as a transaction owns those of its backend. */
import type { StreamScope } from "../src/options.js";
import type { ModelPool } from "./model-pool.js";

export class TestScope implements StreamScope {
  readonly #pool: ModelPool;
  readonly #leavesBatch: boolean;
  readonly #hooks: (() => void)[] = [];

  /** @param leavesBatch whether it submits what was staged when it ends, as a transaction does */
  constructor(pool: ModelPool, leavesBatch = true) {
    this.#pool = pool;
    this.#leavesBatch = leavesBatch;
  }

  onEnd(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** Ends after an error: leaves the batch, lets go of every pin, tells those who asked. */
  abort(): void {
    if (this.#leavesBatch && this.#pool.isInBatch) this.#pool.exitBatch();
    this.#pool.pins.clear();
    for (const hook of this.#hooks.reverse()) hook();
  }
}
