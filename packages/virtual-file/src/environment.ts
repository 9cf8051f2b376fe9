/**
 * What files share: the engine, memory it can reach, the descriptor cache, and the rules of direct I/O here.
 *
 * One environment serves any number of files of one thread. It owns nothing: whoever made the parts closes them, after all
 * files are closed.
 */
import type { AlignedArena } from "@millrace/aligned-buffers";
import type { FdCache } from "./fd-cache.js";
import type { FileEngine } from "./file-engine.js";
import type { IoMode } from "./open-flags.js";

/** Alignment that every block device so far accepts, bytes. */
const ALIGNMENT_DEFAULT = 4096;

/** The parts that files are made of. */
export interface FileEnvironment {
  readonly engine: FileEngine;
  /** Memory that the engine can do I/O on. */
  readonly arena: AlignedArena;
  readonly descriptors: FdCache;
  /** What direct I/O must be multiples of, bytes: a power of two; 4096 by default, `probeAlignment` finds it out. */
  readonly alignment?: number;
  /** Which files are direct; "direct-rw" by default: all that do not say "off". */
  readonly ioMode?: IoMode;
  /** "unsafe-none": `sync` does nothing, for tests that need no durability; "real" by default. */
  readonly sync?: "real" | "unsafe-none";
}

/** The environment's alignment. */
export function alignmentOf({ alignment = ALIGNMENT_DEFAULT }: FileEnvironment): number {
  if (!Number.isInteger(alignment) || alignment < 1 || (alignment & (alignment - 1)) !== 0)
    throw new RangeError(`not an alignment: ${String(alignment)}`);
  return alignment;
}
