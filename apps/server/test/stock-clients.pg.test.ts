/**
 * Clients that nobody here wrote, reading from acceptors: pg_receivewal, and PostgreSQL itself as a standby.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { parseLsn, segmentFileName, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect, parseConnectionUrl, quoteLiteral } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import {
  PostgresCluster,
  postgresOrSkip,
  runPostgresTool,
  temporaryDirectory,
} from "@millrace/postgres-process";

import { SmallCluster } from "./small-cluster.js";
import type { TestAcceptor } from "./small-cluster.js";
import {
  acceptorAt,
  applied,
  connected,
  conninfo,
  giveToServer,
  RunningTool,
  standbySettings,
  timelineOf,
  until,
  value,
} from "./stock-client.js";

const SEGMENT_BYTES = 1024 * 1024;
const { installation, skip } = postgresOrSkip("system");

/** Resolves once the acceptor has committed WAL up to the primary's end at the moment of the call. */
async function committed(cluster: SmallCluster, acceptor: TestAcceptor): Promise<Lsn> {
  await using sql = await cluster.sql();
  await sql.query("select pg_switch_wal()");
  const end = parseLsn(await value(sql, "select pg_current_wal_lsn()"));
  // A commit behind it: its return means that the quorum has everything before.
  await sql.query("insert into t select generate_series(1, 10)");
  const { commitWatch } = timelineOf(acceptor);
  for (let { version } = commitWatch; commitWatch.value < end; version = await commitWatch.changed(version));
  return end;
}

/** Runs INSERTs until it is stopped. */
function load(cluster: SmallCluster): { stop(): Promise<number> } {
  const stop = new AbortController();
  const done = (async () => {
    await using sql = await cluster.sql();
    let rows = 0;
    for (; !stop.signal.aborted; rows += 500) await sql.query("insert into t select generate_series(1, 500)");
    return rows;
  })();
  return {
    stop: () => {
      stop.abort();
      return done;
    },
  };
}

/** Makes the primary fill so many segments. */
async function writeSegments(sql: ClientConnection, count: number): Promise<void> {
  const first = parseLsn(await value(sql, "select pg_current_wal_lsn()"));
  const target = first + BigInt(count * SEGMENT_BYTES);
  while (parseLsn(await value(sql, "select pg_current_wal_lsn()")) < target) {
    await sql.query("insert into t select generate_series(1, 2000)");
  }
}

const RECEIVERS: readonly (readonly [name: string, slot: string | undefined, args: readonly string[]])[] = [
  ["without a slot", undefined, []],
  ["with a slot", "archive", ["--slot", "archive"]],
  ["with a slot and --synchronous", "archive", ["--slot", "archive", "--synchronous"]],
];

// Aim: pg_receivewal archives from an acceptor what the primary wrote. Method: it runs under load until it has
// finished everything up to a position that a commit covers; its segments are compared with those in pg_wal.
test.skipIf(skip !== "").each(RECEIVERS)(
  "pg_receivewal %s archives the primary's segments from an acceptor",
  { timeout: 120_000 },
  async (_name, slot, args) => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    const acceptor = acceptorAt(cluster, 1);
    await using sql = await cluster.sql();
    await sql.query("create table t (i int)");
    const archive = join(directory.path, "archive");
    await mkdir(archive, { mode: 0o777 });
    await giveToServer(archive);
    const target = ["--directory", archive, "--dbname", conninfo(acceptor), "--no-loop"];
    if (slot !== undefined) {
      const made = await runPostgresTool(installation, "pg_receivewal", [
        "--dbname",
        conninfo(acceptor),
        "--slot",
        slot,
        "--create-slot",
      ]);
      expect(made).toMatchObject({ code: 0, stderr: "" });
    }
    const firstSegment = segmentNumber(timelineOf(acceptor).state.commitLsn, SEGMENT_BYTES);
    const writing = load(cluster);
    await using receiver = new RunningTool(installation, "pg_receivewal", [...target, ...args]);
    await Promise.race([connected(acceptor), receiver.failed]);
    await writeSegments(sql, 3);
    await writing.stop();
    const end = await committed(cluster, acceptor);
    const lastSegment = segmentNumber(end, SEGMENT_BYTES) - 1n;
    const archived = until(acceptor, ({ senders, slots }) => {
      const written = senders.list().every(({ writeLsn }) => writeLsn >= end);
      return written && (!args.includes("--synchronous") || (slots.get("archive")?.restartLsn ?? 0n) >= end);
    });
    await Promise.race([archived, receiver.failed]);
    receiver.interrupt();
    expect(await receiver.exited).toBe(0);
    // The one thing it has to say: the segment it was in the middle of stays partial.
    expect(receiver.stderr).toMatch(
      /^pg_receivewal: not renaming "[0-9A-F]{24}\.partial", segment is not complete\n$/,
    );

    const names = (await readdir(archive)).toSorted();
    for (let segno = firstSegment; segno <= lastSegment; segno += 1n) {
      const name = segmentFileName(1, segno, SEGMENT_BYTES);
      expect(names).toContain(name);
      const found = await readFile(join(archive, name));
      const wanted = await readFile(join(cluster.postgres.dataDirectory, "pg_wal", name));
      expect(`${name} ${Buffer.compare(found, wanted)}`).toBe(`${name} 0`);
    }
    expect(lastSegment - firstSegment).toBeGreaterThanOrEqual(3n);
  },
);

/** A base backup of the primary that streams from an acceptor once it is started. */
async function createStandby(
  cluster: SmallCluster,
  directory: string,
  primaryConninfo: string,
): Promise<PostgresCluster> {
  const postgres = cluster.postgres.installation;
  await mkdir(directory);
  await giveToServer(directory);
  const data = join(directory, "data");
  const made = await runPostgresTool(postgres, "pg_basebackup", [
    "--dbname",
    cluster.postgres.url(),
    "--pgdata",
    data,
    "--checkpoint=fast",
    "--no-sync",
    // Every byte of WAL has to come from an acceptor.
    "--wal-method=none",
  ]);
  expect(made).toMatchObject({ code: 0 });
  const signal = join(data, "standby.signal");
  await writeFile(signal, "");
  await giveToServer(signal);
  const standby = await PostgresCluster.open({
    installation: postgres,
    directory,
    settings: standbySettings(primaryConninfo),
  });
  if (standby === undefined) throw new Error("pg_basebackup made no data directory");
  return standby;
}

// Aim: a stock standby can live on acceptors alone: it never shows what the quorum has not got, and goes on at another
// acceptor where it stopped at the first. Method: with the disks of two acceptors held, a row is durable on the one
// that feeds the standby and must stay invisible over a whole round of keepalive and report; then the disks are
// released. Then primary_conninfo is changed, and the first acceptor taken away.
test.skipIf(skip !== "")(
  "a standby streams from an acceptor, sees only what is committed, and can be moved",
  { timeout: 180_000 },
  async () => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    const [first, second, third] = [0, 1, 2].map((index) => acceptorAt(cluster, index)) as [
      TestAcceptor,
      TestAcceptor,
      TestAcceptor,
    ];
    await using writer = await cluster.sql();
    await using observer = await cluster.sql();
    await writer.query("create table t (i int)");
    await using standby = await createStandby(
      cluster,
      join(directory.path, "standby"),
      conninfo(first, "application_name=standby"),
    );
    await writer.query("insert into t values (1)");
    const before = parseLsn(await value(observer, "select pg_current_wal_flush_lsn()"));
    await standby.start();
    await using reader = await connect(parseConnectionUrl(standby.url()));
    await applied(first, before);
    expect(await value(reader, "select count(*) from t")).toBe("1");
    const [slot] = timelineOf(first).readers.slots.list();
    expect(slot).toMatchObject({
      temporary: true,
      name: expect.stringMatching(/^pg_walreceiver_\d+$/) as string,
    });
    await until(first, () => timelineOf(first).feedback.hotStandby.xmin > 0n);

    second.disk.hold();
    third.disk.hold();
    const insert = writer.query("insert into t values (2)");
    await Promise.all([second.disk.arrived(), third.disk.arrived()]);
    const waiting = `select coalesce(wait_event, '') from pg_stat_activity where pid = ${writer.processId}`;
    while ((await value(observer, waiting)) !== "SyncRep");
    const inserted = parseLsn(await value(observer, "select pg_current_wal_flush_lsn()"));
    const { logEndWatch } = timelineOf(first);
    for (let { version } = logEndWatch; logEndWatch.value.flushLsn < inserted;)
      version = await logEndWatch.changed(version);
    // Two reports: the second was certainly sent after the WAL was durable here.
    const { changes } = timelineOf(first).readers.senders;
    for (let round = 0; round < 2; round += 1) await changes.changed(changes.version);
    const received = parseLsn(await value(reader, "select pg_last_wal_receive_lsn()"));
    expect(received).toBeLessThanOrEqual(timelineOf(first).state.commitLsn);
    expect(received).toBeLessThan(inserted);
    expect(await value(reader, "select count(*) from t")).toBe("1");

    second.disk.release();
    third.disk.release();
    await insert;
    await applied(first, inserted);
    expect(await value(reader, "select count(*) from t")).toBe("2");

    await reader.query(`alter system set primary_conninfo = ${quoteLiteral(conninfo(second))}`);
    await reader.query("select pg_reload_conf()");
    await connected(second);
    await first.stop();
    await writer.query("insert into t values (3)");
    const moved = parseLsn(await value(observer, "select pg_current_wal_flush_lsn()"));
    await applied(second, moved);
    expect(await value(reader, "select count(*) from t")).toBe("3");
    await standby.stop("fast");
    await until(second, ({ senders, slots }) => senders.size === 0 && slots.size === 0);
  },
);
