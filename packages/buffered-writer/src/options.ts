/**
 * What a writer is made of, checked before it takes any memory.
 */
import type { FlushProbe } from "./flush-probe.js";
import type { Classify, WriterClock } from "./retry.js";

/** Segments on their way, at most: beyond it a writer only holds memory. */
const QUEUE_DEPTH_MAX = 1024;

/** How a writer works. */
export interface BufferedWriterOptions {
  /** Of each buffer, bytes; a multiple of `alignment`. */
  readonly capacity: number;
  /** What offsets and lengths of writes are multiples of, bytes: a power of two. */
  readonly alignment: number;
  /** Where in the file the first byte goes; a multiple of `alignment`, 0 by default. */
  readonly startOffset?: number;
  /**
   * Segments that may be on their way when a write returns, and writes of them in flight; 1 by default. There is a buffer
   * more. A fast disk wants 3 and more.
   */
  readonly queueDepth?: number;
  /** Owned buffers from this length on are not copied, where their place allows it; `capacity` by default. */
  readonly bypassMin?: number;
  /** Abort cancels: nothing new is started, and what waits rejects. */
  readonly signal?: AbortSignal;
  /** The writer's from now on: released when the background work has ended and the file is handed back or closed. */
  readonly gate?: { release(): void };
  /** Time between attempts. */
  readonly clock?: WriterClock;
  /** Which failures are repeated. */
  readonly classify?: Classify;
  /** Told once of a failure that is final, also if no call is waiting. */
  readonly onFatal?: (error: unknown) => void;
  /** For tests. */
  readonly probe?: FlushProbe;
}

/** The numbers of the options. */
export interface WriterShape {
  readonly capacity: number;
  readonly alignment: number;
  readonly startOffset: number;
  readonly queueDepth: number;
  readonly bypassMin: number;
}

/** @throws {RangeError} a number is out of its range */
export function shapeOf(options: BufferedWriterOptions): WriterShape {
  const { capacity, alignment, startOffset = 0, queueDepth = 1, bypassMin = capacity } = options;
  check("alignment", alignment, isPowerOfTwo(alignment));
  check("capacity", capacity, isMultiple(capacity, alignment) && capacity > 0);
  check("startOffset", startOffset, isMultiple(startOffset, alignment));
  check(
    "queueDepth",
    queueDepth,
    Number.isInteger(queueDepth) && queueDepth >= 1 && queueDepth <= QUEUE_DEPTH_MAX,
  );
  check("bypassMin", bypassMin, bypassMin === Infinity || (Number.isInteger(bypassMin) && bypassMin >= 0));
  return { capacity, alignment, startOffset, queueDepth, bypassMin };
}

function isMultiple(value: number, unit: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value % unit === 0;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= 2 ** 30 && (value & (value - 1)) === 0;
}

function check(name: string, value: number, isGood: boolean): void {
  if (!isGood) throw new RangeError(`not a good ${name}: ${String(value)}`);
}
