/**
 * Extents: victims that lie side by side, so that a combined read fills one piece of memory instead of sixteen.
 *
 * A read that is about to need many buffers says how many. The first victim it takes that is not its ring's own then brings a
 * whole aligned run of unused buffers along, pinned; the following victims come from the run, in order, and what is left of
 * it is let go of when the read has its buffers: nothing had been done to those. A ring that was filled so stays
 * contiguous as long as it keeps its buffers, because its slots are used in order.
 *
 * Only what nobody uses is taken: not pinned, usage count zero, clean. While there are free buffers the run is of free
 * ones. The search looks at a bounded number of runs without changing anything; where it finds none, single victims are taken as
 * ever, and the next searches are left out. PostgreSQL reads into scattered buffers.
 */
import { REFCOUNT_MASK, STATE, USAGE_MASK } from "./buffer-state.js";
import { hasFree } from "./free-list.js";
import type { BufferHeaders } from "./headers.js";
import { HEADER } from "./layout.js";
import type { Pins } from "./pins.js";

/** Smallest and largest run: 128 and 256 KiB, where devices and huge pages have got all there is to get. */
const RUN_MIN = 16;
const RUN_MAX = 32;
/** A read of fewer blocks is not worth a run. */
const WANTED_MIN = 8;
/** Runs looked at in a search. Nearly all are given up at their first buffers. */
const RUNS_LOOKED_AT = 64;
/** Searches left out after one that found nothing. */
const SEARCHES_SKIPPED = 16;
const NONE = -1;

/** What makes a buffer unfit for a run. */
const IN_USE: number = REFCOUNT_MASK | USAGE_MASK | STATE.locked | STATE.dirty | STATE.ioInProgress;

/** The runs of one backend. */
export class Extents {
  readonly #headers: BufferHeaders;
  readonly #pins: Pins;
  readonly #runBuffers: number;
  /** Buffers that the read under way still needs. */
  #wanted = 0;
  /** The run at hand: its next buffer, and how many are left. */
  #next = 0;
  #left = 0;
  /** Where the next search begins. */
  #position: number;
  #skip = 0;

  /**
   * @param combineLimit most blocks of a read
   * @param start where the first search begins, from 0 up to 1: different for each backend
   */
  constructor(headers: BufferHeaders, pins: Pins, combineLimit: number, start: number) {
    this.#headers = headers;
    this.#pins = pins;
    this.#runBuffers = combineLimit > RUN_MIN ? RUN_MAX : RUN_MIN;
    this.#position = Math.floor(this.#runs * start);
  }

  get #runs(): number {
    return Math.floor((this.#headers.words[HEADER.low] as number) / this.#runBuffers);
  }

  /** A read begins that needs so many buffers at most. */
  begin(wanted: number): void {
    this.#wanted = wanted;
  }

  /** The read has its buffers: what is left of the run is let go of. */
  end(): void {
    this.#wanted = 0;
    while (this.#left > 0) this.#pins.unpin(this.#takeNext());
  }

  /** The next buffer of the run, or the first of a new one. @returns pinned, as it was selected; -1 for none */
  take(): number {
    if (this.#left === 0 && !this.#reserve()) return NONE;
    this.#wanted -= 1;
    return this.#takeNext();
  }

  #takeNext(): number {
    this.#left -= 1;
    this.#next += 1;
    return this.#next - 1;
  }

  #reserve(): boolean {
    if (this.#wanted < WANTED_MIN) return false;
    if (this.#skip > 0) {
      this.#skip -= 1;
      return false;
    }
    const runs = this.#runs;
    // Pages that are in nobody's way stay as long as there is room.
    const unfit = hasFree(this.#headers.words, this.#headers.layout) ? IN_USE | STATE.tagValid : IN_USE;
    for (let looked = Math.min(RUNS_LOOKED_AT, runs); looked > 0; looked--) {
      const run = this.#position % runs;
      this.#position = run + 1;
      if (this.#tryPin(run * this.#runBuffers, unfit)) return true;
    }
    this.#skip = SEARCHES_SKIPPED;
    return false;
  }

  #tryPin(first: number, unfit: number): boolean {
    const headers = this.#headers;
    const end = first + this.#runBuffers;
    for (let buffer = first; buffer < end; buffer++) if ((headers.state(buffer) & unfit) !== 0) return false;
    for (let buffer = first; buffer < end; buffer++) {
      const state = headers.lock(buffer);
      if ((state & unfit & ~STATE.locked) === 0) {
        this.#pins.pinLocked(buffer, state);
        continue;
      }
      headers.unlock(buffer, state);
      for (let pinned = first; pinned < buffer; pinned++) this.#pins.unpin(pinned);
      return false;
    }
    this.#next = first;
    this.#left = this.#runBuffers;
    return true;
  }
}
