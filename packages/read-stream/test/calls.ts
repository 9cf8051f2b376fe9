/**
 * Runs a stream against the model pool and writes down what every call did, in the notation of the tables: `R7+8` a read
 * started (executed, with method sync), `W7+8` a wait, `H20` a hit, `A40+1` advice; calls are separated by `|`.
 *
 * Unless a test says otherwise a stream is a sequential, batching scan of a cold relation under the default settings, whose
 * consumer lets go of each buffer before it asks for the next one.
 */
import { STREAM_FLAG } from "../src/options.js";
import type { NextBlock, ReadStreamOptions } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import type { StreamInfo } from "../src/read-stream.js";
import type { StreamEvent } from "../src/trace.js";
import { ModelPool, RELATION } from "./model-pool.js";
import type { ModelOptions } from "./model-pool.js";

export const SCAN: number = STREAM_FLAG.sequential | STREAM_FLAG.useBatching;
export const FULL_SCAN: number = SCAN | STREAM_FLAG.full;

export type StreamOptions = Partial<ReadStreamOptions<object>>;

/** A stream under observation. */
export interface Observed {
  readonly pool: ModelPool;
  readonly stream: ReadStream<object>;
  /** Events since they were last taken, without returns. */
  readonly takeEvents: () => string;
}

/** The numbers of an array, then the end. */
export function listed(blocks: readonly number[]): NextBlock<unknown> {
  let at = 0;
  return () => blocks[at++] ?? -1;
}

/** `first` up to, but not including, `end`, every `step`. */
export function blocksFrom(first: number, end: number, step = 1): number[] {
  return Array.from({ length: Math.ceil((end - first) / step) }, (_, index) => first + index * step);
}

/** Model options for a pool where `blocks` are cached. */
export function cached(blocks: readonly number[]): ModelOptions {
  const set = new Set(blocks);
  return { isCached: (block) => set.has(block) };
}

function eventText(event: StreamEvent): string {
  switch (event.t) {
    case "read":
      return `R${event.block}+${event.n}`;
    case "wait":
      return `W${event.block}+${event.n}`;
    case "advice":
      return `A${event.block}+${event.n}`;
    case "hit":
      return `H${event.block}`;
    case "return":
      return "";
    default:
      throw new Error("no such event");
  }
}

/** Begins a stream over `blocks`; always with the checks of `debug`. */
export function observe(
  blocks: readonly number[],
  options: StreamOptions = {},
  model: ModelOptions | ModelPool = {},
): Observed {
  const pool = model instanceof ModelPool ? model : new ModelPool(model);
  let events: string[] = [];
  const stream = ReadStream.begin<object>(pool, {
    relation: RELATION,
    flags: SCAN,
    next: listed(blocks),
    debug: true,
    ...options,
    trace: (event) => {
      options.trace?.(event);
      const text = eventText(event);
      // In method sync a wait is the read itself.
      if (text !== "" && !(pool.isSynchronous && event.t === "wait")) events.push(text);
    },
  });
  return {
    pool,
    stream,
    takeEvents: () => {
      const text = events.join(" ");
      events = [];
      return text;
    },
  };
}

/** What one call did, and what the stream looked like after it. */
export interface Call {
  readonly block: number;
  readonly events: string;
  readonly info: StreamInfo;
}

/** Asks until the end, or until `count` buffers were returned. */
export function calls(observed: Observed, count: number = Number.POSITIVE_INFINITY): Call[] {
  const { pool, stream, takeEvents } = observed;
  const made: Call[] = [];
  while (made.length < count) {
    const buffer = stream.next();
    const events = takeEvents();
    if (buffer === 0) break;
    made.push({ block: ModelPool.blockOf(buffer), events, info: stream.info });
    pool.release(buffer);
  }
  return made;
}

/** All calls in one line; those in which nothing happened are left out. */
export function line(made: readonly Call[]): string {
  return made
    .map(({ events }) => events)
    .filter((events) => events !== "")
    .join(" | ");
}

/** All calls in one line, those in which nothing happened too. */
export function everyCall(made: readonly Call[]): string {
  return made.map(({ events }) => events).join("|");
}

/** The reads alone. */
export function reads(made: readonly Call[]): string {
  return made
    .flatMap(({ events }) => events.split(" "))
    .filter((event) => event.startsWith("R"))
    .map((event) => event.slice(1))
    .join(" ");
}

/** Runs a stream to its end. */
export function run(
  blocks: readonly number[],
  options: StreamOptions = {},
  model: ModelOptions | ModelPool = {},
): Call[] {
  return calls(observe(blocks, options, model));
}
