/**
 * `aio`: block I/O through @millrace/aio, against fio and node:fs (goals G1 to G7, G10, G11, G19).
 *
 * Every row's contestants alternate on one preallocated file, each run in a process of its own. fio's jobs are the ones
 * that an engineer would tune by hand: registered buffers and files, batches where they help. What waits for the device
 * is judged by the median of the ratios; reads from the page cache and the core alone, by the best of each side.
 */
import type { Group } from "../available.js";
import { runGroups } from "../available.js";
import type { RowSpec } from "../contest.js";
import { MEASURE } from "../io-run.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";
import { fioRun, ioRun, prepareGround } from "./aio-contestants.js";
import type { Ground } from "./aio-contestants.js";
import { coreGroups } from "./aio-core.js";

const DEVICE = "past the page cache (O_DIRECT)";
const HOT = "file in the page cache";

/** What is the same in all jobs that read from the device with io_uring. */
const FIO_URING = [
  "ioengine=io_uring",
  "direct=1",
  "fixedbufs",
  "registerfiles",
  "norandommap",
  "randrepeat=0",
];
const randomRead = (depth: number, ...more: string[]): string[] => [
  ...FIO_URING,
  "rw=randread",
  "bs=8k",
  `iodepth=${depth}`,
  ...more,
];

function spec(
  row: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "IOPS", judge: "median", cache: DEVICE, ...row };
}

/** G1, G3, G6: one depth, callbacks and promises. */
function atDepth(ground: Ground, depth: 32 | 128): Group {
  const [fio, raw, promise] = [`fio, QD${depth}`, `callbacks, QD${depth}`, `promises, QD${depth}`];
  return {
    contestants: [
      fioRun(ground, fio, randomRead(depth)),
      ioRun(ground, raw, { driver: "raw", queueDepth: depth }),
      ioRun(ground, promise, { driver: "promise", queueDepth: depth }),
    ],
    rows: [
      spec({
        id: "G1",
        name: `random 8 KiB reads, QD${depth}, callbacks`,
        question: "How many random reads a second do callbacks reach, compared with fio?",
        reference: fio,
        candidate: raw,
        gate: { ratio: 0.9 },
        goal: { ratio: 1 },
      }),
      spec({
        id: "G3",
        name: `random 8 KiB reads, QD${depth}, promises`,
        question: "How many random reads a second does one promise for each read reach, compared with fio?",
        reference: fio,
        candidate: promise,
        gate: { ratio: 0.85 },
        goal: { ratio: 0.95 },
      }),
      spec({
        id: "G6",
        name: `reads for each second of processor time, QD${depth}`,
        question: "How much processor time does a random read take, compared with fio?",
        unit: "IOPS/core",
        reference: fio,
        candidate: raw,
        measure: MEASURE.perCoreSecond,
        gate: { ratio: 1 },
        goal: { ratio: 1.25 },
      }),
    ],
  };
}

/** G1h: against a reference whose memory has huge pages as well. */
function withHugePages(ground: Ground): Group {
  return {
    contestants: [
      fioRun(ground, "fio on huge pages, QD64", randomRead(64, "iomem=shmhuge")),
      ioRun(ground, "callbacks, QD64", { driver: "raw", queueDepth: 64 }),
    ],
    rows: [
      spec({
        id: "G1h",
        name: "random 8 KiB reads, QD64, both on huge pages",
        question: "How many random reads a second do callbacks reach, compared with fio on huge pages?",
        reference: "fio on huge pages, QD64",
        candidate: "callbacks, QD64",
        gate: { ratio: 0.88 },
        goal: { ratio: 0.97 },
      }),
    ],
  };
}

/** G2: one read at a time. */
function oneAtATime(ground: Ground): Group {
  const question = "How many random reads a second, one after the other, compared with fio?";
  const reference = "fio, QD1";
  return {
    contestants: [
      fioRun(ground, reference, randomRead(1)),
      ioRun(ground, "event loop", { driver: "raw" }),
      ioRun(ground, "busyPoll", { driver: "raw", busyPoll: true }),
    ],
    rows: [
      spec({
        id: "G2",
        name: "random 8 KiB reads, QD1, event loop",
        question,
        reference,
        candidate: "event loop",
        gate: { ratio: 0.8 },
        goal: { ratio: 0.95 },
      }),
      spec({
        id: "G2",
        name: "random 8 KiB reads, QD1, busyPoll",
        question,
        reference,
        candidate: "busyPoll",
        gate: { ratio: 1 },
        goal: { ratio: 1.15 },
      }),
    ],
  };
}

/** G4: against what Node has. */
function againstNode(ground: Ground): Group {
  const sides = { reference: "fs.promises, QD64", candidate: "promises, QD64" };
  return {
    contestants: [
      ioRun(ground, sides.reference, { driver: "fs-promises", queueDepth: 64 }),
      ioRun(ground, sides.candidate, { driver: "promise", queueDepth: 64 }),
    ],
    rows: [
      spec({
        ...sides,
        id: "G4",
        name: "random 8 KiB reads, QD64, against fs.promises",
        question: "How many times as many random reads a second as with fs.promises?",
        gate: { ratio: 1.7 },
        goal: { ratio: 2 },
      }),
      spec({
        ...sides,
        id: "G4",
        name: "reads for each second of processor time, QD64, against fs.promises",
        question: "How many times as many reads as fs.promises does a second of processor time give?",
        unit: "IOPS/core",
        measure: MEASURE.perCoreSecond,
        goal: { ratio: 5 },
      }),
    ],
  };
}

/** G5: no device, only code. */
function fromPageCache(ground: Ground): Group {
  const hot = { queueDepth: 32, direct: false, latencies: false } as const;
  const shared = { candidate: "promises, hot", judge: "best", cache: HOT } as const;
  return {
    contestants: [
      fioRun(ground, "fio tuned, hot", [
        ...FIO_URING.filter((option) => option !== "direct=1"),
        "direct=0",
        "invalidate=0",
        "rw=randread",
        "bs=8k",
        "iodepth=32",
        "gtod_reduce=1",
        "iodepth_batch_submit=16",
        "iodepth_batch_complete_max=32",
      ]),
      ioRun(ground, "fs.promises, hot", { driver: "fs-promises", ...hot }),
      ioRun(ground, "promises, hot", { driver: "promise", ...hot }),
      ioRun(ground, "callbacks, hot", { driver: "raw", ...hot }),
    ],
    rows: [
      spec({
        ...shared,
        id: "G5",
        name: "8 KiB reads from the page cache, QD32, promises",
        question: "What does the code of a read cost with one promise for each, compared with a tuned fio?",
        reference: "fio tuned, hot",
        gate: { ratio: 0.8 },
        goal: { ratio: 0.95 },
      }),
      spec({
        ...shared,
        id: "G5",
        name: "8 KiB reads from the page cache, QD32, against fs.promises",
        question: "How many times as many cached reads a second as with fs.promises?",
        reference: "fs.promises, hot",
        gate: { ratio: 2 },
        goal: { ratio: 3 },
      }),
      spec({
        ...shared,
        id: "G5",
        name: "8 KiB reads from the page cache, QD32, callbacks",
        question: "What does the code of a read cost with a callback, compared with a tuned fio?",
        reference: "fio tuned, hot",
        candidate: "callbacks, hot",
      }),
    ],
  };
}

/** G7: large reads in order, where huge pages decide. */
function sequential(ground: Ground, blockKib: 128 | 1024, depth: 16 | 4): Group {
  const what = `${blockKib === 1024 ? "1 MiB" : "128 KiB"}, QD${depth}`;
  const job = [...FIO_URING.slice(0, 4), "rw=read", `bs=${blockKib}k`, `iodepth=${depth}`];
  const [huge, plain, candidate] = [`fio on huge pages, ${what}`, `fio, ${what}`, `callbacks, ${what}`];
  const question = "How fast is a file read in order into huge pages, compared with";
  return {
    contestants: [
      fioRun(ground, huge, [...job, "iomem=shmhuge"]),
      fioRun(ground, plain, job),
      ioRun(ground, candidate, {
        driver: "raw",
        order: "sequential",
        queueDepth: depth,
        blockBytes: blockKib * 1024,
      }),
    ],
    rows: [
      spec({
        id: "G7",
        name: `sequential reads, ${what}, fio on huge pages`,
        question: `${question} fio that has them as well?`,
        reference: huge,
        candidate,
        gate: { ratio: 0.9 },
        goal: { ratio: 0.97 },
      }),
      spec({
        id: "G7",
        name: `sequential reads, ${what}, fio as it is`,
        question: `${question} fio as it is?`,
        reference: plain,
        candidate,
        gate: { ratio: 1.5 },
        goal: { ratio: 2 },
      }),
    ],
  };
}

/** G10: threads instead of a ring. */
function byWorkers(ground: Ground): Group {
  const [reference, candidate] = ["fio, 4 threads", "method worker, 4 workers, QD32"];
  return {
    contestants: [
      fioRun(ground, reference, [
        "ioengine=psync",
        "direct=1",
        "rw=randread",
        "bs=8k",
        "numjobs=4",
        "thread",
        "norandommap",
        "randrepeat=0",
      ]),
      ioRun(ground, candidate, { driver: "raw", method: "worker", queueDepth: 32 }),
    ],
    rows: [
      spec({
        id: "G10",
        name: "random 8 KiB reads by 4 worker threads",
        question:
          "How many random reads a second do four I/O workers reach, compared with four threads of fio?",
        reference,
        candidate,
        gate: { ratio: 0.8 },
        goal: { ratio: 0.9 },
      }),
    ],
  };
}

/** G11: a log's commit. */
function commits(ground: Ground): Group {
  const [pwrite, node, candidate] = ["pwrite", "fs.promises, log", "IoFile.write, log"];
  const shared = { id: "G11", candidate, unit: "commits/s" } as const;
  return {
    contestants: [
      fioRun(ground, pwrite, ["ioengine=psync", "direct=1", "sync=dsync", "rw=write", "bs=8k"], "log"),
      ioRun(ground, node, { driver: "fs-promises-log", order: "sequential", direct: false }),
      ioRun(ground, candidate, { driver: "log", order: "sequential" }),
    ],
    rows: [
      spec({
        ...shared,
        name: "durable 8 KiB writes of one client, against pwrite",
        question:
          "How many durable writes a second, one after the other, compared with pwrite of a C program?",
        reference: pwrite,
        gate: { ratio: 0.75 },
        goal: { ratio: 0.9 },
      }),
      spec({
        ...shared,
        name: "durable 8 KiB writes of one client, against fs.promises",
        question: "How many times as many durable writes as write and datasync of fs.promises?",
        reference: node,
        gate: { ratio: 1.4 },
        goal: { ratio: 1.8 },
      }),
    ],
  };
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  using ground = prepareGround(directory, context.quick);
  const { sizes } = ground;
  const { rows, skipped } = await runGroups(context, [
    ...coreGroups(ground),
    fromPageCache(ground),
    oneAtATime(ground),
    atDepth(ground, 32),
    withHugePages(ground),
    againstNode(ground),
    atDepth(ground, 128),
    sequential(ground, 128, 16),
    sequential(ground, 1024, 4),
    byWorkers(ground),
    commits(ground),
  ]);
  return {
    method: [
      `${ground.fio ?? "no fio"}; a preallocated file of ${sizes.fileBytes / 2 ** 20} MiB of random content, each page read is checked`,
      `${sizes.timedMs} ms after ${sizes.warmUpMs} ms of warm-up, a process for each run; processor time includes the kernel's workers of the process`,
    ],
    rows,
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const aioSuite: Suite = {
  name: "aio",
  question: "How fast is block I/O from JavaScript, compared with fio and with node:fs?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};
