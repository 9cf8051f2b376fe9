/**
 * Who streams WAL into one timeline right now: a set of receivers, each held by a guard.
 *
 * Invariant: an entry exists exactly as long as its guard is undisposed. Whoever registers disposes in a `finally`
 * or a `using`, so the count is back at zero after every way out; it decides whether the timeline counts as active
 * and, for WAL readers, whether more WAL can come. A receiver starts as voting and is streaming once its proposer
 * was elected. A receiver without connection id is fed by this node's own recovery and is no compute.
 *
 * After the walreceiver registry and ComputeConnectionGuard of Neon's safekeeper.
 */
import { AcceptorError } from "./errors.js";
import { Watch } from "./watch.js";

/** Receivers allowed per timeline: one proposer needs one, so tens mean a reconnect storm. */
export const RECEIVERS_PER_TIMELINE_MAX = 64;

/** `voting` until the proposer of the connection was elected, `streaming` after. */
export type ReceiverPhase = "voting" | "streaming";

/** One receiver as a status shows it. */
export interface ReceiverState {
  /** Process id given to the connection; `undefined` for this node's own recovery. */
  readonly connectionId: number | undefined;
  readonly phase: ReceiverPhase;
}

/** The receivers of one timeline. */
export class ComputeRegistry {
  readonly #receivers = new Set<ComputeConnectionGuard>();
  readonly #limit: number;
  /** How many computes are connected; wakes its waiters on every change. */
  readonly computes: Watch<number> = new Watch(0);

  constructor(limit: number = RECEIVERS_PER_TIMELINE_MAX) {
    this.#limit = limit;
  }

  /** Receivers of every kind. */
  get size(): number {
    return this.#receivers.size;
  }

  /**
   * Adds a receiver; it stays until the guard is disposed.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_CONNECTION_LIMIT
   */
  register(connectionId: number | undefined): ComputeConnectionGuard {
    if (this.#receivers.size >= this.#limit) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_CONNECTION_LIMIT",
        `too many WAL receivers on this timeline, at most ${this.#limit}`,
      );
    }
    const guard = new ComputeConnectionGuard(connectionId, () => {
      this.#receivers.delete(guard);
      this.#count();
    });
    this.#receivers.add(guard);
    this.#count();
    return guard;
  }

  /** The receivers of this moment, oldest first. */
  list(): readonly ReceiverState[] {
    return [...this.#receivers].map(({ connectionId, phase }) => ({ connectionId, phase }));
  }

  #count(): void {
    let computes = 0;
    for (const receiver of this.#receivers) if (receiver.connectionId !== undefined) computes += 1;
    this.computes.set(computes);
  }
}

/** A place in the registry; disposing gives it up, twice is allowed. */
export class ComputeConnectionGuard implements Disposable {
  readonly connectionId: number | undefined;
  #phase: ReceiverPhase = "voting";
  #unregister: (() => void) | undefined;

  constructor(connectionId: number | undefined, unregister: () => void) {
    this.connectionId = connectionId;
    this.#unregister = unregister;
  }

  get phase(): ReceiverPhase {
    return this.#phase;
  }

  /** Notes that the proposer of this connection was elected. */
  streaming(): void {
    this.#phase = "streaming";
  }

  [Symbol.dispose](): void {
    const unregister = this.#unregister;
    this.#unregister = undefined;
    unregister?.();
  }
}
