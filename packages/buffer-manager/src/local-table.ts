/**
 * Which of a backend's local buffers holds a block: a hash table in private memory, chains of buffer numbers.
 *
 * The same shape as the shared table (a bucket each two buffers, one link a buffer, at most one entry a buffer), without its
 * locks: one thread only. Tags are kept here, five words each.
 */
import { hashTag, hashTagWords, INVALID_BLOCK, TAG_WORDS } from "./tag.js";
import type { Fork, Relation, Tag } from "./tag.js";

/** Maps blocks to buffers from 0. */
export class LocalTable {
  readonly #buckets: Int32Array;
  readonly #chain: Int32Array;
  readonly #tags: Int32Array;
  readonly #mask: number;

  /** @param size buffers there are */
  constructor(size: number) {
    const buckets = 2 ** Math.ceil(Math.log2(size * 2));
    this.#buckets = new Int32Array(buckets);
    this.#chain = new Int32Array(size);
    this.#tags = new Int32Array(size * TAG_WORDS);
    this.#mask = buckets - 1;
    for (let buffer = 0; buffer < size; buffer++) this.#tags[buffer * TAG_WORDS + 4] = INVALID_BLOCK | 0;
  }

  /** The buffer of a block; -1 if there is none. */
  find(relation: Relation, fork: Fork, block: number): number {
    let entry = this.#buckets[hashTag(relation, fork, block) & this.#mask] as number;
    while (entry !== 0 && !this.hasTag(entry - 1, relation, fork, block))
      entry = this.#chain[entry - 1] as number;
    return entry - 1;
  }

  /** Gives a buffer without a tag to a block that has no buffer. */
  insert(buffer: number, relation: Relation, fork: Fork, block: number): void {
    const at = buffer * TAG_WORDS;
    this.#tags[at] = relation.tablespace | 0;
    this.#tags[at + 1] = relation.database | 0;
    this.#tags[at + 2] = relation.relation | 0;
    this.#tags[at + 3] = fork;
    this.#tags[at + 4] = block | 0;
    const bucket = hashTagWords(this.#tags, at) & this.#mask;
    this.#chain[buffer] = this.#buckets[bucket] as number;
    this.#buckets[bucket] = buffer + 1;
  }

  /** Takes a buffer's tag away. */
  remove(buffer: number): void {
    const at = buffer * TAG_WORDS;
    const bucket = hashTagWords(this.#tags, at) & this.#mask;
    let before = 0;
    let entry = this.#buckets[bucket] as number;
    while (entry !== buffer + 1) {
      before = entry;
      entry = this.#chain[entry - 1] as number;
    }
    const next = this.#chain[buffer] as number;
    if (before === 0) this.#buckets[bucket] = next;
    else this.#chain[before - 1] = next;
    this.#tags.fill(0, at, at + TAG_WORDS);
    this.#tags[at + 4] = INVALID_BLOCK | 0;
  }

  hasTag(buffer: number, relation: Relation, fork: Fork, block: number): boolean {
    const at = buffer * TAG_WORDS;
    const tags = this.#tags;
    return (
      tags[at + 4] === (block | 0) &&
      tags[at + 2] === (relation.relation | 0) &&
      tags[at + 3] === fork &&
      tags[at + 1] === (relation.database | 0) &&
      tags[at] === (relation.tablespace | 0)
    );
  }

  isOfRelation(buffer: number, relation: Relation): boolean {
    const at = buffer * TAG_WORDS;
    const tags = this.#tags;
    return (
      tags[at + 2] === (relation.relation | 0) &&
      tags[at + 1] === (relation.database | 0) &&
      tags[at] === (relation.tablespace | 0)
    );
  }

  /** A copy of a buffer's tag. */
  tag(buffer: number): Tag {
    const [tablespace = 0, database = 0, relation = 0, fork = 0, block = 0] = this.#tags.subarray(
      buffer * TAG_WORDS,
      (buffer + 1) * TAG_WORDS,
    );
    return {
      tablespace: tablespace >>> 0,
      database: database >>> 0,
      relation: relation >>> 0,
      fork: fork as Fork,
      block: block >>> 0,
    };
  }
}
