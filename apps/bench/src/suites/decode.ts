/**
 * `decode`: how fast WAL is cut into verified records.
 *
 * The candidate reads PostgreSQL's own segment files and feeds them to the decoder, which checks every page and the
 * checksum of every record. The reference is `pg_waldump --stats` over the same range. It does more with each record (it
 * walks block references to tell full pages from the rest) and is a process that has to start; neither side prints
 * records. Both count them, and must agree.
 */
import { formatLsn } from "@millrace/lsn";
import { postgresOrSkip, runPostgresTool } from "@millrace/postgres-process";
import { WalDecoder } from "@millrace/wal-decoder";

import type { Contestant, Sample } from "../contest.js";
import { BenchError } from "../errors.js";
import { readRealWal, writeRealWal } from "../real-wal.js";
import type { RealWal, WalSize } from "../real-wal.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const SIZE: WalSize = { bulkRows: 400_000, transactions: 20_000 };
const QUICK_SIZE: WalSize = { bulkRows: 1000, transactions: 50 };
const CHUNK_BYTES = 1024 * 1024;
const MB = 1e6;

function waldump(wal: RealWal): Contestant {
  const { installation } = wal.cluster;
  const range = ["-s", formatLsn(wal.startLsn), "-e", formatLsn(wal.endLsn)];
  const args = ["--stats", "-p", wal.walDirectory, ...range];
  return {
    name: "pg_waldump",
    command: `pg_waldump --stats (PostgreSQL ${installation.version})`,
    async run(): Promise<readonly Sample[]> {
      const start = performance.now();
      const { stdout, stderr } = await runPostgresTool(installation, "pg_waldump", args);
      const seconds = (performance.now() - start) / 1000;
      const records = /^Total\s+(\d+)/m.exec(stdout)?.[1];
      if (records === undefined) throw new BenchError("ERR_BENCH_PROGRAM", `pg_waldump failed: ${stderr}`);
      return [{ rate: wal.bytes / seconds / MB, checksum: `${records} records` }];
    },
  };
}

function decoder(wal: RealWal): Contestant {
  const chunk = new Uint8Array(CHUNK_BYTES);
  return {
    name: "wal-decoder",
    command: "@millrace/wal-decoder, fed from the same files",
    run(): readonly Sample[] {
      const start = performance.now();
      const decoder = new WalDecoder({
        startLsn: wal.startLsn,
        pgMajor: wal.cluster.installation.major,
        segmentBytes: wal.segmentBytes,
        systemId: wal.systemId,
      });
      readRealWal(wal, chunk, (piece) => decoder.feed(piece));
      const seconds = (performance.now() - start) / 1000;
      if (decoder.recordEndLsn !== wal.endLsn) {
        throw new BenchError("ERR_BENCH_WORK", `decoded up to ${formatLsn(decoder.recordEndLsn)} only`);
      }
      const { recordCount } = decoder;
      const rate = wal.bytes / seconds / MB;
      return [
        { rate, checksum: `${recordCount} records`, details: { recordsPerSecond: recordCount / seconds } },
      ];
    },
  };
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { installation, skip } = postgresOrSkip();
  if (installation === undefined) return { method: [], rows: [], skipped: skip };
  if (installation.tool("pg_waldump") === undefined) {
    return { method: [], rows: [], skipped: "this PostgreSQL has no pg_waldump" };
  }
  return await withWorkDirectory(context.directory, async (directory) => {
    await using wal = await writeRealWal(installation, directory, context.quick ? QUICK_SIZE : SIZE);
    const rows = await runContest(
      context,
      [waldump(wal), decoder(wal)],
      [
        {
          id: "decode",
          name: "WAL decoded",
          question: "How fast is WAL cut into records whose checksums are right?",
          unit: "MB/s",
          reference: "pg_waldump",
          candidate: "wal-decoder",
          judge: "best",
          goal: { ratio: 1 },
          cache: "WAL in the page cache",
          sameWork: true,
        },
      ],
    );
    const megabytes = Math.round(wal.bytes / MB);
    return {
      method: [
        `${megabytes} MB of WAL of PostgreSQL ${installation.version}: a filled table, then pgbench's simple-update`,
      ],
      rows,
    };
  });
}

export const decodeSuite: Suite = {
  name: "decode",
  question: "How fast is PostgreSQL's WAL cut into verified records, compared with pg_waldump?",
  run,
};
