/**
 * `writer`: small writes made into large ones (goal G14).
 *
 * All writers get the same pieces, leave the same file, and sync it at the end; the clock stops when it is durable, and for rows that
 * say so when the kernel has it. Every file is read and compared afterwards. The BufferedWriter goes past the page cache, the others
 * through it. They overwrite a preallocated file, as a log does with its segments, or make a new one.
 */
import type { Group, MaybeContestant } from "../available.js";
import { runGroups } from "../available.js";
import type { RowSpec, Sample } from "../contest.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";
import { copyOnly, tryWrites } from "../writer-fast-path.js";
import { fincoreProblem, runWriter, WRITER_MEASURE, writerRunCommand } from "../writer-run.js";
import type { WriterRunSpec } from "../writer-run.js";
import { directProblem } from "./aio-contestants.js";

const MIB: number = 2 ** 20;
const TOTAL_BYTES: number = 512 * MIB;
const QUICK_TOTAL_BYTES: number = 4 * MIB;
const WARM_UP_BYTES: number = 64 * MIB;
const QUICK_WARM_UP_BYTES: number = MIB;
const BUFFER_BYTES: number = 512 * 1024;
const QUEUE_DEPTH = 3;
const CHUNKS = [64, 512, 8192, 65_536] as const;
/** The smoke test has the ends. */
const QUICK_CHUNKS: ReadonlySet<number> = new Set([64, 65_536]);
const FAST_PATH_BYTES = 64;
/** A write of 64 bytes may take so long. */
const FAST_PATH_NS = 60;

const REUSED_FILE =
  "a preallocated file is overwritten, in the page cache for those that use it; until it is durable";
const NEW_FILE = "a new file; until it is durable";

/** What the groups share. */
interface WriterGround {
  readonly context: BenchContext;
  readonly directory: string;
  readonly direct: string | undefined;
  readonly fincore: string | undefined;
}

const sizeName = (bytes: number): string => (bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`);

function row(
  spec: Pick<RowSpec, "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { id: "G14", unit: "MB/s", judge: "median", cache: REUSED_FILE, sameWork: true, ...spec };
}

function writer(
  ground: WriterGround,
  name: string,
  wish: Partial<WriterRunSpec> & Pick<WriterRunSpec, "driver" | "chunkBytes">,
): MaybeContestant {
  const { quick } = ground.context;
  const spec: WriterRunSpec = {
    path: `${ground.directory}/written`,
    totalBytes: quick ? QUICK_TOTAL_BYTES : TOTAL_BYTES,
    warmUpBytes: quick ? QUICK_WARM_UP_BYTES : WARM_UP_BYTES,
    bufferBytes: BUFFER_BYTES,
    queueDepth: QUEUE_DEPTH,
    preallocated: false,
    ...wish,
  };
  return {
    name,
    command: writerRunCommand(spec),
    missing: spec.driver === "buffered-writer" ? ground.direct : undefined,
    run: () => runWriter(spec),
  };
}

/** What is asked of each size of a write. */
function boundsOf(chunkBytes: number): Pick<RowSpec, "gate" | "goal"> {
  return chunkBytes === 64
    ? { gate: { ratio: 3 }, goal: { ratio: 4.5 } }
    : { gate: { ratio: 1.5 }, goal: { ratio: 2.5 } };
}

/** One size of writes, everybody. */
function ofSize(ground: WriterGround, chunkBytes: number): Group {
  const size = sizeName(chunkBytes);
  const names = {
    stream: `createWriteStream, ${size}`,
    freshStream: `createWriteStream, new file, ${size}`,
    sonic: `sonic-boom, ${size}`,
    reused: `BufferedWriter, ${size}`,
    fresh: `BufferedWriter, new file, ${size}`,
  };
  const reused = { chunkBytes, preallocated: true } as const;
  return {
    contestants: [
      writer(ground, names.stream, { driver: "createWriteStream", ...reused }),
      writer(ground, names.sonic, { driver: "sonic-boom", ...reused }),
      writer(ground, names.reused, { driver: "buffered-writer", ...reused }),
      writer(ground, names.freshStream, { driver: "createWriteStream", chunkBytes }),
      writer(ground, names.fresh, { driver: "buffered-writer", chunkBytes }),
    ],
    rows: [
      row({
        name: `writes of ${size}, against createWriteStream`,
        question: `How fast do writes of ${size} become a durable file, compared with a stream of Node?`,
        reference: names.stream,
        candidate: names.reused,
        ...boundsOf(chunkBytes),
      }),
      row({
        name: `writes of ${size}, against sonic-boom`,
        question: `How fast do writes of ${size} become a durable file, compared with sonic-boom?`,
        reference: names.sonic,
        candidate: names.reused,
        gate: { ratio: 1.3 },
        goal: { ratio: 2 },
      }),
      row({
        name: `writes of ${size} to a new file, against createWriteStream`,
        question: "How fast is it if the BufferedWriter has to make its file longer as well?",
        reference: names.freshStream,
        candidate: names.fresh,
        cache: NEW_FILE,
        gate: { ratio: 1 },
      }),
      row({
        name: `writes of ${size}, until the kernel has them`,
        question:
          "How fast is it if nothing has to be durable: the stream ends in the page cache, the BufferedWriter on the device?",
        reference: names.stream,
        candidate: names.reused,
        measure: WRITER_MEASURE.written,
        cache: "a preallocated file is overwritten; until the last write has returned",
      }),
      row({
        name: `writes of ${size}, for each second of processor time`,
        question: `How much processor time do writes of ${size} take, compared with a stream of Node?`,
        unit: "MB/core-s",
        reference: names.stream,
        candidate: names.reused,
        measure: WRITER_MEASURE.perCoreSecond,
      }),
    ],
  };
}

/** More segments on their way. */
function depths(ground: WriterGround): Group {
  const chunkBytes = 8192;
  const [two, four] = ["queueDepth 2", "queueDepth 4"];
  const wish = { driver: "buffered-writer", chunkBytes, preallocated: true } as const;
  return {
    contestants: [
      writer(ground, two, { ...wish, queueDepth: 2 }),
      writer(ground, four, { ...wish, queueDepth: 4 }),
    ],
    rows: [
      row({
        name: "queueDepth 4, against 2",
        question: "What do more buffers bring than one to fill and two on their way?",
        reference: two,
        candidate: four,
        gate: { ratio: 0.93 },
      }),
    ],
  };
}

/** Where the bytes are not. */
function pageCache(ground: WriterGround): Group {
  const chunkBytes = 8192;
  const [stream, direct] = ["createWriteStream, cached", "BufferedWriter, cached"];
  const missing = ground.fincore;
  const watched = (contestant: MaybeContestant): MaybeContestant => ({
    ...contestant,
    command: `${contestant.command}; fincore`,
    missing: contestant.missing ?? missing,
  });
  return {
    contestants: [
      watched(writer(ground, stream, { driver: "createWriteStream", chunkBytes })),
      watched(writer(ground, direct, { driver: "buffered-writer", chunkBytes })),
    ],
    rows: [
      row({
        name: "what is not in the page cache",
        question:
          "How much of a file that was just written does the page cache not hold, as fincore sees it?",
        unit: "% of the file",
        reference: stream,
        candidate: direct,
        measure: WRITER_MEASURE.pastPageCache,
        gate: { rate: 99.99 },
        cache: "asked before anybody reads the file",
      }),
    ],
  };
}

/** The write that waits for nothing. */
function fastPath({ context }: WriterGround): Group {
  const [copy, tryWrite] = ["Uint8Array.set", "tryWrite"];
  const contestant = (
    name: string,
    command: string,
    run: (quick: boolean, chunkBytes: number) => Promise<Sample>,
  ): MaybeContestant => ({
    name,
    command,
    missing: undefined,
    run: async () => [await run(context.quick, FAST_PATH_BYTES)],
  });
  return {
    contestants: [
      contestant(copy, "Uint8Array.set of 64 bytes, a place further each time", copyOnly),
      contestant(tryWrite, "BufferedWriter.tryWrite of 64 bytes, a file that takes all at once", tryWrites),
    ],
    rows: [
      row({
        name: "tryWrite of 64 bytes",
        question:
          "What does a write of 64 bytes cost that needs no wait and makes no promise, compared with the copy alone?",
        unit: "M writes/s",
        judge: "best",
        reference: copy,
        candidate: tryWrite,
        gate: { rate: 1000 / FAST_PATH_NS },
        cache: "512 KiB of buffer in the processor's caches",
      }),
    ],
  };
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  const ground: WriterGround = {
    context,
    directory,
    direct: directProblem(directory),
    fincore: fincoreProblem(),
  };
  const chunks = CHUNKS.filter((bytes) => !context.quick || QUICK_CHUNKS.has(bytes));
  const { rows, skipped } = await runGroups(context, [
    fastPath(ground),
    ...chunks.map((chunkBytes) => ofSize(ground, chunkBytes)),
    depths(ground),
    pageCache(ground),
  ]);
  const totalMib = (context.quick ? QUICK_TOTAL_BYTES : TOTAL_BYTES) / MIB;
  return {
    method: [
      `a file of ${totalMib} MiB, written by a process of its own, fdatasync at the end, all of it read and compared afterwards`,
      `createWriteStream, sonic-boom ${BUFFER_BYTES / 1024} KiB of buffer; BufferedWriter ${QUEUE_DEPTH + 1} buffers of as much`,
    ],
    rows,
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const writerSuite: Suite = {
  name: "writer",
  question: "How fast do small writes become a durable file, compared with a stream of Node and sonic-boom?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};
