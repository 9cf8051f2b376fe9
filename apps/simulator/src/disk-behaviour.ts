/**
 * How one node's disk behaves: how long its steps take, and which of them fail or are the node's last.
 *
 * Both kinds of storage ask before each step. Most steps take no virtual time, so that handlers stay cheap; syncs
 * always take some, so that a crash, a partition or another connection can come in between. A crash armed for a step
 * happens right before it takes effect: that is how every point of a control file's replacement is reached.
 */
import type { Random } from "./random.js";
import type { VirtualTime } from "./virtual-time.js";

/** What a step does, as far as faults are concerned. */
export type StepKind = "write" | "sync" | "name" | "read" | "control";

/** Share of writes and name changes that take noticeable time. */
const NOTICEABLE_SHARE = 0.15;

/** Share of reads for readers of WAL that take time, and of those the share that waits for a disk that is busy. */
const READ_DELAY_SHARE = 0.25;
const SLOW_READ_SHARE = 0.25;
/** A slow disk makes reads so much slower at most: readers have limits of their own. */
const SLOW_READ_FACTOR_MAX = 10;

/** One node's disk. */
export class DiskBehaviour {
  readonly #time: VirtualTime;
  readonly #random: Random;
  /** Multiplies every duration. */
  slowness = 1;
  /** Steps that add bytes fail for lack of room. */
  isFull = false;
  #failSync: (() => void) | undefined;
  #crashIn: { readonly kind: StepKind | "any"; steps: number; readonly crash: () => void } | undefined;

  #atElection: { readonly steps: number; readonly crash: () => void } | undefined;

  constructor(time: VirtualTime, random: Random) {
    this.#time = time;
    this.#random = random;
  }

  /** Calls `crash` right before the `steps`-th step of `kind` would take effect. */
  armCrash(kind: StepKind | "any", steps: number, crash: () => void): void {
    this.#crashIn = { kind, steps, crash };
  }

  /** The next sync fails, which ends all trust in the node's process; `failed` is called when it does. */
  failNextSync(failed: () => void): void {
    this.#failSync = failed;
  }

  /** As `armCrash`, counted from the next time the node is told of an election. */
  armCrashAtElection(steps: number, crash: () => void): void {
    this.#atElection = { steps, crash };
  }

  /** The node is about to follow an elected proposer. */
  beforeElected(): void {
    const armed = this.#atElection;
    this.#atElection = undefined;
    if (armed !== undefined) this.armCrash("any", armed.steps, armed.crash);
  }

  heal(): void {
    this.slowness = 1;
    this.isFull = false;
    this.#failSync = undefined;
    this.#crashIn = undefined;
    this.#atElection = undefined;
  }

  /**
   * Runs before a step.
   *
   * @returns a promise to wait for, or undefined if the step takes no time
   * @throws a system error if the step fails
   */
  before(kind: StepKind): Promise<void> | undefined {
    const armed = this.#crashIn;
    if (armed !== undefined && (armed.kind === "any" || armed.kind === kind)) {
      armed.steps -= 1;
      if (armed.steps <= 0) {
        this.#crashIn = undefined;
        armed.crash();
      }
    }
    if (this.isFull && (kind === "write" || kind === "control")) throw systemError("ENOSPC");
    if (kind === "sync" && this.#failSync !== undefined) {
      const failed = this.#failSync;
      this.#failSync = undefined;
      failed();
      throw systemError("EIO");
    }
    return this.#delay(kind);
  }

  /** Time that a read for a reader of WAL takes, now and then enough for an election; undefined for none. */
  readDelay(): Promise<void> | undefined {
    if (!this.#random.chance(READ_DELAY_SHARE)) return undefined;
    const usualMs = this.#random.chance(SLOW_READ_SHARE) ? 100 * this.#random.next() : 0.5;
    return this.#time.sleep(usualMs * Math.min(this.slowness, SLOW_READ_FACTOR_MAX));
  }

  #delay(kind: StepKind): Promise<void> | undefined {
    if (kind === "read") return undefined;
    const isSync = kind === "sync" || kind === "control";
    if (!isSync && !this.#random.chance(NOTICEABLE_SHARE)) return undefined;
    const usualMs = isSync ? 0.4 + 2 * this.#random.next() : 0.3 * this.#random.next();
    return this.#time.sleep(usualMs * this.slowness);
  }
}

/** An error as node:fs makes it. */
export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected by the simulator`), { code });
}
