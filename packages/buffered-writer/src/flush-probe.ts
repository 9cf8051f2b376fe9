/**
 * Control over the background flush, for tests: hold a segment at a stage, hear when it has reached one, let it go.
 *
 * A segment is submitted, then started, written and confirmed. Held at a stage, it has not reached that stage: held at
 * "started" nothing was issued, at "written" the write has succeeded and nobody knows yet, at "confirmed" the same, one step
 * further. Retries pass "started" once. A writer without a probe does none of this.
 */

/** A part of the file that is written with one call. */
export interface SegmentInfo {
  /** From 0, in the order of submission, which is the order in the file. */
  readonly index: number;
  /** In the file, bytes. */
  readonly offset: number;
  readonly length: number;
}

/** Where a segment can be held. */
export type HeldStage = "started" | "written" | "confirmed";
/** What a segment can have reached. */
export type FlushStage = "submitted" | HeldStage;

const RANK: Readonly<Record<HeldStage, number>> = { started: 1, written: 2, confirmed: 3 };

interface Wait {
  readonly rank: number;
  readonly index: number;
  readonly resolve: () => void;
}

/** Given to a writer's options. One probe is for one writer. */
export class FlushProbe {
  readonly #holds: { readonly stage: HeldStage; readonly match: (segment: SegmentInfo) => boolean }[] = [];
  /** By segment, how far it was let go. */
  readonly #released: Map<number, number> = new Map();
  readonly #waits: Wait[] = [];
  readonly #reached: Map<string, SegmentInfo> = new Map();
  readonly #askers: Map<string, ((segment: SegmentInfo) => void)[]> = new Map();

  /** Holds the segments that match at a stage; all of them by default. */
  hold(stage: HeldStage, match: (segment: SegmentInfo) => boolean = () => true): void {
    this.#holds.push({ stage, match });
  }

  /** Settles when a segment has reached a stage, or at once if it has. */
  reached(stage: FlushStage, index: number): Promise<SegmentInfo> {
    const key = `${stage} ${String(index)}`;
    const segment = this.#reached.get(key);
    if (segment !== undefined) return Promise.resolve(segment);
    return new Promise((resolve) => {
      const askers = this.#askers.get(key) ?? [];
      askers.push(resolve);
      this.#askers.set(key, askers);
    });
  }

  /** Lets a segment go, up to and including a stage; all the way by default. May be called before it is held. */
  release(index: number, upTo: HeldStage = "confirmed"): void {
    const rank = Math.max(this.#released.get(index) ?? 0, RANK[upTo]);
    this.#released.set(index, rank);
    for (const wait of this.#waits) if (wait.index === index && wait.rank <= rank) wait.resolve();
  }

  /** For the writer: waits while the segment is held at a stage. */
  async pass(stage: HeldStage, segment: SegmentInfo): Promise<void> {
    const { index } = segment;
    const rank = RANK[stage];
    const isHeld = this.#holds.some((hold) => hold.stage === stage && hold.match(segment));
    if (!isHeld || (this.#released.get(index) ?? 0) >= rank) return;
    await new Promise<void>((resolve) => this.#waits.push({ rank, index, resolve }));
  }

  /** For the writer: the segment has reached a stage. */
  mark(stage: FlushStage, { index, offset, length }: SegmentInfo): void {
    const key = `${stage} ${String(index)}`;
    const segment = { index, offset, length };
    this.#reached.set(key, segment);
    for (const resolve of this.#askers.get(key) ?? []) resolve(segment);
    this.#askers.delete(key);
  }
}
