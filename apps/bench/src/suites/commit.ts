/**
 * `commit`: what a commit costs when a quorum of acceptors must have it (goal G20).
 *
 * One PostgreSQL runs from the first round to the last; between runs only `synchronous_standby_names` changes, and with
 * it who must have fsynced a commit: nobody else, `pg_receivewal --synchronous` (the reference: PostgreSQL's own
 * receiver that fsyncs what it gets), one acceptor, or two of three. Whoever is not waited for does not run, so that
 * nobody pays for the others; he catches up before the clock starts, and a warm-up with all clients comes first. All
 * parts are processes of their own on this machine and write to the same file system.
 */
import { spawn } from "node:child_process";
import { chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { quoteLiteral } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import { PostgresCluster, postgresOrSkip, spawnIdentity } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

import { createTables, loadCommand, runLoad, scalar, withConnection } from "../commit-load.js";
import type { Load } from "../commit-load.js";
import type { Contestant, RowSpec, Sample } from "../contest.js";
import { BenchError } from "../errors.js";
import { Program, startAcceptor, startBridge } from "../millrace-process.js";
import type { AcceptorProcess } from "../millrace-process.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const CLIENT_COUNTS = [1, 16] as const;
const RUN_SECONDS = 3;
const WARM_UP_SECONDS = 2;
const QUICK_TRANSACTIONS = 20;
/** A standby that has not caught up by then will not. */
const CATCH_UP_MS = 60_000;
const CATCH_UP_POLL_MS = 20;
const RECEIVER = "bench_receivewal";
/** From this version on pg_stat_wal has no count of syncs. */
const PG_STAT_WAL_WITHOUT_SYNC = 18;

const SETTINGS = {
  wal_level: "replica",
  shared_buffers: "256MB",
  // No checkpoint and no vacuum in the middle of a run: each would hit one side and not the other.
  checkpoint_timeout: "1d",
  max_wal_size: "64GB",
  autovacuum: "off",
  max_wal_senders: "20",
  max_replication_slots: "20",
};

/** Who has to have a commit before it returns. */
interface Mode {
  readonly name: string;
  readonly command: string;
  /** The standby's application name; none: nobody is waited for. */
  readonly standby?: string;
  readonly start?: () => Promise<Program>;
  /** Those that write the WAL, as far as they tell how often they do. */
  readonly acceptors?: readonly AcceptorProcess[];
}

const DURABLE_WRITES = /^safekeeper_wal_durable_writes_total (\d+)/m;

/** How often the acceptors have made WAL durable, on an average. */
async function durableWrites(acceptors: readonly AcceptorProcess[]): Promise<number> {
  const counts = await Promise.all(
    acceptors.map(async ({ http }) => {
      const text = await (await fetch(`${http}/metrics`)).text();
      const found = DURABLE_WRITES.exec(text)?.[1];
      if (found === undefined)
        throw new BenchError("ERR_BENCH_WORK", "an acceptor does not count its writes");
      return Number(found);
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0) / counts.length;
}

/** How often PostgreSQL has made WAL durable itself: each time is a batch of commits. Undefined where it keeps that elsewhere. */
async function flushes(connection: ClientConnection, major: number): Promise<number | undefined> {
  return major >= PG_STAT_WAL_WITHOUT_SYNC
    ? undefined
    : Number(await scalar(connection, "select wal_sync from pg_stat_wal"));
}

/** Runs the load, and notes how many durable writes of an acceptor it took. */
async function runCounted(
  cluster: PostgresCluster,
  connection: ClientConnection,
  load: Load,
  acceptors: readonly AcceptorProcess[] | undefined,
): Promise<Sample> {
  if (acceptors === undefined) return await runLoad(cluster, load);
  const { major } = cluster.installation;
  const [writes, batches] = [await durableWrites(acceptors), await flushes(connection, major)];
  const sample = await runLoad(cluster, load);
  const [writesAfter, batchesAfter] = [await durableWrites(acceptors), await flushes(connection, major)];
  const commits = Number.parseInt(sample.checksum, 10);
  const written = writesAfter - writes;
  const details = {
    ...sample.details,
    durableWritesPerCommit: written / commits,
    ...(batches === undefined || batchesAfter === undefined
      ? {}
      : { durableWritesPerBatch: written / (batchesAfter - batches) }),
  };
  return { ...sample, details };
}

function loads(quick: boolean): Load[] {
  return CLIENT_COUNTS.map((clients) =>
    quick ? { clients, transactions: QUICK_TRANSACTIONS } : { clients, seconds: RUN_SECONDS },
  );
}

async function waitUntil(what: string, isTrue: () => Promise<boolean>, program?: Program): Promise<void> {
  const deadline = performance.now() + CATCH_UP_MS;
  let isLost = false;
  void program?.ended.then(() => {
    isLost = true;
  });
  while (!(await isTrue())) {
    if (isLost) await program?.lost();
    if (performance.now() > deadline) throw new BenchError("ERR_BENCH_PROGRAM", `${what} takes too long`);
    await new Promise((resolve) => setTimeout(resolve, CATCH_UP_POLL_MS));
  }
}

/** Whether the standby is the one that is waited for, and has everything. */
function isCaughtUp(connection: ClientConnection, standby: string): Promise<boolean> {
  const sql = `select coalesce(bool_or(sync_state = 'sync' and flush_lsn >= pg_current_wal_flush_lsn()), false)
    from pg_stat_replication where application_name = ${quoteLiteral(standby)}`;
  return scalar(connection, sql).then((value) => value === "t");
}

/** Makes PostgreSQL wait for `standby`, or for nobody. */
async function waitFor(connection: ClientConnection, standby: string | undefined): Promise<void> {
  const names = standby === undefined ? "" : `FIRST 1 (${standby})`;
  await connection.query(`alter system set synchronous_standby_names = ${quoteLiteral(names)}`);
  await connection.query(
    `alter system set synchronous_commit = ${quoteLiteral(standby === undefined ? "local" : "on")}`,
  );
  await connection.query("select pg_reload_conf()");
  await waitUntil("the new setting", async () => {
    const shown = await scalar(connection, "show synchronous_standby_names");
    return shown === names;
  });
}

/** Runs one mode: starts its receiver, lets it catch up, warms up, measures, and ends it again. */
async function runMode(cluster: PostgresCluster, mode: Mode, quick: boolean): Promise<Sample[]> {
  return await withConnection(cluster, async (connection) => {
    const program = await mode.start?.();
    try {
      await waitFor(connection, mode.standby);
      const { standby } = mode;
      if (standby !== undefined) {
        await waitUntil(`${mode.name}: catching up`, () => isCaughtUp(connection, standby), program);
      }
      if (!quick) await runLoad(cluster, { clients: Math.max(...CLIENT_COUNTS), seconds: WARM_UP_SECONDS });
      const samples: Sample[] = [];
      for (const load of loads(quick)) {
        samples.push(await runCounted(cluster, connection, load, mode.acceptors));
      }
      if (standby !== undefined && !(await isCaughtUp(connection, standby))) {
        throw new BenchError("ERR_BENCH_WORK", `${mode.name}: acknowledged commits are not with the standby`);
      }
      return samples;
    } finally {
      await waitFor(connection, undefined);
      await program?.stop("SIGINT");
    }
  });
}

/** PostgreSQL's receiver with a slot, so that it goes on where it was. */
function startReceiver(cluster: PostgresCluster, directory: string): Program {
  const { installation, socketDirectory, port, user } = cluster;
  const connection = `host=${socketDirectory} port=${port} user=${user} application_name=${RECEIVER}`;
  const args = ["--synchronous", "--no-loop", `--slot=${RECEIVER}`, "-D", directory, "-d", connection];
  const child = spawn(installation.tool("pg_receivewal") ?? "pg_receivewal", args, {
    ...spawnIdentity(),
    cwd: "/",
    env: { ...process.env, LC_ALL: "C" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return new Program("pg_receivewal", child);
}

function modesOf(cluster: PostgresCluster, directory: string, acceptors: readonly AcceptorProcess[]): Mode[] {
  const bridge = (count: 1 | 3): Mode => {
    // The single acceptor is one of its own: the trio's disks stay out of its way, and it out of theirs.
    const used = count === 1 ? acceptors.slice(3) : acceptors.slice(0, 3);
    const name = `bench_${count}`;
    return {
      name: `millrace-${count}`,
      command: `millrace bridge and ${count} × millrace acceptor`,
      standby: name,
      acceptors: used,
      start: () =>
        startBridge({
          postgresUrl: cluster.url(),
          acceptors: used,
          timeline: String(count).padStart(32, "0"),
          applicationName: name,
        }),
    };
  };
  const modes: Mode[] = [bridge(1), bridge(3), { name: "local", command: "synchronous_commit = local" }];
  if (cluster.installation.tool("pg_receivewal") === undefined) return modes;
  const receiver: Mode = {
    name: "pg_receivewal",
    command: "pg_receivewal --synchronous --slot",
    standby: RECEIVER,
    start: () => Promise.resolve(startReceiver(cluster, directory)),
  };
  return [receiver, ...modes];
}

const QUESTIONS = {
  "millrace-1": ["1 acceptor", "What does a commit cost that one acceptor must have fsynced?"],
  "millrace-3": ["3 acceptors", "What does a commit cost that two of three acceptors must have fsynced?"],
  local: ["local commit", "What would a commit cost that waits for nobody else?"],
} as const;

function rowSpecs(modes: readonly Mode[]): RowSpec[] {
  // Without PostgreSQL's own receiver the local commit is the only thing left to compare with.
  const reference = modes.some(({ name }) => name === "pg_receivewal") ? "pg_receivewal" : "local";
  const goal = reference === "local" ? {} : { goal: { ratio: 1 } };
  const specs: RowSpec[] = [];
  for (const [measure, clients] of CLIENT_COUNTS.entries()) {
    for (const candidate of ["millrace-1", "millrace-3", "local"] as const) {
      if (candidate === reference) continue;
      const [name, question] = QUESTIONS[candidate];
      specs.push({
        id: "G20",
        name: `${name}, ${clients} ${clients === 1 ? "client" : "clients"}`,
        question,
        unit: "commits/s",
        reference,
        candidate,
        measure,
        judge: "median",
        cache: "database in memory",
        ...(candidate === "local" ? {} : goal),
      });
    }
  }
  return specs;
}

async function prepare(cluster: PostgresCluster, directory: string): Promise<void> {
  mkdirSync(directory);
  const { uid, gid } = spawnIdentity();
  if (uid !== undefined && gid !== undefined) chownSync(directory, uid, gid);
  await createTables(cluster);
  await withConnection(cluster, (connection) =>
    connection.query(`select pg_create_physical_replication_slot('${RECEIVER}', true)`),
  );
}

async function measure(
  context: BenchContext,
  installation: PostgresInstallation,
  directory: string,
): ReturnType<Suite["run"]> {
  await using cluster = await PostgresCluster.create({
    installation,
    directory: join(directory, "postgres"),
    settings: SETTINGS,
    initdbArguments: context.quick ? ["--no-sync"] : [],
  });
  await cluster.start();
  const received = join(directory, "received");
  await prepare(cluster, received);
  const acceptors: AcceptorProcess[] = [];
  try {
    for (const id of [1, 2, 3, 4]) {
      acceptors.push(await startAcceptor(join(directory, `acceptor-${id}`), id));
    }
    const modes = modesOf(cluster, received, acceptors);
    const contestants = modes.map((mode): Contestant => ({
      name: mode.name,
      command: `${mode.command}; ${loadCommand(cluster)}`,
      run: () => runMode(cluster, mode, context.quick),
    }));
    const rows = await runContest(context, contestants, rowSpecs(modes));
    const length = context.quick
      ? `${QUICK_TRANSACTIONS} transactions a client`
      : `${RUN_SECONDS} s after ${WARM_UP_SECONDS} s`;
    return {
      method: [
        `${installation.flavour} PostgreSQL ${installation.version}, fsync on, ${loadCommand(cluster)} at scale 1, ${length}`,
      ],
      rows,
    };
  } finally {
    await Promise.all(acceptors.map(({ program }) => program.stop()));
  }
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { installation, skip } = postgresOrSkip();
  if (installation === undefined) return { method: [], rows: [], skipped: skip };
  return await withWorkDirectory(context.directory, (directory) => measure(context, installation, directory));
}

export const commitSuite: Suite = {
  name: "commit",
  question: "How many transactions a second commit, depending on who must have fsynced them?",
  run,
};
