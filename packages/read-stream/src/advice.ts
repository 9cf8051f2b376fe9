/**
 * When to advise the kernel of a read to come: after a jump, and from there on until the real reads have caught up with the
 * first block advised.
 *
 * The kernel reads ahead by itself once it sees reads follow each other, and advice would only cost system calls then. With
 * method sync only, where nothing else makes reads overlap. After PostgreSQL 18's seq_blocknum and seq_until_processed.
 */
import { NO_BLOCK } from "./block-source.js";

/** Follows one stream's misses. */
export class AdviceTracker {
  /** The block that would continue the last miss. */
  #seqBlock = NO_BLOCK;
  /** The block whose I/O ends the need for advice; NO_BLOCK if there is none. */
  #seqUntil = NO_BLOCK;

  /** Whether to advise of a read from `block` on, which is about to start. @param isSomethingPinned if not, it is read at once */
  wantsAdvice(block: number, isSomethingPinned: boolean): boolean {
    if (block === this.#seqBlock) return this.#seqUntil !== NO_BLOCK;
    this.#seqUntil = block;
    return isSomethingPinned;
  }

  /** A miss was started; the next one in sequence would begin at `end`. */
  afterMiss(end: number): void {
    this.#seqBlock = end;
  }

  /** The I/O that begins at `block` has been waited for. */
  afterWait(block: number): void {
    if (block === this.#seqUntil) this.#seqUntil = NO_BLOCK;
  }
}
