/**
 * The rows of `aio` that need no device: what a handle's life costs over the bare call (goal G19).
 *
 * Everything runs in this process, in short slices. NOPs go through the kernel's ring and do nothing there, so what
 * differs is the handle: acquired, defined, staged, submitted, completed, reclaimed. Reads are of 8 KiB from the page
 * cache, at the same positions on both sides, and their checksums must agree.
 */
import { closeSync, openSync } from "node:fs";

import { AioSystem, createIoReturn, FILE_CALLBACK, FILE_TARGET } from "@millrace/aio";
import type { AioBackend, FileLease, IoReturn, IoScope, MethodName } from "@millrace/aio";
import { createMemorySegment } from "@millrace/aligned-buffers";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { addressOf, COMPLETION_WORDS, OPCODE, preadInto, Ring } from "@millrace/io-uring";

import type { Group, MaybeContestant } from "../available.js";
import type { Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { BenchError } from "../errors.js";
import { warmPageCache } from "../numbered-file.js";
import type { Ground } from "./aio-contestants.js";

const NOPS = 32;
const READS = 16;
const BLOCK_BYTES = 8192;
/** Read over and over, so that only the first copy leaves the processor's cache cold. */
const BLOCKS = 128;
const BATCHES = 200;
const QUICK_BATCHES = 4;
const CACHE = "1 MiB of a file in the page cache";

/** The checksum of the words that begin the blocks just read. */
function sumOf(words: Int32Array, count: number, sum: number): number {
  let combined = sum;
  for (let index = 0; index < count; index += 1) {
    combined = (Math.imul(combined, 31) + (words[(index * BLOCK_BYTES) / 4] as number)) | 0;
  }
  return combined;
}

async function timed(quick: boolean, perBatch: number, batch: (index: number) => number): Promise<Sample> {
  const batches = quick ? QUICK_BATCHES : BATCHES;
  const sample = await fastestSlice(quick ? QUICK_SLICES : FULL_SLICES, batches * perBatch, () => {
    let sum = 0;
    for (let index = 0; index < batches; index += 1) sum = (Math.imul(sum, 31) + batch(index)) | 0;
    return sum;
  });
  return { ...sample, rate: sample.rate / 1e6, details: { nsPerOperation: 1e9 / sample.rate } };
}

/** A ring without anything around it. */
async function withRing(
  ground: Ground,
  perBatch: number,
  prepare: (ring: Ring, index: number) => void,
  collect: () => number,
): Promise<Sample> {
  using ring = Ring.create({ entries: 2 * NOPS });
  const out = new Int32Array(NOPS * COMPLETION_WORDS);
  return await timed(ground.quick, perBatch, (batch) => {
    for (let index = 0; index < perBatch; index += 1) prepare(ring, batch * perBatch + index);
    ring.submit();
    let left = perBatch;
    while (left > 0) {
      const count = ring.reap(out, left);
      for (let index = 0; index < count; index += 1) {
        if ((out[index * COMPLETION_WORDS + 2] as number) < 0) throw failed("a ring");
      }
      left -= count;
    }
    return collect();
  });
}

function failed(what: string): BenchError {
  return new BenchError("ERR_BENCH_WORK", `an I/O of ${what} failed`);
}

/** A backend with a file, as a thread that issues I/O has one. */
interface Issuer {
  readonly backend: AioBackend;
  readonly scope: IoScope;
  readonly lease: FileLease;
  /** What the I/O is on, for the handles. */
  readonly target: readonly number[];
  readonly slots: readonly IoReturn[];
}

async function withBackend(
  method: MethodName,
  segment: MemorySegment,
  path: string,
  work: (issuer: Issuer) => Promise<Sample>,
): Promise<Sample> {
  const fd = openSync(path, "r");
  try {
    await using system = AioSystem.create({
      method,
      required: true,
      segments: [segment.memory],
      backendsMax: 1,
      concurrency: 2 * NOPS,
    });
    const backend = system.attach({ mayBlock: true });
    const scope = backend.openScope();
    const lease = backend.openLease(fd);
    const slots = Array.from({ length: NOPS }, () => createIoReturn());
    backend.enterBatch();
    return await work({ backend, scope, lease, target: [fd, lease.slot], slots });
  } finally {
    closeSync(fd);
  }
}

/** Starts a batch, completes it, and looks at every outcome. */
function runBatch({ backend, slots }: Issuer, count: number, start: (index: number) => void): void {
  for (let index = 0; index < count; index += 1) start(index);
  backend.submitStaged();
  while (backend.inFlightCount > 0) backend.poll();
  for (let index = 0; index < count; index += 1) {
    if (slots[index]?.result.status !== "ok") throw failed("a handle");
  }
}

function startRead(issuer: Issuer, index: number, position: number): void {
  issuer.backend
    .acquire(issuer.scope, issuer.slots[index])
    .setTarget(FILE_TARGET, issuer.target)
    .addCallback(FILE_CALLBACK)
    .startTransfer(false, issuer.lease, 0, index * BLOCK_BYTES, BLOCK_BYTES, position);
}

const positionOf = (index: number): number => (index % BLOCKS) * BLOCK_BYTES;

function contestant(
  name: string,
  command: string,
  missing: string | undefined,
  run: () => Promise<readonly Sample[]>,
): MaybeContestant {
  return { name, command, missing, run };
}

/** NOPs: the handle alone. */
function nops(ground: Ground): Group {
  const [reference, candidate] = ["ring, NOP", "handles, NOP"];
  const { uring } = ground.missing;
  return {
    contestants: [
      contestant(reference, "@millrace/io-uring: prepare × 32, submit, reap", uring, async () => [
        await withRing(
          ground,
          NOPS,
          (ring) => ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 1, 0),
          () => NOPS,
        ),
      ]),
      contestant(candidate, "@millrace/aio: acquire, startNop × 32, submitStaged, poll", uring, async () => [
        await withBackend("io_uring", createMemorySegment(BLOCK_BYTES), ground.path, (issuer) =>
          timed(ground.quick, NOPS, () => {
            runBatch(issuer, NOPS, (index) => {
              issuer.backend
                .acquire(issuer.scope, issuer.slots[index])
                .setTarget(FILE_TARGET, issuer.target)
                .startNop(issuer.lease);
            });
            return NOPS;
          }),
        ),
      ]),
    ],
    rows: [
      {
        id: "G19",
        name: "the life of a handle around a NOP",
        question: "What does a handle's whole life cost over an entry and a completion of the ring?",
        unit: "M/s",
        reference,
        candidate,
        judge: "best",
        gate: { ratio: 0.8 },
        goal: { ratio: 1, rate: 1000 / 120 },
        cache: "in the processor's caches",
        sameWork: true,
      },
    ],
  };
}

/** Method sync: a handle around a system call. */
function synchronous(ground: Ground): Group {
  const [reference, candidate] = ["pread", "handles, method sync"];
  const segment = createMemorySegment(READS * BLOCK_BYTES);
  const words = new Int32Array(segment.buffer);
  async function bare(): Promise<Sample> {
    const fd = openSync(ground.path, "r");
    try {
      return await timed(ground.quick, READS, (batch) => {
        for (let index = 0; index < READS; index += 1) {
          const position = positionOf(batch * READS + index);
          const bytes = preadInto(fd, segment.bytes, index * BLOCK_BYTES, BLOCK_BYTES, position);
          if (bytes !== BLOCK_BYTES) throw failed("pread");
        }
        return sumOf(words, READS, batch);
      });
    } finally {
      closeSync(fd);
    }
  }
  async function withHandles(): Promise<Sample> {
    return await withBackend("sync", segment, ground.path, (issuer) =>
      timed(ground.quick, READS, (batch) => {
        runBatch(issuer, READS, (index) => startRead(issuer, index, positionOf(batch * READS + index)));
        return sumOf(words, READS, batch);
      }),
    );
  }
  return {
    contestants: [
      contestant(reference, "@millrace/io-uring: preadInto", undefined, async () => {
        warmPageCache(ground.path);
        const sample = await bare();
        return [sample, sample];
      }),
      contestant(candidate, "@millrace/aio, method sync: acquire, startTransfer", undefined, async () => {
        const [plain, sample] = [await bare(), await withHandles()];
        // The handle alone: what is left of its time without the system call's, here and now.
        const us = Math.max(1 / sample.rate - 1 / plain.rate, 0.001);
        const alone = { ...sample, rate: 1 / us, details: { nsPerOperation: us * 1000 } };
        return [sample, alone];
      }),
    ],
    rows: [
      {
        id: "G19",
        name: "the life of a handle around a system call",
        question: "What does a handle cost over the system call that it is for, page in the cache?",
        unit: "M/s",
        reference,
        candidate,
        measure: 1,
        judge: "best",
        goal: { rate: 1 / 1.5 },
        cache: CACHE,
        sameWork: true,
      },
    ],
  };
}

/** io_uring: batches of reads that need no device. */
function batches(ground: Ground): Group {
  const [reference, candidate] = ["ring, 16 reads", "handles, 16 reads"];
  const { uring } = ground.missing;
  const segment = createMemorySegment(READS * BLOCK_BYTES);
  const words = new Int32Array(segment.buffer);
  return {
    contestants: [
      contestant(reference, "@millrace/io-uring: prepare × 16, submit, reap", uring, async () => {
        warmPageCache(ground.path);
        const fd = openSync(ground.path, "r");
        const address = addressOf(segment.bytes);
        try {
          const prepare = (ring: Ring, at: number): void => {
            const target = address + (at % READS) * BLOCK_BYTES;
            ring.prepare(OPCODE.read, 0, fd, positionOf(at), target, BLOCK_BYTES, 0, 0, at, 0);
          };
          return [await withRing(ground, READS, prepare, () => sumOf(words, READS, 0))];
        } finally {
          closeSync(fd);
        }
      }),
      contestant(candidate, "@millrace/aio: startTransfer × 16, submitStaged, poll", uring, async () => [
        await withBackend("io_uring", segment, ground.path, (issuer) =>
          timed(ground.quick, READS, (batch) => {
            runBatch(issuer, READS, (index) => startRead(issuer, index, positionOf(batch * READS + index)));
            return sumOf(words, READS, 0);
          }),
        ),
      ]),
    ],
    rows: [
      {
        id: "G19",
        name: "16 reads of cached pages at a time",
        question: "What does a read in a batch of 16 cost, handle, kernel and copy together?",
        unit: "M reads/s",
        reference,
        candidate,
        judge: "best",
        goal: { rate: 0.5 },
        cache: CACHE,
        sameWork: true,
      },
    ],
  };
}

/** The groups of rows that only use the processor. */
export function coreGroups(ground: Ground): Group[] {
  return [nops(ground), synchronous(ground), batches(ground)];
}
