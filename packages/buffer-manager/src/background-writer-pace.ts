/**
 * How much the background writer cleans: a bit more than is about to be allocated, just ahead of the clock hand.
 *
 * It keeps a place of its own, ahead of the hand and at most a lap, and two moving averages: how many buffers the hand passes
 * for each allocation, and how many allocations there are a round. From them follow how many of the buffers between hand and
 * place are reusable already, and how many the next round will need. A rise in allocations counts at once, a fall slowly;
 * whatever happens, the whole pool is passed in two minutes.
 *
 * This is BgBufferSync of PostgreSQL 18, decision by decision: averages are C floats there, and so each step is rounded to
 * float32 here. What is done to a buffer, and that it may fail, is the shell's business.
 */
import assert from "node:assert/strict";

const { fround } = Math;

/** Rounds that the averages look back. */
const SMOOTHING = 16;
/** In so many milliseconds the whole pool is looked at, even if nothing is allocated. */
const WHOLE_POOL_MS = 120_000;
/** Buffers that the hand is taken to pass for an allocation before anything is known. */
const DENSITY_FIRST = 10;

/** Defaults, and limits that PostgreSQL sets. */
export const BACKGROUND_WRITER = {
  delayMs: 200,
  delayMsMin: 10,
  delayMsMax: 10_000,
  pagesMax: 100,
  multiplier: 2,
  multiplierMax: 10,
} as const;

/** Settings of a background writer. */
export interface BackgroundWriterPaceOptions {
  /** Between two rounds: 200 unless said otherwise, 10 to 10000. */
  readonly delayMs?: number;
  /** Most pages written in a round: 100 unless said otherwise; 0: none are. */
  readonly pagesMax?: number;
  /** How many times what the averages foresee is made ready: 2 unless said otherwise, 0 to 10. */
  readonly multiplier?: number;
}

/** What was found of a buffer. */
export type BufferVerdict = "written" | "reusable" | "busy";

/** Decides, round by round. */
export class BackgroundWriterPace {
  readonly delayMs: number;
  readonly #multiplier: number;
  #pagesMax: number;
  #isValid = false;
  #buffers = 0;
  #hand = 0;
  #passes = 0;
  #next = 0;
  #nextPasses = 0;
  #allocations = 0;
  #density = DENSITY_FIRST;
  // Of the round that runs.
  #lap = 0;
  #left = 0;
  #estimate = 0;
  #reusable = 0;
  #need = 0;
  #written = 0;
  #hitMax = 0;
  #recent = 0;

  /** @throws {RangeError} a setting is out of its range */
  constructor(options: BackgroundWriterPaceOptions = {}) {
    const { delayMs = BACKGROUND_WRITER.delayMs, multiplier = BACKGROUND_WRITER.multiplier } = options;
    const { delayMsMin, delayMsMax, multiplierMax } = BACKGROUND_WRITER;
    if (!(delayMs >= delayMsMin && delayMs <= delayMsMax)) {
      throw new RangeError(`delayMs: from ${delayMsMin} to ${delayMsMax}, not ${delayMs}`);
    }
    if (!(multiplier >= 0 && multiplier <= multiplierMax)) {
      throw new RangeError(`multiplier: from 0 to ${multiplierMax}, not ${multiplier}`);
    }
    this.delayMs = delayMs;
    this.#multiplier = multiplier;
    this.#pagesMax = checkPages(options.pagesMax ?? BACKGROUND_WRITER.pagesMax);
  }

  /** Most pages written in a round. May be changed between two rounds. */
  get pagesMax(): number {
    return this.#pagesMax;
  }

  set pagesMax(pages: number) {
    this.#pagesMax = checkPages(pages);
  }

  /** Rounds that ended because they had written as much as they may. */
  get hitMax(): number {
    return this.#hitMax;
  }

  /** Buffers looked at in the round that runs, or ran last. */
  get scanned(): number {
    return this.#lap - this.#left;
  }

  /** Pages written in it. */
  get written(): number {
    return this.#written;
  }

  /** Forgets where hand and place were, as after a change of the pool's size. The averages stay. */
  forget(): void {
    this.#isValid = false;
  }

  /**
   * Begins a round.
   *
   * @param hand position of the clock hand, below `buffers`   @param passes its whole passes, as uint32 or int32
   * @param allocations since the last round   @param buffers that allocation looks at
   */
  begin(hand: number, passes: number, allocations: number, buffers: number): void {
    this.#lap = this.#left = this.#written = 0;
    this.#recent = allocations;
    if (this.#pagesMax === 0) {
      this.forget();
      return;
    }
    if (buffers !== this.#buffers) this.forget();
    this.#buffers = buffers;
    const moved = this.#follow(hand, passes | 0);
    if (moved > 0 && allocations > 0) this.#smoothDensity(moved, allocations);
    this.#estimate = Math.trunc(fround(fround(buffers - this.#lap) / this.#density));
    this.#reusable = this.#estimate;
    this.#need = Math.max(this.#foresee(allocations), this.#leastScan() + this.#estimate);
  }

  /** The next buffer to be looked at in this round; -1 at its end. Its verdict is given before the next call. */
  get next(): number {
    return this.#left > 0 && this.#reusable < this.#need ? this.#next : -1;
  }

  /** What became of the buffer that was next. */
  found(verdict: BufferVerdict): void {
    assert.ok(this.#left > 0, "no buffer was to be looked at");
    this.#left -= 1;
    this.#next += 1;
    if (this.#next >= this.#buffers) {
      this.#next = 0;
      this.#nextPasses = (this.#nextPasses + 1) | 0;
    }
    if (verdict === "busy") return;
    this.#reusable += 1;
    if (verdict === "reusable") return;
    this.#written += 1;
    if (this.#written < this.#pagesMax) return;
    this.#hitMax += 1;
    this.#need = 0;
  }

  /** Ends a round. @returns whether there is so little to do that the next may be far off */
  end(): boolean {
    if (this.#pagesMax === 0) return true;
    const found = this.#reusable - this.#estimate;
    if (this.scanned > 0 && found > 0) this.#smoothDensity(this.scanned, found);
    return this.#lap === 0 && this.#recent === 0;
  }

  /** Finds the place again from where the hand is. @returns how far the hand has moved */
  #follow(hand: number, passes: number): number {
    let moved = 0;
    let isBehind = true;
    if (this.#isValid) {
      moved = hand - this.#hand + ((passes - this.#passes) | 0) * this.#buffers;
      if (((this.#nextPasses - passes) | 0) > 0) {
        this.#lap = hand - this.#next;
        isBehind = false;
      } else if (this.#nextPasses === passes && this.#next >= hand) {
        this.#lap = this.#buffers - (this.#next - hand);
        isBehind = false;
      }
    }
    if (isBehind) {
      this.#next = hand;
      this.#nextPasses = passes;
      this.#lap = this.#buffers;
    }
    this.#left = this.#lap;
    this.#hand = hand;
    this.#passes = passes;
    this.#isValid = true;
    return moved;
  }

  #smoothDensity(scanned: number, found: number): void {
    const density = fround(fround(scanned) / fround(found));
    this.#density = fround(this.#density + fround(fround(density - this.#density) / SMOOTHING));
  }

  #foresee(allocations: number): number {
    const recent = fround(allocations);
    this.#allocations =
      this.#allocations <= recent
        ? recent
        : fround(this.#allocations + fround(fround(recent - this.#allocations) / SMOOTHING));
    const need = Math.trunc(this.#allocations * this.#multiplier);
    // Otherwise the average would sink towards nought for ever, and be computed with denormal numbers.
    if (need === 0) this.#allocations = 0;
    return need;
  }

  #leastScan(): number {
    return Math.trunc(fround(fround(this.#buffers) / fround(WHOLE_POOL_MS / this.delayMs)));
  }
}

function checkPages(pages: number): number {
  if (Number.isInteger(pages) && pages >= 0) return pages;
  throw new RangeError(`not a number of pages: ${pages}`);
}
