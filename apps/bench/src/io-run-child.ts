/**
 * The process that does one run of I/O (see io-run.ts): opens, warms up, counts for a while, drains, prints.
 *
 * Every driver keeps its queue depth full until it is told to stop, and tells a meter of each I/O that has ended. The
 * meter looks at what was read: a page that is not the one asked for ends the run. Warm-up and time are those of timers,
 * the length of the timed part is the clock's.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";

import { IoEngine } from "@millrace/aio";
import { createMemorySegment, HUGE_PAGE_BYTES } from "@millrace/aligned-buffers";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { addressOf, adviseHugePages, hugePageBytes, nativeStatus } from "@millrace/io-uring";

import { BenchError } from "./errors.js";
import type { IoDriver, IoRunOutcome, IoRunSpec } from "./io-run.js";
import { NUMBERED_PAGE_BYTES } from "./numbered-file.js";
import { percentile } from "./statistics.js";

/** Latencies kept: the last ones, a second's worth of a fast device and more. */
const LATENCIES_KEPT = 2 ** 18;
const WORD_BYTES = 4;

/** Counts I/Os, checks them and keeps their latencies. */
class Meter {
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

function wrong(message: string): BenchError {
  return new BenchError("ERR_BENCH_WORK", `an I/O gave ${message}`);
}

/** Positions, random by xorshift32 or in order, forever. */
function positions({ order, fileBytes, blockBytes }: IoRunSpec): () => number {
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
function createSegment({ queueDepth, blockBytes, hugePages }: IoRunSpec): MemorySegment {
  const bytes = Math.ceil((queueDepth * blockBytes) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  if (!nativeStatus().available) return createMemorySegment(bytes);
  return createMemorySegment(bytes, {
    addressOf,
    ...(hugePages ? { adviseHugePages: (bytes: Uint8Array) => adviseHugePages(bytes) } : {}),
  });
}

/** A driver keeps going until the meter is stopped, then resolves once nothing is in flight. */
type Drive = (spec: IoRunSpec, segment: MemorySegment, meter: Meter) => Promise<void>;

function views({ queueDepth, blockBytes }: IoRunSpec, segment: MemorySegment): Uint8Array[] {
  return Array.from({ length: queueDepth }, (_, index) =>
    segment.view(segment.byteOffset + index * blockBytes, blockBytes),
  );
}

async function withEngine(
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

const driveRaw: Drive = (spec, segment, meter) =>
  withEngine(spec, segment, async (file) => {
    const { blockBytes } = spec;
    const targets = views(spec, segment);
    const next = positions(spec);
    const [at, started] = [new Float64Array(targets.length), new Float64Array(targets.length)];
    await new Promise<void>((resolve, reject) => {
      let inFlight = targets.length;
      const start = (index: number): void => {
        const position = next();
        at[index] = position;
        started[index] = meter.now();
        const target = targets[index];
        if (target !== undefined) file.readRaw(target, position, done, index);
      };
      const done = (result: number, index: number): void => {
        try {
          const { byteOffset } = targets[index] as Uint8Array;
          meter.ended(at[index] as number, byteOffset, result, blockBytes, started[index] as number);
          if (!meter.isStopped) start(index);
          else if (--inFlight === 0) resolve();
        } catch (error) {
          reject(error);
        }
      };
      for (const index of targets.keys()) start(index);
    });
  });

/** As many loops as the queue is deep, each awaiting one read after the other. */
async function readInLoops(
  spec: IoRunSpec,
  segment: MemorySegment,
  meter: Meter,
  read: (target: Uint8Array, position: number) => Promise<number>,
): Promise<void> {
  const next = positions(spec);
  const { blockBytes } = spec;
  const loop = async (target: Uint8Array): Promise<void> => {
    while (!meter.isStopped) {
      const position = next();
      const start = meter.now();
      const bytes = await read(target, position);
      meter.ended(position, target.byteOffset, bytes, blockBytes, start);
    }
  };
  await Promise.all(views(spec, segment).map(loop));
}

const drivePromises: Drive = (spec, segment, meter) =>
  withEngine(spec, segment, (file) =>
    readInLoops(spec, segment, meter, (target, position) => file.read(target, position)),
  );

const driveFsPromises: Drive = async (spec, segment, meter) => {
  const file = await open(
    spec.path,
    spec.direct ? constants.O_RDONLY | constants.O_DIRECT : constants.O_RDONLY,
  );
  try {
    await readInLoops(spec, segment, meter, async (target, position) => {
      const { bytesRead } = await file.read(target, 0, target.byteLength, position);
      return bytesRead;
    });
  } finally {
    await file.close();
  }
};

/** Writes one page after the other, each durable before the next, and looks for the last one in the file. */
async function writeInOrder(
  spec: IoRunSpec,
  segment: MemorySegment,
  meter: Meter,
  write: (source: Uint8Array, position: number) => Promise<unknown>,
): Promise<void> {
  const next = positions(spec);
  const [source = new Uint8Array()] = views(spec, segment);
  const number = new Int32Array(source.buffer, source.byteOffset, 1);
  let position = 0;
  while (!meter.isStopped) {
    position = next();
    number[0] = position / NUMBERED_PAGE_BYTES;
    const start = meter.now();
    await write(source, position);
    meter.wrote(position, start);
  }
  const file = await open(spec.path, "r");
  try {
    const found = new Int32Array(1);
    await file.read(new Uint8Array(found.buffer), 0, WORD_BYTES, position);
    if (found[0] !== number[0]) throw wrong(`no write at ${position}`);
  } finally {
    await file.close();
  }
}

const driveLog: Drive = (spec, segment, meter) =>
  withEngine(spec, segment, (file) =>
    writeInOrder(spec, segment, meter, (source, position) => file.write(source, position)),
  );

const driveFsPromisesLog: Drive = async (spec, segment, meter) => {
  const file = await open(spec.path, "r+");
  try {
    await writeInOrder(spec, segment, meter, async (source, position) => {
      await file.write(source, 0, source.byteLength, position);
      await file.datasync();
    });
  } finally {
    await file.close();
  }
};

const DRIVERS: Readonly<Record<IoDriver, Drive>> = {
  raw: driveRaw,
  promise: drivePromises,
  "fs-promises": driveFsPromises,
  log: driveLog,
  "fs-promises-log": driveFsPromisesLog,
};

const after = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));

/** Does a run. @throws {BenchError} ERR_BENCH_WORK: an I/O gave what it must not; whatever the engine throws */
export async function doIoRun(spec: IoRunSpec): Promise<IoRunOutcome> {
  const segment = createSegment(spec);
  const meter = new Meter(segment, spec.latencies);
  const driven = DRIVERS[spec.driver](spec, segment, meter);
  const isOver = driven.then(() => {
    throw wrong("an end before its time");
  });
  // The warm-up begins with the first I/O: the threads of method worker take their time to start.
  await Promise.race([meter.next(), isOver]);
  await Promise.race([after(spec.warmUpMs), isOver]);
  meter.restart();
  const [startedMs, cpuBefore] = [performance.now(), process.cpuUsage()];
  await Promise.race([Promise.all([after(spec.timedMs), meter.next()]), isOver]);
  const { operations } = meter;
  const [seconds, cpu] = [(performance.now() - startedMs) / 1000, process.cpuUsage(cpuBefore)];
  isOver.catch(() => undefined);
  meter.isStopped = true;
  await driven;
  return {
    operations,
    seconds,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    p50Us: meter.percentileUs(0.5),
    p99Us: meter.percentileUs(0.99),
    checksum: meter.checksum,
    hugePageBytes: hugePageBytes(segment.bytes),
  };
}
