/**
 * The numbers behind settings: how many handles a backend gets, how many blocks one I/O may move.
 *
 * The formulas are PostgreSQL 18's, so that an operator's knowledge of `io_max_concurrency` and `io_combine_limit`
 * carries over.
 */
import { COMBINE_MAX, CONCURRENCY_MAX } from "./layout.js";

/** Slots PostgreSQL adds for its auxiliary processes when it divides buffers among backends. */
const AUXILIARY_BACKENDS = 38;
/** Handles of a backend when computed automatically, at most. */
const AUTO_CONCURRENCY_MAX = 64;

/**
 * Handles of each backend for a pool of some buffers: the pool's share of one backend, from 1 to 64.
 *
 * @throws {RangeError} a count is not a positive integer
 */
export function autoConcurrency(buffers: number, backends: number): number {
  for (const count of [buffers, backends]) {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`not a count: ${count}`);
  }
  const share = Math.floor(buffers / (backends + AUXILIARY_BACKENDS));
  return Math.min(AUTO_CONCURRENCY_MAX, Math.max(1, share));
}

/** @throws {RangeError} not 1..1024; 0 is not "unlimited" */
export function checkConcurrency(concurrency: number): number {
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > CONCURRENCY_MAX) {
    throw new RangeError(`from 1 to ${CONCURRENCY_MAX} handles for each backend, not ${concurrency}`);
  }
  return concurrency;
}

/** The combine limit of a session: what was asked for, and what has effect. */
export class CombineLimit {
  readonly #max: number;
  #asked: number;

  /** @param max the system's, 1..128, in blocks; @throws {RangeError} */
  constructor(max: number, asked: number = max) {
    this.#max = checkCombine(max);
    this.#asked = checkCombine(asked);
  }

  /** As it was asked for. */
  get asked(): number {
    return this.#asked;
  }

  /** What counts: not more than the system's. */
  get effective(): number {
    return Math.min(this.#asked, this.#max);
  }

  /** @throws {RangeError} not 1..128 */
  set(blocks: number): void {
    this.#asked = checkCombine(blocks);
  }
}

/** @throws {RangeError} not 1..128 */
export function checkCombine(blocks: number): number {
  if (!Number.isInteger(blocks) || blocks < 1 || blocks > COMBINE_MAX) {
    throw new RangeError(`from 1 to ${COMBINE_MAX} blocks, not ${blocks}`);
  }
  return blocks;
}
