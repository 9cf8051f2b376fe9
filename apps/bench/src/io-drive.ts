/**
 * What the drivers of a run of I/O have in common: memory, positions, an engine, and the meter that counts and checks.
 *
 * Every driver keeps its queue depth full until it is told to stop, and tells the meter of each I/O that has ended. The
 * meter looks at what was read: a page that is not the one asked for ends the run.
 */
import { IoEngine } from "@millrace/aio";
import { createMemorySegment, HUGE_PAGE_BYTES } from "@millrace/aligned-buffers";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { addressOf, adviseHugePages, nativeStatus } from "@millrace/io-uring";

import { BenchError } from "./errors.js";
import type { IoRunSpec } from "./io-run.js";
import { NUMBERED_PAGE_BYTES } from "./numbered-file.js";
import { percentile } from "./statistics.js";

/** Latencies kept: the last ones, a second's worth of a fast device and more. */
const LATENCIES_KEPT = 2 ** 18;
/** Of the words that pages are checked by. */
export const WORD_BYTES = 4;

/** Counts I/Os, checks them and keeps their latencies. */
export class Meter {
  operations = 0;
  isStopped = false;
  readonly #words: Int32Array;
  readonly #hasLatencies: boolean;
  readonly #latencies = new Float64Array(LATENCIES_KEPT);
  #latencyCount = 0;
  #checksum = 0;
  #onNext: (() => void) | undefined;

  constructor(segment: MemorySegment, hasLatencies: boolean) {
    this.#words = new Int32Array(segment.buffer);
    this.#hasLatencies = hasLatencies;
  }

  /** The time an I/O starts, if that is to be known. */
  now(): number {
    return this.#hasLatencies ? performance.now() : 0;
  }

  /** A read of the page at `position` into the memory at `memoryOffset` has ended. */
  ended(position: number, memoryOffset: number, bytes: number, blockBytes: number, start: number): void {
    const word = memoryOffset / WORD_BYTES;
    if (bytes !== blockBytes) throw wrong(`${bytes} bytes of ${blockBytes} at ${position}`);
    if (this.#words[word] !== position / NUMBERED_PAGE_BYTES)
      throw wrong(`another page than that at ${position}`);
    this.#checksum = (Math.imul(this.#checksum, 31) + (this.#words[word + 1] as number)) | 0;
    this.#count(start);
  }

  /** A durable write of the page at `position` has ended. */
  wrote(position: number, start: number): void {
    this.#checksum = (Math.imul(this.#checksum, 31) + position / NUMBERED_PAGE_BYTES) | 0;
    this.#count(start);
  }

  #count(start: number): void {
    this.operations += 1;
    if (this.#hasLatencies) {
      this.#latencies[this.#latencyCount & (LATENCIES_KEPT - 1)] = performance.now() - start;
      this.#latencyCount += 1;
    }
    if (this.#onNext === undefined) return;
    this.#onNext();
    this.#onNext = undefined;
  }

  /** Resolves when the next I/O has ended. */
  next(): Promise<void> {
    return new Promise((resolve) => (this.#onNext = resolve));
  }

  /** The clock starts. */
  restart(): void {
    this.operations = 0;
    this.#latencyCount = 0;
  }

  get checksum(): string {
    return (this.#checksum >>> 0).toString(16).padStart(8, "0");
  }

  percentileUs(fraction: number): number | undefined {
    const count = Math.min(this.#latencyCount, LATENCIES_KEPT);
    return count === 0 ? undefined : percentile(this.#latencies.subarray(0, count), fraction) * 1000;
  }
}

/** What a run ends with that has read or written something else. */
export function wrong(message: string): BenchError {
  return new BenchError("ERR_BENCH_WORK", `an I/O gave ${message}`);
}

/** Positions, random by xorshift32 or in order, forever. */
export function positions({ order, fileBytes, blockBytes }: IoRunSpec): () => number {
  const blocks = Math.floor(fileBytes / blockBytes);
  let state = (process.pid * 2_654_435_761) >>> 0 || 1;
  let next = 0;
  return () => {
    if (order === "sequential") {
      const block = next;
      next = next + 1 === blocks ? 0 : next + 1;
      return block * blockBytes;
    }
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) % blocks) * blockBytes;
  };
}

/** Memory for all I/Os of a run, side by side, in whole huge pages. */
export function createSegment({ queueDepth, blockBytes, hugePages }: IoRunSpec): MemorySegment {
  const bytes = Math.ceil((queueDepth * blockBytes) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  if (!nativeStatus().available) return createMemorySegment(bytes);
  return createMemorySegment(bytes, {
    addressOf,
    ...(hugePages ? { adviseHugePages: (bytes: Uint8Array) => adviseHugePages(bytes) } : {}),
  });
}

/** A driver keeps going until the meter is stopped, then resolves once nothing is in flight. */
export type Drive = (spec: IoRunSpec, segment: MemorySegment, meter: Meter) => Promise<void>;

/** The memory of each I/O. */
export function views({ queueDepth, blockBytes }: IoRunSpec, segment: MemorySegment): Uint8Array[] {
  return Array.from({ length: queueDepth }, (_, index) =>
    segment.view(segment.byteOffset + index * blockBytes, blockBytes),
  );
}

/** Runs `work` with the run's file, opened by an engine. */
export async function withEngine(
  spec: IoRunSpec,
  segment: MemorySegment,
  work: (file: Awaited<ReturnType<IoEngine["open"]>>) => Promise<void>,
): Promise<void> {
  const { method, busyPoll, queueDepth, direct, path } = spec;
  const isLog = spec.driver === "log";
  await using engine = IoEngine.create({
    method,
    required: true,
    busyPoll,
    queueDepth,
    arenaBytes: NUMBERED_PAGE_BYTES,
    segments: [segment],
  });
  await using file = await engine.open(path, {
    direct: direct ? "require" : "off",
    flags: isLog ? "r+" : "r",
    dataSync: isLog,
  });
  await work(file);
}
