/**
 * `acceptor`: how fast an acceptor takes WAL and makes it durable (goal G13).
 *
 * The reference is `pg_receivewal`, which pulls the same WAL from a running PostgreSQL and fsyncs each segment. The
 * candidate is a `millrace acceptor`, into which this process pushes it in append-requests of 128 KiB; it is done when
 * the last acknowledgement says that all of it is durable. Both go over TCP on the loopback address, from a sender that
 * has the WAL in memory, into an empty directory on the same file system. What is not equal: pg_receivewal's time
 * includes the start of its process, and its sender is C, the candidate's is JavaScript on the same two or more cores.
 */
import { chownSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { crc32c } from "@millrace/checksums";
import { formatLsn, segmentFileName, segmentNumber } from "@millrace/lsn";
import { postgresOrSkip, runPostgresTool, spawnIdentity } from "@millrace/postgres-process";

import { withConnection } from "../commit-load.js";
import type { Contestant, Sample } from "../contest.js";
import { BenchError } from "../errors.js";
import { startAcceptor } from "../millrace-process.js";
import type { AcceptorProcess } from "../millrace-process.js";
import { readRealWal, writeRealWal } from "../real-wal.js";
import type { RealWal, WalSize } from "../real-wal.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";
import { pushWal } from "../wal-sender.js";
import { withWorkDirectory } from "../work-directory.js";

const SIZE: WalSize = { bulkRows: 800_000, transactions: 5000 };
const QUICK_SIZE: WalSize = { bulkRows: 1000, transactions: 50 };
const CHUNK_BYTES = 1024 * 1024;
const MB = 1e6;
const TIMELINE_ID = 1;
/** Holds the WAL from the start position on; each run of the reference uses up a copy. */
const SLOT = "bench_from_start";

/** The range in one piece of memory, as a sender that has just written it would have it. */
function loadWal(wal: RealWal): Uint8Array {
  const all = new Uint8Array(wal.bytes);
  let at = 0;
  readRealWal(wal, new Uint8Array(CHUNK_BYTES), (piece) => {
    all.set(piece, at);
    at += piece.byteLength;
  });
  return all;
}

/** The first segment a side has written must be PostgreSQL's own. */
function checkFirstSegment(wal: RealWal, directory: string): string {
  const name = segmentFileName(TIMELINE_ID, segmentNumber(wal.startLsn, wal.segmentBytes), wal.segmentBytes);
  const [written, original] = [directory, wal.walDirectory].map((parent) =>
    crc32c(readFileSync(join(parent, name))),
  );
  if (written === undefined || written !== original) {
    throw new BenchError("ERR_BENCH_WORK", `${name} is not PostgreSQL's`);
  }
  return written.toString(16).padStart(8, "0");
}

function receivewal(wal: RealWal, directory: string): Contestant {
  const { cluster } = wal;
  const target = join(directory, "received");
  const server = `host=127.0.0.1 port=${cluster.port} user=${cluster.user} sslmode=disable`;
  const slot = `${SLOT}_copy`;
  const args = [
    "-D",
    target,
    "-d",
    server,
    `--slot=${slot}`,
    `--endpos=${formatLsn(wal.endLsn)}`,
    "--no-loop",
  ];
  return {
    name: "pg_receivewal",
    command: "pg_receivewal --slot --endpos",
    async run(): Promise<readonly Sample[]> {
      rmSync(target, { recursive: true, force: true });
      mkdirSync(target);
      const { uid, gid } = spawnIdentity();
      if (uid !== undefined && gid !== undefined) chownSync(target, uid, gid);
      return await withConnection(cluster, async (connection) => {
        await connection.query(`select pg_copy_physical_replication_slot('${SLOT}', '${slot}')`);
        const start = performance.now();
        const { code, stderr } = await runPostgresTool(cluster.installation, "pg_receivewal", args);
        const seconds = (performance.now() - start) / 1000;
        if (code !== 0) throw new BenchError("ERR_BENCH_PROGRAM", `pg_receivewal failed: ${stderr}`);
        await connection.query(`select pg_drop_replication_slot('${slot}')`);
        const checksum = checkFirstSegment(wal, target);
        rmSync(target, { recursive: true, force: true });
        return [{ rate: wal.bytes / seconds / MB, checksum }];
      });
    },
  };
}

function pushed(wal: RealWal, directory: string, acceptor: AcceptorProcess): Contestant {
  const bytes = loadWal(wal);
  const { major } = wal.cluster.installation;
  let timelines = 0;
  return {
    name: "millrace",
    command: "millrace acceptor; START_WAL_PUSH with 128 KiB append-requests",
    async run(): Promise<readonly Sample[]> {
      timelines += 1;
      const timeline = String(timelines).padStart(32, "0");
      const [host = "", port] = acceptor.wal.split(":");
      const { seconds, replies } = await pushWal({
        host,
        port: Number(port),
        timeline,
        pgVersion: major * 10_000,
        systemId: wal.systemId,
        segmentBytes: wal.segmentBytes,
        startLsn: wal.startLsn,
        wal: bytes,
      });
      const checksum = checkFirstSegment(wal, join(directory, timeline, timeline));
      const response = await fetch(`${acceptor.http}/v1/tenant/${timeline}/timeline/${timeline}`, {
        method: "DELETE",
      });
      if (!response.ok) throw new BenchError("ERR_BENCH_PROGRAM", `DELETE was answered ${response.status}`);
      return [{ rate: wal.bytes / seconds / MB, checksum, details: { replies } }];
    },
  };
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { installation, skip } = postgresOrSkip();
  if (installation === undefined) return { method: [], rows: [], skipped: skip };
  if (installation.tool("pg_receivewal") === undefined) {
    return { method: [], rows: [], skipped: "this PostgreSQL has no pg_receivewal" };
  }
  return await withWorkDirectory(context.directory, async (directory) => {
    const reserve = `select pg_create_physical_replication_slot('${SLOT}', true)`;
    const size = context.quick ? QUICK_SIZE : SIZE;
    await using wal = await writeRealWal(installation, directory, size, reserve);
    const data = join(directory, "acceptor");
    await using acceptor = await startAcceptor(data, 1);
    const rows = await runContest(
      context,
      [receivewal(wal, directory), pushed(wal, data, acceptor)],
      [
        {
          id: "G13",
          name: "WAL made durable",
          question: "How fast does an acceptor make WAL durable that comes as fast as it can take it?",
          unit: "MB/s",
          reference: "pg_receivewal",
          candidate: "millrace",
          judge: "median",
          gate: { ratio: 1 },
          goal: { ratio: 1.5 },
          cache: "WAL in memory at the sender, empty target",
          sameWork: true,
        },
      ],
    );
    return {
      method: [
        `${Math.round(wal.bytes / MB)} MB of WAL of PostgreSQL ${installation.version}, loopback TCP, fsync on`,
      ],
      rows,
    };
  });
}

export const acceptorSuite: Suite = {
  name: "acceptor",
  question: "How fast does an acceptor make WAL durable, compared with pg_receivewal?",
  run,
};
