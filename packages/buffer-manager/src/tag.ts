/**
 * Tags: which block of which relation fork a buffer holds, as objects at the border and as five words inside.
 *
 * Object identifiers and block numbers are unsigned 32-bit in PostgreSQL. The words are signed, because comparing words
 * above 2^31 costs twice as much as unsigned ones; `>>> 0` turns them back at the border.
 */

/** The forks of a relation, by PostgreSQL's numbers. */
export const FORK = { main: 0, fsm: 1, vm: 2, init: 3 } as const;

/** The number of a fork. */
export type Fork = (typeof FORK)[keyof typeof FORK];

/** Forks there are. */
export const FORKS = 4;

/**
 * What becomes of a relation in a crash. "permanent": its changes are in the WAL, which must be durable before its pages
 * are written. "unlogged": emptied, from its init fork. "temporary": one backend's own, gone with it.
 */
export type Persistence = "permanent" | "unlogged" | "temporary";

/** A relation, as PostgreSQL's files name it. Numbers are unsigned 32-bit. */
export interface Relation {
  readonly tablespace: number;
  /** 0 for the relations that all databases share. */
  readonly database: number;
  /** The relation's file number. */
  readonly relation: number;
  /** "permanent" unless said otherwise. */
  readonly persistence?: Persistence;
  /** The backend whose temporary relation it is. */
  readonly owner?: number;
}

/** A block of a relation. */
export interface Tag {
  readonly tablespace: number;
  readonly database: number;
  readonly relation: number;
  readonly fork: Fork;
  /** From 0; unsigned 32-bit, but not {@link INVALID_BLOCK}. */
  readonly block: number;
}

/** The block of a tag that names nothing. */
export const INVALID_BLOCK = 0xffff_ffff;
/** Words of a tag: tablespace, database, relation, fork, block. */
export const TAG_WORDS = 5;

/** Whether WAL must be durable before a page of this fork is written. */
export function isPermanent(relation: Relation, fork: Fork): boolean {
  const persistence = relation.persistence ?? "permanent";
  return persistence === "permanent" || (persistence === "unlogged" && fork === FORK.init);
}

/**
 * The constants of a tag's hash: odd numbers with their bits well mixed, and how far sums are shifted onto themselves.
 * WebAssembly computes the same (hit-module.ts).
 */
export const HASH = {
  relation: 0x9e37_79b1,
  database: 0x85eb_ca6b,
  tablespace: 0xc2b2_ae35,
  block: 0x2c1b_3c6d,
  forkShift: 29,
  fold: 15,
} as const;

/**
 * A hash of a tag: a signed 32-bit integer, of which the low bits are used.
 *
 * The block goes in last, times an odd number: neighbouring blocks of a relation never meet in the low bits.
 */
export function hashTag(relation: Relation, fork: number, block: number): number {
  return mix(relation.tablespace, relation.database, relation.relation, fork, block);
}

/** The same of five words. */
export function hashTagWords(words: Int32Array, at: number): number {
  return mix(
    words[at] as number,
    words[at + 1] as number,
    words[at + 2] as number,
    words[at + 3] as number,
    words[at + 4] as number,
  );
}

function mix(tablespace: number, database: number, relation: number, fork: number, block: number): number {
  let hash = Math.imul(relation ^ (fork << HASH.forkShift), HASH.relation);
  hash ^= Math.imul(database, HASH.database) ^ Math.imul(tablespace, HASH.tablespace);
  hash = Math.imul(hash ^ (hash >>> HASH.fold) ^ block, HASH.block);
  return hash ^ (hash >>> HASH.fold);
}
