/**
 * The process that does one run of I/O (see io-run.ts): opens, warms up, counts for a while, drains, prints.
 *
 * Warm-up and time are those of timers, the length of the timed part is the clock's.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";

import type { MemorySegment } from "@millrace/aligned-buffers";
import { hugePageBytes } from "@millrace/io-uring";

import { createSegment, Meter, positions, views, withEngine, wrong } from "./io-drive.js";
import type { Drive } from "./io-drive.js";
import type { IoDriver, IoRunOutcome, IoRunSpec } from "./io-run.js";
import { driveFsPromisesLog, driveLog, driveVirtualFileLog } from "./log-drivers.js";
import { driveGroupCommit, driveWalStream } from "./wal-drivers.js";

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

const DRIVERS: Readonly<Record<IoDriver, Drive>> = {
  raw: driveRaw,
  promise: drivePromises,
  "fs-promises": driveFsPromises,
  log: driveLog,
  "fs-promises-log": driveFsPromisesLog,
  "virtual-file-log": driveVirtualFileLog,
  "wal-stream": driveWalStream,
  "group-commit": driveGroupCommit,
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
