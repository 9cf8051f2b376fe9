/**
 * A control store in memory, for tests and the simulator.
 *
 * Atomic like the one on disk, and a crash in the middle of `persist` leaves the old or the new state, as the
 * injected random number says. After `crash` the object is dead and a new one is made from `durable`.
 */
import type { ControlStore } from "./control-store.js";
import { AcceptorError } from "./errors.js";
import { sameState } from "./persistent-state.js";
import type { PersistentState } from "./persistent-state.js";

/** How the store behaves besides storing. */
export interface MemoryControlStoreOptions {
  /**
   * Runs before a state becomes durable: delay it, or throw to make `persist` reject with a storage error. A crash
   * while it runs may keep either state.
   */
  readonly beforePersist?: (next: PersistentState) => Promise<void> | void;
}

/** Control store of a simulated node. */
export class MemoryControlStore implements ControlStore {
  readonly #beforePersist: ((next: PersistentState) => Promise<void> | void) | undefined;
  #durable: PersistentState;
  #pending: PersistentState | undefined;
  #crashed = false;
  #persists = 0;

  constructor(state: PersistentState, options: MemoryControlStoreOptions = {}) {
    this.#durable = state;
    this.#beforePersist = options.beforePersist;
  }

  /** What a restart finds. */
  get durable(): PersistentState {
    return this.#durable;
  }

  /** How many times a changed state was made durable. */
  get persists(): number {
    return this.#persists;
  }

  get(): PersistentState {
    return this.#durable;
  }

  async persist(next: PersistentState): Promise<void> {
    if (this.#crashed) throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the node has crashed");
    if (sameState(next, this.#durable)) return;
    this.#pending = next;
    try {
      await this.#beforePersist?.(next);
    } finally {
      this.#pending = undefined;
    }
    // A crash in between has decided already which state is durable.
    if (this.#isCrashed()) throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the node has crashed");
    this.#durable = next;
    this.#persists += 1;
  }

  /**
   * Stops the store as a power cut would.
   *
   * @param random gives numbers in [0, 1); asked once if a `persist` is under way: below 0.5 the new state survives
   */
  crash(random: () => number): void {
    if (this.#crashed) return;
    this.#crashed = true;
    if (this.#pending !== undefined && random() < 0.5) this.#durable = this.#pending;
  }

  #isCrashed(): boolean {
    return this.#crashed;
  }
}

/** A control store that starts out with `state` as its durable content. */
export function createMemoryControlStore(
  state: PersistentState,
  options?: MemoryControlStoreOptions,
): MemoryControlStore {
  return new MemoryControlStore(state, options);
}
