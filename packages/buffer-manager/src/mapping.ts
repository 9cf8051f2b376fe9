/**
 * The mapping table: which buffer holds a block.
 *
 * Buckets and chains of buffer numbers in the pool's words; what is compared are the descriptors' tags, so that an entry is a
 * single word. A bucket belongs to one of 128 partitions, whose mutex is needed to change its chain. There is at most one
 * entry a buffer, as a victim's old one is gone before it gets a new one: no entry is ever allocated.
 *
 * Finding a block takes no lock. A reader walks the chain, pins what has the tag and compares again under the pin, which
 * keeps the tag from changing. If the chain changes meanwhile the reader may end up in another one and find nothing; a miss
 * is therefore believed only when it was seen under the mutex. A pin that turns out to be on the wrong buffer is given
 * back at once; it costs a victim search a retry, nothing else. PostgreSQL takes a shared lock of the partition instead, which here
 * would cost more than everything else in a hit.
 *
 * A tag and its entry appear and vanish under the mutex; the tag itself changes under the header lock as well.
 */
import assert from "node:assert/strict";

import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE, USAGE_ONE } from "./buffer-state.js";
import { DESCRIPTOR, LINE_WORDS, PARTITIONS } from "./layout.js";
import type { BufferHeaders } from "./headers.js";
import { STEPS_MAX, STRAYED } from "./hit-module.js";
import type { HitCalls } from "./hit-module.js";
import type { Pins } from "./pins.js";
import { hashTag, hashTagWords, isPermanent } from "./tag.js";
import type { Fork, Relation } from "./tag.js";

const NONE = -1;
/** What `HitCalls.pin` returns below this is a buffer that turned out to hold another block. */
const STRAYED_MAX: number = -(2 ** 30);

/** What the table needs of its backend. */
export type MappingContext = Pick<BackendContext, "words" | "layout" | "headers" | "pins"> & {
  readonly hitCalls?: HitCalls;
};

/** The mapping table as one backend uses it. */
export class MappingTable {
  /** Whether the page that the last `lookupAndPin` or `pinLocked` found is valid. */
  isValid = false;
  readonly #words: Int32Array;
  readonly #headers: BufferHeaders;
  readonly #pins: Pins;
  readonly #bucketsAt: number;
  readonly #bucketMask: number;
  readonly #chainAt: number;
  readonly #descriptorsAt: number;
  readonly #partitionsAt: number;
  readonly #calls: HitCalls | undefined;

  constructor({ words, layout, headers, pins, hitCalls }: MappingContext) {
    this.#words = words;
    this.#headers = headers;
    this.#pins = pins;
    this.#bucketsAt = layout.bucketsAt;
    this.#bucketMask = layout.bucketMask;
    this.#chainAt = layout.chainAt;
    this.#descriptorsAt = layout.descriptorsAt;
    this.#partitionsAt = layout.partitionsAt;
    this.#calls = hitCalls;
  }

  /**
   * Pins the buffer of a block, without a lock. `isValid` says whether the page is.
   *
   * @param isRing see {@link BufferHeaders.pin}
   * @returns its index; -1 if there is none, which is certain only under the mutex
   */
  lookupAndPin(relation: Relation, fork: Fork, block: number, isRing: boolean): number {
    if (this.#calls !== undefined) {
      const { tablespace, database, relation: number } = relation;
      const entry = this.#calls.pin(tablespace, database, number, fork, block, isRing ? 1 : 0);
      if (entry > 0) {
        this.isValid = true;
        return entry - 1;
      }
      if (entry < 0) return this.adopt(entry);
    }
    const buffer = this.lookup(relation, fork, block);
    if (buffer < 0) return NONE;
    this.isValid = this.#pins.pin(buffer, isRing);
    if (this.#headers.hasTag(buffer, relation, fork, block)) return buffer;
    this.#pins.unpin(buffer);
    return NONE;
  }

  /**
   * Takes over what {@link HitCalls.pin} has pinned and is no valid page of the block. `isValid` says it is not.
   *
   * @param entry what it returned, less than 0
   * @returns the buffer; -1 if it is another block's, which has been let go of again
   */
  adopt(entry: number): number {
    const isStrayed = entry < STRAYED_MAX;
    const buffer = (isStrayed ? entry - STRAYED : -entry) - 1;
    this.isValid = false;
    if (!isStrayed) return buffer;
    this.#pins.unpin(buffer);
    return NONE;
  }

  /** The buffer of a block; -1 if there is none. A guess without the mutex: by the time it is used it may hold another. */
  lookup(relation: Relation, fork: Fork, block: number): number {
    const words = this.#words;
    const blockWord = block | 0;
    const relationWord = relation.relation | 0;
    const bucket = hashTag(relation, fork, block) & this.#bucketMask;
    let entry = words[this.#bucketsAt + bucket] as number;
    for (let step = 0; entry !== 0 && step < STEPS_MAX; step++) {
      const at = this.#descriptorsAt + (entry - 1) * DESCRIPTOR.words;
      if (
        words[at + DESCRIPTOR.block] === blockWord &&
        words[at + DESCRIPTOR.relation] === relationWord &&
        words[at + DESCRIPTOR.fork] === fork &&
        words[at + DESCRIPTOR.database] === (relation.database | 0) &&
        words[at + DESCRIPTOR.tablespace] === (relation.tablespace | 0)
      ) {
        return entry - 1;
      }
      entry = words[this.#chainAt + entry - 1] as number;
    }
    return NONE;
  }

  /** Pins what `find` found, under the mutex. `isValid` says whether the page is. */
  pinLocked(buffer: number, isRing: boolean): void {
    this.isValid = this.#pins.pin(buffer, isRing);
  }

  /** The bucket of a block. */
  bucketOf(relation: Relation, fork: Fork, block: number): number {
    return hashTag(relation, fork, block) & this.#bucketMask;
  }

  /** The bucket of a buffer's tag, which the caller keeps from changing. */
  bucketOfBuffer(buffer: number): number {
    return hashTagWords(this.#words, this.#headers.at(buffer)) & this.#bucketMask;
  }

  /** The mutex of a bucket's partition. */
  mutexOf(bucket: number): number {
    return this.#partitionsAt + (bucket & (PARTITIONS - 1)) * LINE_WORDS;
  }

  /** The buffer of a block; -1 if there is none. Under the mutex, so that it is certain. */
  find(bucket: number, relation: Relation, fork: Fork, block: number): number {
    let entry = this.#words[this.#bucketsAt + bucket] as number;
    while (entry !== 0) {
      if (this.#headers.hasTag(entry - 1, relation, fork, block)) return entry - 1;
      entry = this.#words[this.#chainAt + entry - 1] as number;
    }
    return NONE;
  }

  /**
   * Gives a buffer without a tag to a block. Under the mutex; the caller has found that the block has none, and has pinned
   * the buffer. The page is not valid yet, its usage count is one.
   */
  insert(bucket: number, relation: Relation, fork: Fork, block: number, buffer: number): void {
    const words = this.#words;
    const headers = this.#headers;
    const state = headers.lock(buffer);
    headers.setTag(buffer, relation, fork, block);
    const permanent = isPermanent(relation, fork) ? STATE.permanent : 0;
    headers.unlock(buffer, (state & REFCOUNT_MASK) | USAGE_ONE | STATE.tagValid | permanent);
    const bucketAt = this.#bucketsAt + bucket;
    words[this.#chainAt + buffer] = words[bucketAt] as number;
    Atomics.store(words, bucketAt, buffer + 1);
  }

  /**
   * Takes a buffer's tag away and its entry with it. Under the mutex and the header lock, which it gives back.
   *
   * @param bucket of the buffer's tag
   * @param pins what the reference count is
   */
  remove(bucket: number, buffer: number, pins: number): void {
    this.#unlink(bucket, buffer);
    this.#headers.clearTag(buffer);
    this.#headers.unlock(buffer, pins);
  }

  /** The buffer's own link stays: a reader that stands on it finds its way on. */
  #unlink(bucket: number, buffer: number): void {
    const words = this.#words;
    let at = this.#bucketsAt + bucket;
    while (words[at] !== buffer + 1) {
      const entry = words[at] as number;
      assert.notEqual(entry, 0, "a buffer with a tag is not in its chain");
      at = this.#chainAt + entry - 1;
    }
    Atomics.store(words, at, words[this.#chainAt + buffer] as number);
  }
}
