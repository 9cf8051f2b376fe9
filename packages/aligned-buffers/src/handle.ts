/**
 * What all handles of a buffer have in common: each owns one reference to an allocation until it gives it away, once.
 *
 * TypeScript has no linear types, so the rule is checked when it matters: whoever uses a handle after its buffer moved
 * gets an error that names the move. Disposing is the exception, it may be repeated, so that `using` and an explicit
 * move go together.
 */
import type { Allocation } from "./allocation.js";
import { UseAfterMoveError } from "./errors.js";
import type { MovedBy } from "./errors.js";
import type { LeakReport } from "./leak-tracker.js";
import type { MemorySegment } from "./memory-segment.js";

/** Invariant: a handle that was not moved has exactly one of its allocation's references. */
export abstract class Handle {
  #allocation: Allocation | undefined;
  #movedBy: MovedBy = "dispose";
  #movedAt: string | undefined;

  /** Takes over a reference. */
  constructor(allocation: Allocation, kind: LeakReport["handle"]) {
    this.#allocation = allocation;
    allocation.home.tracker?.watch(this, kind, allocation.byteOffset, allocation.capacity);
  }

  /** The segment the bytes are in. */
  get segment(): MemorySegment {
    return this.owned().home.segment;
  }

  /** @throws {UseAfterMoveError} ERR_BUFFER_MOVED */
  protected owned(): Allocation {
    if (this.#allocation === undefined) throw new UseAfterMoveError(this.#movedBy, this.#movedAt);
    return this.#allocation;
  }

  /**
   * Ends this handle and passes its reference to the caller.
   *
   * @throws {UseAfterMoveError} ERR_BUFFER_MOVED: it was ended before
   */
  protected hand(movedBy: MovedBy): Allocation {
    const allocation = this.owned();
    this.#allocation = undefined;
    this.#movedBy = movedBy;
    this.#movedAt = allocation.home.tracker?.forget(this);
    return allocation;
  }

  /** Ends this handle and drops its reference, if it still has one. */
  protected drop(): void {
    if (this.#allocation !== undefined) this.hand("dispose").release();
  }
}
