/**
 * PostgreSQL's own scan of the same relation: `pg_prewarm` into its buffers, started anew and cold each time.
 *
 * One cluster with checksums and one table of full pages, made once without WAL. A server runs only while it is measured;
 * between runs the table's file is what everybody else scans. What is timed is the statement.
 */
import { closeSync, openSync, statSync } from "node:fs";
import { join } from "node:path";

import { FADVISE, fadvise } from "@millrace/io-uring";
import { PostgresCluster } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import type { Relation } from "@millrace/buffer-manager";

import { scalar, withConnection } from "./commit-load.js";
import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { PAGE_BYTES } from "./pool-ground.js";

/** Rows of a little over a thousand bytes: seven to a page. */
const ROWS_PER_PAGE = 7;
const DEFAULT_TABLESPACE = 1663;

/** A stopped cluster with a table. */
export interface PrewarmGround {
  readonly installation: PostgresInstallation;
  readonly directory: string;
  readonly dataDirectory: string;
  readonly relation: Relation;
  /** Path of the table's first segment. */
  readonly path: string;
  readonly blocks: number;
}

const SETTINGS: Readonly<Record<string, string>> = {
  shared_buffers: "128MB",
  wal_level: "minimal",
  max_wal_senders: "0",
  autovacuum: "off",
  max_wal_size: "8GB",
  checkpoint_timeout: "1d",
};

/** Makes the cluster and the table. */
export async function createPrewarmGround(
  installation: PostgresInstallation,
  directory: string,
  blocks: number,
): Promise<PrewarmGround> {
  const initdbArguments = ["--no-sync", ...(installation.major < 18 ? ["--data-checksums"] : [])];
  await using cluster = await PostgresCluster.create({
    installation,
    directory,
    settings: { ...SETTINGS, fsync: "off" },
    initdbArguments,
  });
  await cluster.start();
  const file = await withConnection(cluster, async (connection) => {
    await connection.query("create extension pg_prewarm");
    await connection.query(
      `create table t as select g as id, repeat('x', 1100) as filler from generate_series(1, ${blocks * ROWS_PER_PAGE}) g`,
    );
    await connection.query("checkpoint");
    return await scalar(connection, "select pg_relation_filepath('t')");
  });
  await cluster.stop("fast");
  const [, database = "", relation = ""] = file.split("/");
  const path = join(cluster.dataDirectory, file);
  const found = statSync(path).size / PAGE_BYTES;
  if (found < blocks)
    throw new BenchError("ERR_BENCH_WORK", `the table has ${found} blocks instead of ${blocks}`);
  return {
    installation,
    directory,
    dataDirectory: cluster.dataDirectory,
    relation: { tablespace: DEFAULT_TABLESPACE, database: Number(database), relation: Number(relation) },
    path,
    blocks,
  };
}

/** Drops a file from the page cache, as far as it is written. */
export function makeCold(path: string): void {
  const fd = openSync(path, "r");
  fadvise(fd, 0, 0, FADVISE.dontNeed);
  closeSync(fd);
}

/** Starts the server, times pg_prewarm of the ground's blocks, and stops it. */
export async function prewarm(
  ground: PrewarmGround,
  settings: Readonly<Record<string, string>>,
): Promise<Sample[]> {
  const { installation, directory, blocks } = ground;
  makeCold(ground.path);
  await using cluster = await PostgresCluster.open({
    installation,
    directory,
    settings: { ...SETTINGS, ...settings },
  });
  if (cluster === undefined) throw new BenchError("ERR_BENCH_PROGRAM", "the cluster is gone");
  await cluster.start();
  const sample = await withConnection(cluster, async (connection) => {
    // The statement's own code is loaded before the clock starts.
    await connection.query("select pg_prewarm('pg_class', 'buffer')");
    const start = performance.now();
    const warmed = await scalar(connection, `select pg_prewarm('t', 'buffer', 'main', 0, ${blocks - 1})`);
    const seconds = (performance.now() - start) / 1000;
    if (Number(warmed) !== blocks) throw new BenchError("ERR_BENCH_WORK", `${warmed} blocks were read`);
    return { rate: (blocks * PAGE_BYTES) / 1e6 / seconds, checksum: `${warmed} blocks` };
  });
  await cluster.stop("fast");
  return [sample];
}
