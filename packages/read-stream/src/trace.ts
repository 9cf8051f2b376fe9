/**
 * What a stream tells about itself while it works: the events its behaviour is specified in.
 *
 * In PostgreSQL 18's mode the events of a stream depend on the block numbers and on what is cached only, never on how
 * fast the I/O is, which is what makes them fit for tests. They are objects made for the listener: without a listener
 * none is made.
 */
import { READ_FLAG } from "./pool.js";

/** One step. */
export type StreamEvent =
  /** A read was started; with method sync it is executed now, by the wait that ends. */
  | { readonly t: "read"; readonly block: number; readonly n: number }
  /** The block was valid and has been pinned. */
  | { readonly t: "hit"; readonly block: number }
  /** The kernel was advised of a read to come. */
  | { readonly t: "advice"; readonly block: number; readonly n: number }
  /** The read of these blocks was waited for. */
  | { readonly t: "wait"; readonly block: number; readonly n: number }
  /** The block's buffer goes to the caller. */
  | { readonly t: "return"; readonly block: number };

/** Makes events of a core's steps, and remembers for that which block is in which slot. */
export class StreamTracer {
  readonly #listener: (event: StreamEvent) => void;
  readonly #isPoolSynchronous: boolean;
  readonly #blocks: Uint32Array;

  /** @param isPoolSynchronous reads are executed by their waits */
  constructor(listener: (event: StreamEvent) => void, isPoolSynchronous: boolean, queueSize: number) {
    this.#listener = listener;
    this.#isPoolSynchronous = isPoolSynchronous;
    this.#blocks = new Uint32Array(queueSize);
  }

  /** A read of `n` blocks from `slot` on. @param replaces the slot's buffer goes to the caller for it */
  started(slot: number, block: number, n: number, needWait: boolean, flags: number, replaces: boolean): void {
    const blocks = this.#blocks;
    const replaced = blocks[slot] as number;
    for (let index = 0; index < n; index += 1) blocks[(slot + index) % blocks.length] = block + index;
    const listener = this.#listener;
    if (!needWait) listener({ t: "hit", block });
    else if (!this.#isPoolSynchronous) listener({ t: "read", block, n });
    else if ((flags & READ_FLAG.issueAdvice) !== 0) listener({ t: "advice", block, n });
    if (replaces) listener({ t: "return", block: replaced });
  }

  /** The I/O for these blocks has been waited for. */
  waited(block: number, n: number): void {
    const listener = this.#listener;
    if (this.#isPoolSynchronous) listener({ t: "read", block, n });
    listener({ t: "wait", block, n });
  }

  /** The buffer in `slot` goes to the caller. */
  returned(slot: number): void {
    const listener = this.#listener;
    listener({ t: "return", block: this.#blocks[slot] as number });
  }
}
