/**
 * What the extension of a relation comes to, and what shared and temporary relations have in common in it.
 */
import { BufferError } from "./errors.js";
import type { FileLayer } from "./file-layer.js";
import type { ReadMode } from "./page-reader.js";
import type { Ring } from "./ring.js";
import { INVALID_BLOCK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";

/** Blocks that extending to a size adds at a time. */
export const EXTEND_CHUNK = 64;
/** Blocks a fork can have: the last number is that of no block, and PostgreSQL leaves the one before it alone, too. */
export const BLOCKS_MAX: number = INVALID_BLOCK - 1;

/** How a relation is extended. A temporary one has no rings and no locks, and ignores what is said about them. */
export interface ExtendOptions {
  /** The main fork unless said otherwise. */
  readonly fork?: Fork;
  readonly ring?: Ring | null;
  /** Whether the first new page is returned locked exclusively. */
  readonly lockFirst?: boolean;
  /** Make the fork if there is none. */
  readonly createFork?: boolean;
  /** The caller sees to it that nobody else extends the relation. */
  readonly skipLock?: boolean;
}

/** How a relation is extended to a size. */
export interface ExtendToOptions extends Omit<ExtendOptions, "lockFirst"> {
  /**
   * How the last page is returned: as a read in this mode would, "normal" unless said otherwise. A page that is new is zeros,
   * and locked exclusively if the mode is one that locks; one that is there already is read.
   */
  readonly mode?: ReadMode;
}

/** What extending came to. */
export interface Extension {
  /** The first new block; where the fork ended. */
  readonly first: number;
  /** The buffers of the new blocks, each pinned; fewer than asked for if pins are short. */
  readonly buffers: number[];
}

/** One extension: so many blocks, and what is special about it. */
export interface ExtensionWish extends ExtendOptions {
  readonly count: number;
  /** Never beyond so many blocks. */
  readonly upTo?: number;
  /** Whether the block before `upTo` is returned locked exclusively. */
  readonly lockTarget?: boolean;
}

/** Blocks of a fork; 0 for one that is not there and is to be made. */
export function forkSize(
  files: FileLayer,
  relation: Relation,
  fork: Fork,
  { createFork = false }: ExtendOptions,
): number {
  if (createFork && !files.exists(relation, fork)) return 0;
  return files.blocks(relation, fork);
}

/** A fork of so many blocks cannot have as many more as are wanted. */
export function tooLong(blocks: number): BufferError {
  const message = `a fork of ${blocks} blocks cannot be extended beyond ${BLOCKS_MAX} blocks`;
  return new BufferError("ERR_BUFFER_MAX_BLOCKS", message);
}

/** A block to extend by has a page that is not empty, as if the file had become shorter behind the pool's back. */
export function beyondEnd(files: FileLayer, relation: Relation, fork: Fork, block: number): BufferError {
  const file = files.fileName(relation, fork, block);
  const message = `there is data in block ${block} of "${file}", which is beyond the end of the file`;
  return new BufferError("ERR_BUFFER_BEYOND_EOF_DATA", message);
}
