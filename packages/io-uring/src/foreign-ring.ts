/**
 * Somebody else's ring: reaping and waiting from a thread that did not create it.
 *
 * All of it happens in C on the mapping the owner made. The caller makes sure that only one thread at a time reaps a
 * ring, the owner included, with a lock of its own in shared memory; no lock here would be of use, as the owner reaps
 * without a call. An object holds nothing but the id, so there is nothing to close, and a ring that its owner has
 * closed answers -EBADF.
 */
import { UringError } from "./errors.js";
import { errno } from "./errno.js";
import { faultCompletions } from "./faults.js";
import { nativeOrNone, nativeOrThrow } from "./native.js";
import type { Native } from "./native.js";

const CQE_WORDS = 4;
const EBADF = errno("EBADF");

export class ForeignRing {
  readonly id: number;
  readonly #native: Native;

  private constructor(native: Native, id: number) {
    this.#native = native;
    this.id = id;
  }

  /**
   * Finds a ring of this process by its id.
   *
   * @throws {UringError} ERR_URING_NOT_FOUND; ERR_URING_UNAVAILABLE
   */
  static attach(id: number): ForeignRing {
    const native = nativeOrThrow();
    if (!Number.isInteger(id) || native.foreignReady(id) < 0)
      throw new UringError("ERR_URING_NOT_FOUND", `no ring has the id ${id}`);
    return new ForeignRing(native, id);
  }

  /** Completions that can be reaped now, or -EBADF. */
  get ready(): number {
    return this.#native.foreignReady(this.id);
  }

  /** Whether the thread that created the ring has ended without closing it. */
  get isOrphan(): boolean {
    return this.#native.foreignIsOrphan(this.id) === 1;
  }

  /** Whether the ring is gone. */
  get isClosed(): boolean {
    return this.#native.foreignIsOrphan(this.id) === EBADF;
  }

  /** As Ring.reap; -EBADF if the ring is gone. */
  reap(out: Int32Array, max: number): number {
    if (!(out instanceof Int32Array)) throw new TypeError("out is not an Int32Array");
    if (!Number.isInteger(max) || max < 0 || out.length < max * CQE_WORDS)
      throw new RangeError(`max: ${max}, room: ${out.length} words`);
    const count = this.#native.foreignReap(this.id, out, max);
    if (count > 0) faultCompletions(out, count);
    return count;
  }

  /** As Ring.peek; -EBADF if the ring is gone. */
  peek(out: Int32Array, max: number): number {
    if (!(out instanceof Int32Array)) throw new TypeError("out is not an Int32Array");
    if (!Number.isInteger(max) || max < 0 || out.length < max * CQE_WORDS)
      throw new RangeError(`max: ${max}, room: ${out.length} words`);
    const count = this.#native.foreignPeek(this.id, out, max);
    if (count > 0) faultCompletions(out, count);
    return count;
  }

  /** As Ring.advance, but returns 0, -EINVAL if there are not as many completions, or -EBADF if the ring is gone. */
  advance(count: number): number {
    if (!Number.isInteger(count) || count < 0) throw new RangeError(`count: ${count}`);
    return this.#native.foreignAdvance(this.id, count);
  }

  /**
   * Requests that the kernel has taken and not completed; -EBADF if the ring is gone. With the ring's thread gone and
   * nothing ready, 0 says that the kernel has let go of all memory.
   */
  get inKernel(): number {
    return this.#native.foreignInKernel(this.id);
  }

  /**
   * Blocks the thread until `minComplete` completions can be reaped, those that are there already included. Wait only
   * for what is in flight and cannot be reaped by another thread meanwhile, or it blocks forever.
   *
   * @returns 0 or a negative errno; -EBADF if the ring is gone
   */
  wait(minComplete: number): number {
    if (!Number.isInteger(minComplete) || minComplete < 0)
      throw new RangeError(`minComplete: ${minComplete}`);
    return this.#native.foreignWait(this.id, minComplete);
  }

  /**
   * Closes a ring whose thread is gone. Drain it first: nothing may be in flight.
   *
   * @returns 0; -EBUSY while the owner lives; -EBADF if the ring is gone
   */
  closeOrphan(): number {
    return this.#native.foreignCloseOrphan(this.id);
  }
}

/** Ids of all rings whose threads have ended without closing them. Empty without the native part. */
export function orphanedRings(): number[] {
  const native = nativeOrNone();
  if (native === undefined) return [];
  let ids = new Int32Array(16);
  let count = native.orphans(ids);
  while (count > ids.length) {
    ids = new Int32Array(count);
    count = native.orphans(ids);
  }
  return Array.from(ids.subarray(0, count));
}
