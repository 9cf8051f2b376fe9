/**
 * WAL as a real PostgreSQL writes it, for suites that read, decode or receive it.
 *
 * Two kinds follow each other: bulk (a table with an index is filled, full pages and long records) and small
 * transactions (pgbench's simple-update by several clients). The range begins with a segment, which is where a reader
 * can start without knowing more, and ends with a complete record. PostgreSQL keeps all of it.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";

import {
  BLOCK_BYTES,
  distanceBytes,
  parseLsn,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PostgresCluster } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

import { createTables, runLoad, scalar, withConnection } from "./commit-load.js";
import { BenchError } from "./errors.js";

const SEGMENT_BYTES = 16 * 1024 * 1024;
const TIMELINE_ID = 1;
const BULK_ROW_BYTES = 400;
const CLIENTS = 4;

/** How much to write. */
export interface WalSize {
  /** Rows of some 400 bytes; each gives about 500 bytes of WAL. */
  readonly bulkRows: number;
  /** Small transactions of each of four clients. */
  readonly transactions: number;
}

/** A PostgreSQL that runs, and the WAL it has written. */
export interface RealWal extends AsyncDisposable {
  readonly cluster: PostgresCluster;
  readonly walDirectory: string;
  readonly segmentBytes: number;
  /** The first byte of a segment. */
  readonly startLsn: Lsn;
  /** The end of a record. */
  readonly endLsn: Lsn;
  readonly bytes: number;
  readonly systemId: bigint;
}

/** What keeps PostgreSQL out of the way of what is measured, and its WAL on disk. */
const SETTINGS = {
  wal_level: "replica",
  synchronous_commit: "off",
  wal_keep_size: "64GB",
  max_wal_size: "64GB",
  checkpoint_timeout: "1d",
  autovacuum: "off",
  shared_buffers: "256MB",
};

/**
 * Creates a cluster below `directory`, starts it and writes WAL.
 *
 * @param beforeWriting runs when the start position is fixed and nothing has been written, to reserve it
 * @returns given: disposing of it ends the cluster
 */
export async function writeRealWal(
  installation: PostgresInstallation,
  directory: string,
  size: WalSize,
  beforeWriting?: string,
): Promise<RealWal> {
  const cluster = await PostgresCluster.create({
    installation,
    directory: join(directory, "postgres"),
    settings: SETTINGS,
    segmentBytes: SEGMENT_BYTES,
    initdbArguments: ["--no-sync"],
    port: 0,
  });
  try {
    await cluster.start();
    return await fill(cluster, size, beforeWriting);
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

async function fill(
  cluster: PostgresCluster,
  size: WalSize,
  beforeWriting: string | undefined,
): Promise<RealWal> {
  return await withConnection(cluster, async (connection) => {
    await connection.query("select pg_switch_wal()");
    const at = parseLsn(await scalar(connection, "select pg_current_wal_insert_lsn()"));
    const startLsn = segmentStart(segmentNumber(at, SEGMENT_BYTES), SEGMENT_BYTES);
    // Right behind a switch the position is that of the first record, behind the segment's page header.
    if (distanceBytes(startLsn, at) >= BLOCK_BYTES)
      throw new BenchError("ERR_BENCH_WORK", "the segment has begun");
    if (beforeWriting !== undefined) await connection.query(beforeWriting);
    await createTables(cluster);
    await connection.query(`create table bulk (id int primary key, text text)`);
    await connection.query(
      `insert into bulk select i, repeat('x', ${BULK_ROW_BYTES}) from generate_series(1, ${size.bulkRows}) i`,
    );
    await runLoad(cluster, { clients: CLIENTS, transactions: size.transactions });
    // A commit that waits for its own fsync; by then everything before it is on disk, too.
    await connection.query("begin; set local synchronous_commit = local; create table last_one (); commit");
    const endLsn = parseLsn(await scalar(connection, "select pg_current_wal_insert_lsn()"));
    await connection.query("select pg_switch_wal()");
    const control = await scalar(connection, "select system_identifier from pg_control_system()");
    return {
      cluster,
      walDirectory: join(cluster.dataDirectory, "pg_wal"),
      segmentBytes: SEGMENT_BYTES,
      startLsn,
      endLsn,
      bytes: Number(distanceBytes(startLsn, endLsn)),
      systemId: BigInt(control),
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  });
}

/**
 * Reads the whole range from PostgreSQL's files, in order.
 *
 * @param chunk lent: where bytes are put; a piece is never longer and never spans two files
 * @param take sees each piece, a view of `chunk` that the next piece overwrites
 */
export function readRealWal(wal: RealWal, chunk: Uint8Array, take: (piece: Uint8Array) => void): void {
  const { segmentBytes, startLsn, endLsn } = wal;
  const last = segmentNumber(endLsn, segmentBytes);
  for (let segment = segmentNumber(startLsn, segmentBytes); segment <= last; segment += 1n) {
    const end = segment === last ? segmentOffset(endLsn, segmentBytes) : segmentBytes;
    if (end === 0) break;
    const fd = openSync(join(wal.walDirectory, segmentFileName(TIMELINE_ID, segment, segmentBytes)), "r");
    try {
      for (let offset = 0; offset < end;) {
        const read = readSync(fd, chunk, 0, Math.min(chunk.byteLength, end - offset), offset);
        if (read === 0) throw new BenchError("ERR_BENCH_WORK", "a segment of pg_wal is too short");
        take(chunk.subarray(0, read));
        offset += read;
      }
    } finally {
      closeSync(fd);
    }
  }
}
