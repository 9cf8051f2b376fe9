/**
 * `redo`: how fast WAL is replayed on pages.
 *
 * The candidate decodes PostgreSQL's own WAL and replays every block reference of every record on pages in memory, in one
 * thread. The reference is PostgreSQL's crash recovery of the cluster that wrote that WAL, killed and started anew from a
 * copy each time, by the time that its log gives for redo. It reads blocks through its buffers and finds some pages on disk
 * that have the change already; both sides' rates are the same number of block references over their time.
 */
import { execFile } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { formatLsn } from "@millrace/lsn";
import { PostgresCluster, postgresOrSkip } from "@millrace/postgres-process";
import { WalDecoder, WalRecord } from "@millrace/wal-decoder";
import { applyMapEffect, implicitEffects, needsBase, Page, redoBlock } from "@millrace/wal-redo";

import type { Contestant, Sample } from "../contest.js";
import { BenchError } from "../errors.js";
import { readRealWal, writeRealWal } from "../real-wal.js";
import type { RealWal, WalSize } from "../real-wal.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const SIZE: WalSize = { bulkRows: 200_000, transactions: 20_000 };
const QUICK_SIZE: WalSize = { bulkRows: 1000, transactions: 50 };
const CHUNK_BYTES = 1024 * 1024;
const THOUSAND = 1000;
const MIB = 1024 * 1024;
/** Relations, forks and blocks are numbered into one key: blocks below 2^20, forks below 4. */
const FORK_FACTOR = 2 ** 20;
const RELATION_FACTOR = 2 ** 22;

const run = promisify(execFile);

/** What a replay of the whole range did. */
interface Replayed {
  readonly records: number;
  readonly applies: number;
  readonly pages: number;
  readonly seconds: number;
}

function replay(wal: RealWal): Replayed {
  const chunk = new Uint8Array(CHUNK_BYTES);
  const record = new WalRecord(wal.cluster.installation.major);
  const pages = new Map<number, Page>();
  const pageOf = (rel: number, fork: number, block: number): Page => {
    const key = rel * RELATION_FACTOR + fork * FORK_FACTOR + block;
    let page = pages.get(key);
    if (page === undefined) pages.set(key, (page = new Page(new Uint8Array(8192))));
    return page;
  };
  const environment = { hintLsn: wal.cluster.installation.major >= 18 };
  let applies = 0;
  const start = performance.now();
  const decoder = new WalDecoder({
    startLsn: wal.startLsn,
    pgMajor: wal.cluster.installation.major,
    segmentBytes: wal.segmentBytes,
    wholeRecords: true,
    onRecord: (visit) => {
      record.decode(visit);
      for (const effect of implicitEffects(record)) {
        applyMapEffect(effect, pageOf(effect.rel, 2, effect.mapBlock));
      }
      for (const ref of record.refs) {
        const page = pageOf(ref.rel, ref.fork, ref.block);
        // A page that existed before the range is logged whole when it is first changed, but for a hint in its header.
        if (page.isNew && needsBase(ref) && ref.fork === 0) continue;
        redoBlock(record, ref, page, environment);
        applies += 1;
      }
    },
  });
  readRealWal(wal, chunk, (piece) => decoder.feed(piece));
  const seconds = (performance.now() - start) / 1000;
  if (decoder.recordEndLsn !== wal.endLsn) {
    throw new BenchError("ERR_BENCH_WORK", `replayed up to ${formatLsn(decoder.recordEndLsn)} only`);
  }
  return { records: decoder.recordCount, applies, pages: pages.size, seconds };
}

function redo(wal: RealWal): Contestant {
  return {
    name: "wal-redo",
    command: "@millrace/wal-decoder and @millrace/wal-redo, one thread, pages in memory",
    run(): readonly Sample[] {
      const { records, applies, pages, seconds } = replay(wal);
      const details = {
        recordsPerSecond: records / seconds,
        megabytesPerSecond: wal.bytes / seconds / MIB,
        recordsPerPage: applies / pages,
      };
      return [{ rate: applies / seconds / THOUSAND, checksum: `${String(applies)} applies`, details }];
    },
  };
}

/** @param crashed directory of the killed cluster */
function recovery(wal: RealWal, crashed: string, directory: string, applies: number): Contestant {
  const { installation } = wal.cluster;
  return {
    name: "PostgreSQL",
    command: `crash recovery of PostgreSQL ${installation.version}, time of redo in its log`,
    async run(): Promise<readonly Sample[]> {
      const copy = join(directory, "recovered");
      rmSync(copy, { recursive: true, force: true });
      await run("cp", ["-a", crashed, copy]);
      const cluster = await PostgresCluster.open({
        installation,
        directory: copy,
        settings: { shared_buffers: "1GB", fsync: "off" },
      });
      if (cluster === undefined) throw new BenchError("ERR_BENCH_WORK", "the crashed cluster is gone");
      await cluster.start();
      await cluster.stop("immediate");
      const log = readFileSync(cluster.logFile, "utf8");
      const elapsed = /redo done at .* elapsed: ([\d.]+) s/.exec(log)?.[1];
      await cluster[Symbol.asyncDispose]();
      if (elapsed === undefined) throw new BenchError("ERR_BENCH_WORK", `no recovery in ${log.slice(-500)}`);
      const seconds = Math.max(0.01, Number(elapsed));
      return [{ rate: applies / seconds / THOUSAND, checksum: `${String(applies)} applies` }];
    },
  };
}

async function runSuite(context: BenchContext): ReturnType<Suite["run"]> {
  const { installation, skip } = postgresOrSkip();
  if (installation === undefined) return { method: [], rows: [], skipped: skip };
  return await withWorkDirectory(context.directory, async (directory) => {
    await using wal = await writeRealWal(installation, directory, context.quick ? QUICK_SIZE : SIZE);
    await wal.cluster.kill();
    const { records, applies, pages } = replay(wal);
    const rows = await runContest(
      context,
      [recovery(wal, wal.cluster.directory, directory, applies), redo(wal)],
      [
        {
          id: "redo",
          name: "blocks replayed",
          question: "How many block references a second does one thread replay, decoding included?",
          unit: "k/s",
          reference: "PostgreSQL",
          candidate: "wal-redo",
          judge: "best",
          gate: { rate: 80 },
          goal: { ratio: 1 / 15 },
          cache: "WAL and data in the page cache",
          sameWork: true,
        },
      ],
    );
    const size = `${String(Math.round(wal.bytes / MIB))} MiB, ${String(records)} records`;
    const chain = (applies / pages).toFixed(0);
    return {
      method: [
        `${size} of WAL of PostgreSQL ${installation.version}: a filled table, then pgbench's simple-update`,
        `${String(applies)} block references on ${String(pages)} pages, ${chain} a page`,
      ],
      rows,
    };
  });
}

export const redoSuite: Suite = {
  name: "redo",
  question: "How fast is WAL replayed on pages, compared with PostgreSQL's recovery?",
  run: runSuite,
};
