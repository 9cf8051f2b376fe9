/**
 * `wal-write`: how fast a write-ahead log becomes durable (goals G12 and G13), below any protocol.
 *
 * The log is a preallocated file that is written over and over, opened with O_DIRECT and O_DSYNC: a write that has completed
 * is durable. The reference is fio with the same pattern, which is C and does nothing with what it writes. Group commit is compared
 * with itself: many clients, who each wait for the commit of their own record, with one client.
 */
import { runGroups } from "../available.js";
import type { Group } from "../available.js";
import type { RowSpec } from "../contest.js";
import { MEASURE } from "../io-run.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";
import { fioRun, ioRun, prepareGround } from "./aio-contestants.js";
import type { Ground } from "./aio-contestants.js";

const CLIENTS = [1, 8, 32, 128] as const;
const PAGE_KIB = 8;
/** From this many clients on a clock for each commit would be a good part of its cost. */
const CLIENTS_TIMED_MAX = 32;

function spec(
  row: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "commits/s", judge: "median", cache: "past the page cache (O_DIRECT, O_DSYNC)", ...row };
}

const nameOf = (clients: number): string => `${clients} ${clients === 1 ? "client" : "clients"}`;

/** G12: one flush in flight, whoever commits meanwhile goes with the next. */
function groupCommit(ground: Ground): Group {
  const fio = `fio, ${PAGE_KIB} KiB`;
  return {
    contestants: [
      fioRun(ground, fio, ["ioengine=psync", "direct=1", "sync=dsync", "rw=write", `bs=${PAGE_KIB}k`], "log"),
      ...CLIENTS.map((clients) =>
        ioRun(ground, nameOf(clients), {
          driver: "group-commit",
          clients,
          order: "sequential",
          blockBytes: PAGE_KIB * 1024,
          latencies: clients <= CLIENTS_TIMED_MAX,
        }),
      ),
    ],
    rows: [
      spec({
        id: "G12",
        name: "one client, against pwrite",
        question: "How many records a second does one client commit, compared with writes of a page by fio?",
        reference: fio,
        candidate: nameOf(1),
        gate: { ratio: 0.75 },
        goal: { ratio: 0.9 },
      }),
      ...CLIENTS.slice(1).map((clients) =>
        spec({
          id: "G12",
          name: `${nameOf(clients)}, against one`,
          question: `How many times as many records as one client do ${clients} clients commit together?`,
          reference: nameOf(1),
          candidate: nameOf(clients),
          ...(clients === CLIENTS.at(-1)
            ? { gate: { ratio: 40 }, goal: { ratio: 80, rate: 500_000 } }
            : { gate: { ratio: clients / 2 } }),
        }),
      ),
    ],
  };
}

/** G13: as much as comes. */
function stream(ground: Ground, blockKib: 32 | 128 | 1024, depth: 1 | 2 | 4): Group {
  const what = `${blockKib === 1024 ? "1 MiB" : `${blockKib} KiB`}, QD${depth}`;
  const [fio, candidate] = [`fio, ${what}`, `WalWriter, ${what}`];
  const job = [
    "ioengine=io_uring",
    "direct=1",
    "fixedbufs",
    "registerfiles",
    "sync=dsync",
    "rw=write",
    `bs=${blockKib}k`,
    `iodepth=${depth}`,
  ];
  return {
    contestants: [
      fioRun(ground, fio, job, "log"),
      ioRun(ground, candidate, {
        driver: "wal-stream",
        order: "sequential",
        blockBytes: blockKib * 1024,
        queueDepth: depth,
      }),
    ],
    rows: [
      spec({
        id: "G13",
        name: `a stream of WAL, ${what}`,
        question: "How many durable writes of a stream a second, compared with fio?",
        unit: "writes/s",
        reference: fio,
        candidate,
        gate: { ratio: 0.75 },
        goal: { ratio: 0.9 },
      }),
      spec({
        id: "G13",
        name: `a stream of WAL, ${what}, for each second of processor time`,
        question: "How much processor time does a durable write take, compared with fio?",
        unit: "writes/core-s",
        reference: fio,
        candidate,
        measure: MEASURE.perCoreSecond,
      }),
    ],
  };
}

/** A file that knows no O_DSYNC. */
function withSync(ground: Ground): Group {
  const [fio, candidate] = ["fio, fdatasync", "VirtualFile, sync"];
  const blockBytes = 128 * 1024;
  const job = ["ioengine=psync", "direct=1", "fdatasync=1", "rw=write", "bs=128k"];
  return {
    contestants: [
      fioRun(ground, fio, job, "log"),
      ioRun(ground, candidate, { driver: "virtual-file-log", order: "sequential", blockBytes }),
    ],
    rows: [
      spec({
        id: "G13",
        name: "VirtualFile.writeAllAt and sync, 128 KiB",
        question: "How many writes with an fdatasync each does a VirtualFile reach, compared with fio?",
        unit: "writes/s",
        reference: fio,
        candidate,
        cache: "past the page cache (O_DIRECT), fdatasync after each write",
        gate: { ratio: 0.75 },
        goal: { ratio: 0.9 },
      }),
    ],
  };
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  using ground = prepareGround(directory, context.quick, ["log"]);
  const { sizes } = ground;
  const { rows, skipped } = await runGroups(context, [
    groupCommit(ground),
    stream(ground, 32, 1),
    stream(ground, 128, 1),
    stream(ground, 128, 4),
    stream(ground, 1024, 2),
    withSync(ground),
  ]);
  return {
    method: [
      `${ground.fio ?? "no fio"}; a preallocated log of ${sizes.logBytes / 2 ** 20} MiB, written over and over; what was acknowledged last is looked for in it`,
      `${sizes.timedMs} ms after ${sizes.warmUpMs} ms of warm-up, a process for each run`,
    ],
    rows,
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const walWriteSuite: Suite = {
  name: "wal-write",
  question: "How fast does a write-ahead log become durable, and what does group commit bring?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};
