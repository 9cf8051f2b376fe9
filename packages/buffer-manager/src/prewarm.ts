/**
 * Warming a relation: its blocks are read before anybody asks for them, into the kernel's cache or into the pool.
 *
 * "prefetch" only advises the kernel, and is over at once. "read" reads past the pool, and so warms the kernel's cache for
 * certain. "buffer" reads into the pool, and may throw other pages out. Several reads are in flight, as many as maintenance work
 * may have, each of as many neighbours as one I/O takes. After pg_prewarm of PostgreSQL 18.
 */
import { createIoReturn } from "@millrace/aio";
import type { IoReturn, WaitRef } from "@millrace/aio";

import type { BackendParts } from "./backend-parts.js";
import { BufferError } from "./errors.js";
import { BACKEND } from "./layout.js";
import type { ScratchRun } from "./page-writer.js";
import { ReadOperation } from "./read-operation.js";
import { readFailure } from "./read-result.js";
import { PAGE_BYTES } from "./settings.js";
import { FORK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import { acquireHandle } from "./waiting.js";
import type { Waiting } from "./waiting.js";

/** Where blocks are read to: nowhere for certain, the kernel's cache, the pool. */
export type PrewarmMode = "prefetch" | "read" | "buffer";

/** Which blocks are warmed, and how. */
export interface PrewarmOptions {
  /** "buffer" unless given. */
  readonly mode?: PrewarmMode;
  /** The main fork unless given. */
  readonly fork?: Fork;
  /** The first block, and the last one; those of the fork unless given. */
  readonly first?: number;
  readonly last?: number;
}

/** Blocks of one advice: 128 KiB. Linux cuts what is longer to the device's read-ahead, which is that or more. */
const ADVICE_BLOCKS = 16;
/** Advices after which an event loop gets its turn, each of some microseconds. */
const ADVICES_A_TURN = 64;

/** A read past the pool that is in flight. */
interface Flight {
  readonly block: number;
  readonly count: number;
  readonly slot: IoReturn;
  readonly ref: WaitRef;
}

/** A fork that is warmed, from a block up to another one. */
interface Range {
  readonly relation: Relation;
  readonly fork: Fork;
  readonly first: number;
  readonly end: number;
  readonly isBlocking: boolean;
}

/** Warms relations for one backend. */
export class Prewarmer {
  readonly #parts: BackendParts;

  constructor(parts: BackendParts) {
    this.#parts = parts;
  }

  /**
   * Warms a range of blocks.
   *
   * @param isBlocking the caller sleeps until it is done
   * @returns blocks of the range, those that were there already among them
   * @throws {RangeError} a block that the fork does not have
   * @throws {BufferError} ERR_BUFFER_FILE: no such fork; ERR_BUFFER_NO_ADVICE: "prefetch" where the kernel cannot be advised;
   *   ERR_BUFFER_READ_FAILED, ERR_BUFFER_SHORT_READ; in the mode "buffer" what reading a page throws. Nothing stays pinned
   *   then, and no read is in flight
   */
  *warm(relation: Relation, options: PrewarmOptions, isBlocking: boolean): Waiting<number> {
    const { mode = "buffer", fork = FORK.main } = options;
    const { files } = this.#parts.context;
    const blocks = files.blocks(relation, fork);
    const first = checkBlock(options.first, 0, blocks);
    const end = checkBlock(options.last, blocks - 1, blocks) + 1;
    const range = { relation, fork, first, end, isBlocking };
    if (end <= first) return 0;
    if (mode === "prefetch") yield* this.#prefetch(range);
    else if (mode === "read") yield* this.#read(range);
    else yield* this.#buffer(range);
    return end - first;
  }

  *#prefetch({ relation, fork, first, end, isBlocking }: Range): Waiting<void> {
    const { context, pages } = this.#parts;
    const { files, words, at } = context;
    if (!files.canAdvise) {
      const why = files.isDirect ? "with direct I/O" : "without the native part";
      throw new BufferError("ERR_BUFFER_NO_ADVICE", `the kernel cannot be advised to prefetch ${why}`);
    }
    let advices = 0;
    for (let block = first; block < end;) {
      if (pages.isCached(relation, fork, block)) {
        block += 1;
        continue;
      }
      const most = Math.min(end - block, ADVICE_BLOCKS);
      let count = 1;
      while (count < most && !pages.isCached(relation, fork, block + count)) count += 1;
      files.advise(relation, fork, block, count);
      block += count;
      advices += 1;
      if (isBlocking || advices % ADVICES_A_TURN !== 0) continue;
      const value = Atomics.load(words, at + BACKEND.wake);
      yield { kind: "word", at: at + BACKEND.wake, value, event: "BufferIo", timeoutMs: 1 };
    }
  }

  /** What arrives is looked at by nobody, so that all reads may go to the same frames. */
  *#read(range: Range): Waiting<void> {
    const { writer, session, context } = this.#parts;
    const depth = this.#depth(range);
    const scratch = yield* writer.takeScratch(session.combineLimit);
    const flights: Flight[] = [];
    try {
      for (let block = range.first; block < range.end || flights.length > 0;) {
        if (block < range.end && flights.length < depth) {
          const count = Math.min(scratch.count, range.end - block, context.files.runMax(block));
          flights.push(yield* this.#startRead(range, scratch, block, count));
          block += count;
          continue;
        }
        const flight = flights.shift() as Flight;
        const arrived = yield* this.#finishRead(range, flight);
        const left = flight.count - arrived;
        if (left > 0) flights.unshift(yield* this.#startRead(range, scratch, flight.block + arrived, left));
      }
    } finally {
      for (const flight of flights) yield* this.#await(flight);
      writer.giveScratch(scratch);
    }
  }

  *#startRead(
    { relation, fork }: Range,
    { frame }: ScratchRun,
    block: number,
    count: number,
  ): Waiting<Flight> {
    const { aio, ioScope, files, frames } = this.#parts.context;
    const slot = createIoReturn();
    const handle = yield* acquireHandle(aio, ioScope, slot);
    const ref = handle.ref();
    const vector = {
      segment: frames.segmentIndexOf(frame),
      offsetBytes: frames.byteOffsetOf(frame),
      lengthBytes: count * PAGE_BYTES,
    };
    try {
      files.startRead(handle, relation, fork, block, [vector], count);
    } catch (error) {
      // A handle that was started is no longer to be released, and whoever threw after that has stopped the system.
      handle.release();
      throw error;
    }
    return { block, count, slot, ref };
  }

  *#await({ slot, ref }: Flight): Waiting<void> {
    const { aio } = this.#parts.context;
    while (slot.result.status === "unknown" && !aio.done(ref)) yield { kind: "io", ref };
  }

  /** @returns blocks that have arrived: one at least */
  *#finishRead({ relation, fork }: Range, flight: Flight): Waiting<number> {
    yield* this.#await(flight);
    const { slot } = flight;
    if (slot.result.status === "error") throw readFailure(this.#parts.context, { relation, fork, slot });
    return slot.result.result;
  }

  *#buffer(range: Range): Waiting<void> {
    const { context, reader } = this.#parts;
    const { aio } = context;
    const depth = this.#depth(range);
    const flights: ReadOperation[] = [];
    const isBatched = range.isBlocking && !aio.isInBatch;
    let next = new ReadOperation(range.relation, range.fork, null);
    next.begin(new Int32Array(this.#parts.session.combineLimit), 0, range.first, 0, 0);
    if (isBatched) aio.enterBatch();
    try {
      while (next.block < range.end || flights.length > 0) {
        const isRoom = flights.length === 0 || (flights.length < depth && this.#room(range) > 0);
        if (next.block < range.end && isRoom) {
          const operation = next;
          next = yield* this.#startBuffers(range, operation);
          flights.push(operation);
          continue;
        }
        const [operation] = flights as [ReadOperation];
        if (operation.needWait) yield* reader.wait(operation);
        flights.shift();
        this.#unpin(operation);
      }
    } catch (error) {
      for (const operation of flights) yield* this.#settle(operation);
      throw error;
    } finally {
      for (const operation of [...flights, next]) this.#unpin(operation);
      if (isBatched && aio.isInBatch) aio.exitBatch();
    }
  }

  /** Waits for a read whose outcome nobody asks for any more. */
  *#settle(operation: ReadOperation): Waiting<void> {
    try {
      if (operation.needWait) yield* this.#parts.reader.wait(operation);
    } catch {
      // The failure that ended the warming is the one that is told.
    }
  }

  /** Starts the next read. @returns the one after it, with the buffers that were pinned and are not covered */
  *#startBuffers({ relation, fork, end }: Range, operation: ReadOperation): Waiting<ReadOperation> {
    const { reader } = this.#parts;
    const { buffers, block } = operation;
    const known = buffers.findIndex((buffer) => buffer === 0);
    const pinned = known < 0 ? buffers.length : known;
    const most = Math.max(pinned, 1, this.#room({ relation }));
    const wanted = Math.min(buffers.length, end - block, most);
    const count = yield* reader.start(operation.begin(buffers, 0, block, wanted, 0));
    const following = new ReadOperation(relation, fork, null);
    const rest = new Int32Array(buffers.length);
    rest.set(buffers.subarray(count));
    buffers.fill(0, count);
    return following.begin(rest, 0, block + count, 0, 0);
  }

  /** Reads in flight at most. */
  #depth({ relation }: Range): number {
    return Math.max(1, this.#parts.session.concurrencyOf(relation.tablespace, true));
  }

  /** Pins that this backend should add at most. */
  #room({ relation }: Pick<Range, "relation">): number {
    return relation.persistence === "temporary"
      ? this.#parts.local.additionalPins
      : this.#parts.additionalPins;
  }

  #unpin({ buffers }: ReadOperation): void {
    const { local, context } = this.#parts;
    for (const [index, buffer] of buffers.entries()) {
      if (buffer > 0) context.pins.unpin(buffer - 1);
      else if (buffer < 0) local.unpin(-1 - buffer);
      buffers[index] = 0;
    }
  }
}

function checkBlock(block: number | undefined, otherwise: number, blocks: number): number {
  if (block === undefined) return otherwise;
  if (Number.isInteger(block) && block >= 0 && block < blocks) return block;
  throw new RangeError(`the fork has ${blocks} blocks, and none has the number ${block}`);
}
