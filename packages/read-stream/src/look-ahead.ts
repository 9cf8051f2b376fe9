/**
 * How far a stream looks ahead, and when the read it is preparing is good enough: the part in which PostgreSQL 18 and
 * 19 differ.
 *
 * Both are pure bookkeeping: they are told what happened (a hit, a wait, a shortage of pins, the end) and are asked
 * what to do. Distance 0 means that the end of the stream has been seen, and stays 0 until a restart.
 */
export interface LookAhead {
  /** Blocks to look ahead, 0 to the most that may be pinned; 0 once the end was seen. */
  readonly distance: number;
  /** Whether all is cached and nothing is prepared for I/O: the state in which the fast path may be taken. */
  readonly isResting: boolean;
  /** Whether a reset forgets the read that was being prepared, instead of starting it. */
  readonly dropsPendingOnReset: boolean;
  /** Whether a miss on the fast path is read at once, as nothing could run beside it. */
  readonly readsSynchronouslyOnFastPath: boolean;
  /** Whether to ask for one more block number. */
  wantsBlock(pinned: number, pending: number, inProgress: number): boolean;
  /** Asked before another block is asked for: whether the pending read will not get any better. */
  isComplete(pending: number): boolean;
  /** Asked when no more blocks are wanted: whether the pending read has to start nevertheless. */
  mustStart(pinned: number, pending: number, inProgress: number): boolean;
  /** A block was found in the pool. */
  afterHit(inProgress: number): void;
  /** An I/O was waited for. @param hadToWait whether that took time, or the I/O was synchronous */
  afterWait(hadToWait: boolean): void;
  /** The pool gives no more than this for now. */
  shrinkTo(distance: number): void;
  /** The end was seen, or the stream is being emptied. */
  atEnd(): void;
  /** Begins again after a reset, as if all were cached. */
  restart(): void;
  /** The end is not meant to last: the stream will go on from where it is. */
  pause(): void;
  /** Undoes the end. */
  resume(): void;
}

/** What the rules are measured against. */
export interface LookAheadBounds {
  readonly maxIos: number;
  readonly maxPinned: number;
  readonly combine: number;
}
