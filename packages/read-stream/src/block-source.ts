/**
 * Where block numbers come from: the caller's callback, with room for one number that was asked for too early.
 *
 * A number has to be put back when the read before it could not be started. The record that came with it stays where it
 * is, since the slot it was written to is the one the block will have.
 */
import assert from "node:assert/strict";
import type { NextBlock } from "./options.js";

/** No block: the end from a callback, "empty" in a variable. */
export const NO_BLOCK = -1;
/** PostgreSQL's InvalidBlockNumber, which no block has. */
const BLOCK_LIMIT = 0xffff_ffff;

/** A callback and one block put back. */
export class BlockSource<T> {
  readonly #callback: NextBlock<T>;
  #putBack = NO_BLOCK;

  constructor(callback: NextBlock<T>) {
    this.#callback = callback;
  }

  /** The block that was put back, or the callback's next one. @throws {RangeError} if that is not a block number */
  take(record: T | undefined): number {
    const putBack = this.#putBack;
    if (putBack !== NO_BLOCK) {
      this.#putBack = NO_BLOCK;
      return putBack;
    }
    const callback = this.#callback;
    const block = callback(record);
    if (block !== NO_BLOCK && (block >>> 0 !== block || block === BLOCK_LIMIT))
      throw new RangeError(`the callback gave ${block}, which is neither a block number nor -1`);
    return block;
  }

  /** Will be given again. */
  putBack(block: number): void {
    if (this.#putBack !== NO_BLOCK) assert.fail("two blocks put back");
    this.#putBack = block;
  }

  /** Forgets what was put back. */
  clear(): void {
    this.#putBack = NO_BLOCK;
  }
}
