/**
 * How fast a checkpoint writes: no faster than it takes to be done by its target, a part of the time and of the WAL that lie
 * between two checkpoints, so that its writes do not crowd out everybody else's I/O.
 *
 * Before each pause it is asked whether the writes are ahead of both clocks. A clock that once was ahead of the writes is
 * remembered: until they have passed that mark there is no need to look again. After IsCheckpointOnSchedule of PostgreSQL.
 */

/** Part of the interval by which the writes are to be done. */
export const COMPLETION_TARGET = 0.9;
/** Time between two checkpoints. */
export const CHECKPOINT_TIMEOUT_MS = 300_000;
/** WAL between two checkpoints: PostgreSQL's max_wal_size of 1 GiB, over 1 + target, since WAL of two is kept. */
export const CHECKPOINT_WAL_BYTES: number = Math.floor(2 ** 30 / (1 + COMPLETION_TARGET));
/** A pause: short enough to keep what is asked for soon from waiting. */
export const CHECKPOINT_PAUSE_MS = 100;

/** What a checkpoint paces itself by. */
export interface CheckpointPaceOptions {
  /** Part of the interval, above 0 and at most 1; {@link COMPLETION_TARGET} without it. */
  readonly target?: number;
  /** {@link CHECKPOINT_TIMEOUT_MS} without it. */
  readonly timeoutMs?: number;
  /** {@link CHECKPOINT_WAL_BYTES} without it. */
  readonly walBytes?: number;
  /** Milliseconds, from any start. */
  readonly now: () => number;
  /** End of the WAL in bytes; without it only time counts. */
  readonly walPosition?: (() => bigint) | undefined;
}

/** The pace of one checkpoint, which begins when this is made. */
export class CheckpointPace {
  readonly #target: number;
  readonly #timeoutMs: number;
  readonly #walBytes: number;
  readonly #now: () => number;
  readonly #walPosition: (() => bigint) | undefined;
  readonly #startMs: number;
  readonly #startPosition: bigint;
  #elapsedSeen = 0;

  /** @throws {RangeError} an option is out of its range */
  constructor(options: CheckpointPaceOptions) {
    const {
      target = COMPLETION_TARGET,
      timeoutMs = CHECKPOINT_TIMEOUT_MS,
      walBytes = CHECKPOINT_WAL_BYTES,
    } = options;
    if (!(target > 0 && target <= 1)) throw new RangeError(`not a part of the interval: ${target}`);
    if (!(timeoutMs > 0)) throw new RangeError(`not a time: ${timeoutMs} ms`);
    if (!(walBytes > 0)) throw new RangeError(`not an amount of WAL: ${walBytes} bytes`);
    this.#target = target;
    this.#timeoutMs = timeoutMs;
    this.#walBytes = walBytes;
    this.#now = options.now;
    this.#walPosition = options.walPosition;
    this.#startMs = options.now();
    this.#startPosition = options.walPosition?.() ?? 0n;
  }

  /**
   * Whether the writes are ahead of both clocks, so that the checkpoint may pause.
   *
   * @param progress part of the writes that is done, 0 to 1
   */
  isAhead(progress: number): boolean {
    const done = progress * this.#target;
    if (done < this.#elapsedSeen) return false;
    const position = this.#walPosition?.() ?? this.#startPosition;
    const wal = Number(position - this.#startPosition) / this.#walBytes;
    const time = (this.#now() - this.#startMs) / this.#timeoutMs;
    const elapsed = done < wal ? wal : time;
    if (done >= elapsed) return true;
    this.#elapsedSeen = elapsed;
    return false;
  }
}
