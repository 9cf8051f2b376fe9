/**
 * `decode`: how fast WAL is cut into verified records, and how fast what is in them is found.
 *
 * The candidates read PostgreSQL's own segment files and feed them to the decoder, which checks every page and the checksum
 * of every record; one of them looks into each record too, as redo does: references, images, data. The reference is
 * `pg_waldump --stats` over the same range. It does as much as the second and is a process that has to start; none prints
 * records. All count them, and must agree.
 */
import { formatLsn } from "@millrace/lsn";
import { postgresOrSkip, runPostgresTool } from "@millrace/postgres-process";
import { WalDecoder, WalRecord } from "@millrace/wal-decoder";

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
const MILLION = 1e6;
const BOUNDARIES = "boundaries";
const STRUCTURE = "structure";

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
      const details = { megabytesPerSecond: wal.bytes / seconds / MB };
      return [{ rate: Number(records) / seconds / MILLION, checksum: `${records} records`, details }];
    },
  };
}

/** Decodes all of it, with `use` for each record where bodies are looked into. */
function contestant(wal: RealWal, name: string, looksInside: boolean): Contestant {
  const chunk = new Uint8Array(CHUNK_BYTES);
  const { major } = wal.cluster.installation;
  return {
    name,
    command: `@millrace/wal-decoder, ${name}, fed from the same files`,
    run(): readonly Sample[] {
      const record = new WalRecord(major);
      let blocks = 0;
      const start = performance.now();
      const decoder = new WalDecoder({
        startLsn: wal.startLsn,
        pgMajor: major,
        segmentBytes: wal.segmentBytes,
        systemId: wal.systemId,
        ...(looksInside
          ? {
              wholeRecords: true,
              onRecord: (visit): void => {
                blocks += record.decode(visit).refs.length;
              },
            }
          : {}),
      });
      readRealWal(wal, chunk, (piece) => decoder.feed(piece));
      const seconds = (performance.now() - start) / 1000;
      if (decoder.recordEndLsn !== wal.endLsn || (looksInside && blocks === 0)) {
        throw new BenchError("ERR_BENCH_WORK", `decoded up to ${formatLsn(decoder.recordEndLsn)} only`);
      }
      const { recordCount } = decoder;
      const details = { megabytesPerSecond: wal.bytes / seconds / MB };
      return [{ rate: recordCount / seconds / MILLION, checksum: `${recordCount} records`, details }];
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
    const shared = {
      unit: "M records/s",
      reference: "pg_waldump",
      judge: "best",
      cache: "WAL in the page cache",
      sameWork: true,
    } as const;
    const rows = await runContest(
      context,
      [waldump(wal), contestant(wal, BOUNDARIES, false), contestant(wal, STRUCTURE, true)],
      [
        {
          ...shared,
          id: "decode",
          name: "WAL cut into records",
          question: "How fast is WAL cut into records whose checksums are right?",
          candidate: BOUNDARIES,
          goal: { ratio: 1 },
        },
        {
          ...shared,
          id: "decode",
          name: "records looked into",
          question: "How fast are the blocks, images and data of verified records found?",
          candidate: STRUCTURE,
          gate: { ratio: 1 / 12, rate: 2.5 },
          goal: { ratio: 1 },
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
