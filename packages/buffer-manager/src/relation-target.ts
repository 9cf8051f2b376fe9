/**
 * The target "relation": blocks of a fork, in eight words that any thread understands.
 *
 * Words: tablespace, database, relation, fork, first block, blocks, and the owner of a temporary relation + 1, 0 for others.
 */
import type { BlockRange, Target } from "@millrace/aio";

import { relationPath } from "./relation-path.js";
import type { Fork, Relation } from "./tag.js";

export const RELATION_WORDS = {
  tablespace: 0,
  database: 1,
  relation: 2,
  fork: 3,
  block: 4,
  blocks: 5,
  owner: 6,
  count: 7,
} as const;

/** Fills the words. */
export function fillRelationTarget(
  target: Int32Array,
  relation: Relation,
  fork: Fork,
  block: number,
  blocks: number,
): void {
  target[RELATION_WORDS.tablespace] = relation.tablespace;
  target[RELATION_WORDS.database] = relation.database;
  target[RELATION_WORDS.relation] = relation.relation;
  target[RELATION_WORDS.fork] = fork;
  target[RELATION_WORDS.block] = block;
  target[RELATION_WORDS.blocks] = blocks;
  target[RELATION_WORDS.owner] = relation.persistence === "temporary" ? (relation.owner ?? 0) + 1 : 0;
}

function word(target: Int32Array, index: number): number {
  return (target[index] ?? 0) >>> 0;
}

/** The relation of a target. */
export function targetRelation(target: Int32Array): Relation {
  const owner = word(target, RELATION_WORDS.owner);
  return {
    tablespace: word(target, RELATION_WORDS.tablespace),
    database: word(target, RELATION_WORDS.database),
    relation: word(target, RELATION_WORDS.relation),
    ...(owner === 0 ? {} : { persistence: "temporary" as const, owner: owner - 1 }),
  };
}

/** The fork of a target. */
export function targetFork(target: Int32Array): Fork {
  return word(target, RELATION_WORDS.fork) as Fork;
}

/** The first block of a target, and how many there are. */
export function targetBlocks(target: Int32Array): { block: number; blocks: number } {
  return { block: word(target, RELATION_WORDS.block), blocks: word(target, RELATION_WORDS.blocks) };
}

/** A relation's name in messages of a thread that has no files: PostgreSQL's path of it. */
export function targetName(target: Int32Array): string {
  return relationPath(targetRelation(target), targetFork(target), "PG");
}

/** What a message about a read or write of blocks says. */
export function targetRange(target: Int32Array): BlockRange {
  return { file: `relation "${targetName(target)}"`, ...targetBlocks(target) };
}

/** Blocks of a relation. A thread of the same process needs no more than the lease. */
export const relationTarget: Target = {
  name: "relation",
  describe(target) {
    const { block, blocks } = targetBlocks(target);
    const what = blocks === 1 ? `block ${block}` : `blocks ${block}..${block + blocks - 1}`;
    return `${what} of relation "${targetName(target)}"`;
  },
  reopen: (_io, lease) => lease,
};
