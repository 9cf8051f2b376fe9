/**
 * A shutdown barrier: those inside hold guards, and closing waits until the last guard is released.
 *
 * From the first moment of `close` nobody gets in and no guard is cloned, although the close still waits: the
 * number of holders can only fall then, and the wait ends. The gate never cancels anybody; holders watch a signal
 * of their own. Releasing twice counts once.
 *
 * Idea: the Gate of Neon's pageserver and safekeeper. Different: it does not log who is late, it shows the count.
 */
import { DuplexError, GateClosedError } from "./errors.js";

/** Being inside. Dispose it on every way out: `using guard = gate.enter()`. */
export interface GateGuard extends Disposable {
  /**
   * A second, independent guard, for work that outlives the holder.
   *
   * @throws {GateClosedError} ERR_GATE_CLOSED: closing has begun
   * @throws {DuplexError} ERR_GATE_RELEASED: this guard was released
   */
  clone(): GateGuard;
  /** Leaves. A second call does nothing. Same as disposing. */
  release(): void;
}

/** Invariant: `holders` is the number of guards that were handed out and not released. */
export class Gate {
  #holders = 0;
  #closed: Promise<void> | undefined;
  #finish: (() => void) | undefined;

  /**
   * Goes in.
   *
   * @throws {GateClosedError} ERR_GATE_CLOSED: `close` was called
   */
  enter(): GateGuard {
    if (this.#closed !== undefined) throw new GateClosedError();
    this.#holders += 1;
    return new Guard(this, () => {
      this.#holders -= 1;
      if (this.#holders === 0) this.#finish?.();
    });
  }

  /** Shuts the gate and waits for everybody inside. May be called again at any time: every call gets the same end. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      if (this.#holders === 0) resolve();
      else this.#finish = resolve;
    });
    return this.#closed;
  }

  /** `close` was called. */
  get closing(): boolean {
    return this.#closed !== undefined;
  }

  /** `close` was called and nobody is inside. */
  get closed(): boolean {
    return this.#closed !== undefined && this.#holders === 0;
  }

  /** Guards not released yet. */
  get holders(): number {
    return this.#holders;
  }
}

class Guard implements GateGuard {
  readonly #gate: Gate;
  #leave: (() => void) | undefined;

  constructor(gate: Gate, leave: () => void) {
    this.#gate = gate;
    this.#leave = leave;
  }

  clone(): GateGuard {
    if (this.#leave === undefined)
      throw new DuplexError("ERR_GATE_RELEASED", "guard was released before clone");
    return this.#gate.enter();
  }

  release(): void {
    const leave = this.#leave;
    this.#leave = undefined;
    leave?.();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
