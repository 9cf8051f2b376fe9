/**
 * The load of the suite `commit`: pgbench's simple-update transaction, by pgbench or by an own client.
 *
 * One transaction is BEGIN, an UPDATE of one of 100,000 rows, a SELECT of it, an INSERT, END: `pgbench -N` at scale 1.
 * Where there is no pgbench (an embedded PostgreSQL), the same statements are sent one by one over pg-wire. Either way
 * the number of transactions is compared with the rows that the history table has gained, so that only commits count.
 */
import { chownSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import { runPostgresTool, spawnIdentity } from "@millrace/postgres-process";
import type { PostgresCluster } from "@millrace/postgres-process";

import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { percentile } from "./statistics.js";

const ROWS = 100_000;
const TELLERS = 10;

/** pgbench's tables at scale 1, as far as its simple-update transaction uses them. */
const SCHEMA = `
  create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
  create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
  create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)) with (fillfactor = 90);
  create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
  insert into pgbench_branches values (1, 0);
  insert into pgbench_tellers select t, 1, 0 from generate_series(1, ${TELLERS}) t;
  insert into pgbench_accounts select a, 1, 0, '' from generate_series(1, ${ROWS}) a;
  vacuum analyze;`;

/** Who commits, and for how long: seconds, or, for a smoke test, transactions of each client. */
export interface Load {
  readonly clients: number;
  readonly seconds?: number;
  readonly transactions?: number;
}

/** Runs `work` on a connection of its own. */
export async function withConnection<T>(
  cluster: PostgresCluster,
  work: (connection: ClientConnection) => Promise<T>,
): Promise<T> {
  const connection = await connect(parseConnectionUrl(cluster.url()));
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

/** The first value of the first row, "" for NULL or none. */
export async function scalar(connection: ClientConnection, sql: string): Promise<string> {
  const results = await connection.query(sql);
  return results[0]?.rows[0]?.[0] ?? "";
}

/** Makes the tables. */
export async function createTables(cluster: PostgresCluster): Promise<void> {
  await withConnection(cluster, async (connection) => {
    for (const statement of SCHEMA.split(";")) await connection.query(statement);
  });
}

interface LoadOutcome {
  readonly transactions: number;
  readonly tps: number;
  readonly latenciesMs: readonly number[];
}

/** Runs pgbench in a directory of its own, where it leaves one line for each transaction. */
async function runPgbench(cluster: PostgresCluster, load: Load): Promise<LoadOutcome> {
  const directory = join(cluster.directory, "pgbench");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  const { uid, gid } = spawnIdentity();
  if (uid !== undefined && gid !== undefined) chownSync(directory, uid, gid);
  const length =
    load.seconds === undefined ? ["-t", String(load.transactions)] : ["-T", String(load.seconds)];
  const args = ["-n", "-N", "-l", "-M", "simple", "-c", String(load.clients), "-j", "1", ...length];
  const server = ["-h", cluster.socketDirectory, "-p", String(cluster.port), "-U", cluster.user, "postgres"];
  const { stdout, stderr, code } = await runPostgresTool(
    cluster.installation,
    "pgbench",
    [...args, ...server],
    {
      directory,
    },
  );
  const tps = Number(/^tps = ([0-9.]+)/m.exec(stdout)?.[1]);
  if (code !== 0 || !(tps > 0))
    throw new BenchError("ERR_BENCH_PROGRAM", `pgbench failed: ${stderr || stdout}`);
  // client transaction latency-µs script epoch µs
  const lines = readdirSync(directory).flatMap((file) =>
    readFileSync(join(directory, file), "latin1").trim().split("\n"),
  );
  const latenciesMs = lines.map((line) => Number(line.split(" ")[2]) / 1000);
  return { transactions: latenciesMs.length, tps, latenciesMs };
}

async function runClient(connection: ClientConnection, client: number, load: Load): Promise<number[]> {
  const latenciesMs: number[] = [];
  const deadline = performance.now() + (load.seconds ?? Number.POSITIVE_INFINITY) * 1000;
  for (let index = 0; index < (load.transactions ?? Number.POSITIVE_INFINITY); index += 1) {
    const start = performance.now();
    if (start >= deadline) break;
    // Scattered by a multiplier that shares no factor with ROWS, the same in every run.
    const aid = (((client * 7919 + index) * 61_417) % ROWS) + 1;
    const [tid, delta] = [(index % TELLERS) + 1, (index % 9999) - 5000];
    await connection.query("begin");
    await connection.query(`update pgbench_accounts set abalance = abalance + ${delta} where aid = ${aid}`);
    await connection.query(`select abalance from pgbench_accounts where aid = ${aid}`);
    await connection.query(
      `insert into pgbench_history (tid, bid, aid, delta, mtime) values (${tid}, 1, ${aid}, ${delta}, current_timestamp)`,
    );
    await connection.query("end");
    latenciesMs.push(performance.now() - start);
  }
  return latenciesMs;
}

async function runClients(cluster: PostgresCluster, load: Load): Promise<LoadOutcome> {
  const connections = await Promise.all(
    Array.from({ length: load.clients }, () => connect(parseConnectionUrl(cluster.url()))),
  );
  try {
    const start = performance.now();
    const all = await Promise.all(
      connections.map((connection, client) => runClient(connection, client, load)),
    );
    const latenciesMs = all.flat();
    const seconds = (performance.now() - start) / 1000;
    return { transactions: latenciesMs.length, tps: latenciesMs.length / seconds, latenciesMs };
  } finally {
    await Promise.all(connections.map((connection) => connection.close()));
  }
}

/** What runs the load on this cluster, for the row's command. */
export function loadCommand(cluster: PostgresCluster): string {
  return cluster.installation.tool("pgbench") === undefined
    ? "own client with pgbench's simple-update statements"
    : "pgbench -n -N -M simple -j 1";
}

/**
 * Runs the load and gives its rate in transactions a second.
 *
 * @throws {BenchError} ERR_BENCH_WORK when the table has not gained exactly the rows of the transactions
 */
export async function runLoad(cluster: PostgresCluster, load: Load): Promise<Sample> {
  const count = async (): Promise<number> =>
    await withConnection(cluster, async (connection) =>
      Number(await scalar(connection, "select count(*) from pgbench_history")),
    );
  const before = await count();
  const withPgbench = cluster.installation.tool("pgbench") !== undefined;
  const { transactions, tps, latenciesMs } = await (withPgbench ? runPgbench : runClients)(cluster, load);
  const gained = (await count()) - before;
  if (gained !== transactions) {
    throw new BenchError("ERR_BENCH_WORK", `${transactions} transactions left ${gained} rows`);
  }
  const details = { p50Ms: percentile(latenciesMs, 0.5), p99Ms: percentile(latenciesMs, 0.99) };
  return { rate: tps, checksum: `${gained} rows`, details };
}
