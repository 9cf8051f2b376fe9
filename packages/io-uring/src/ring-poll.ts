/**
 * The event loop's interest in a ring: one a ring, ended by stop or with the ring.
 *
 * The poll keeps its loop running by default, as everything in Node that can still call back. An owner with nothing
 * in flight takes that away with unref and gives it back with ref; both cost a call into C, so do it at the change
 * between idle and busy, not for each I/O.
 */
import { UringSystemError } from "./errors.js";
import { errno, errnoName } from "./errno.js";
import type { Native } from "./native.js";

export class RingPoll implements Disposable {
  readonly #native: Native;
  readonly #id: number;
  #isStopped = false;

  constructor(native: Native, id: number, callback: () => void) {
    const result = native.pollStart(id, callback);
    if (result < 0) {
      const why = result === errno("EBUSY") ? "the ring has a poll already" : errnoName(result);
      throw new UringSystemError("ERR_URING_POLL", result, `cannot poll the ring: ${why}`);
    }
    this.#native = native;
    this.#id = id;
  }

  /** Lets the poll keep the event loop running, as it does from the start. */
  ref(): this {
    if (!this.#isStopped) this.#native.pollKeepAlive(this.#id, true);
    return this;
  }

  /** Lets the event loop end although the poll is there. */
  unref(): this {
    if (!this.#isStopped) this.#native.pollKeepAlive(this.#id, false);
    return this;
  }

  /** Ends the poll: no call after this one. Allowed inside the callback, and twice. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#native.pollStop(this.#id);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
