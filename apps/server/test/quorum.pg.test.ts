/**
 * The promise itself, with a real PostgreSQL: a commit returns when, and only when, two of three acceptors have
 * made it durable.
 */
import { join } from "node:path";
import { expect, test } from "vitest";

import { parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresChoice } from "@millrace/postgres-process";

import { compareWal } from "../src/demo/wal-comparison.js";
import { SmallCluster, TENANT, TIMELINE } from "./small-cluster.js";
import type { TestAcceptor } from "./small-cluster.js";

const SERVERS: readonly PostgresChoice[] = ["system", "embedded"];

async function value(sql: ClientConnection, query: string): Promise<string> {
  const [result] = await sql.query(query);
  return result?.rows[0]?.[0] ?? "";
}

/** Resolves once the backend waits for the synchronous standby: PostgreSQL's own word that the commit has not returned. */
async function waitsForStandby(observer: ClientConnection, backend: number): Promise<void> {
  const query = `select coalesce(wait_event, '') from pg_stat_activity where pid = ${backend}`;
  while ((await value(observer, query)) !== "SyncRep");
}

/** Resolves once the acceptor has made WAL up to `lsn` durable. */
async function reaches(acceptor: TestAcceptor | undefined, lsn: Lsn): Promise<void> {
  const watch = acceptor?.node.timelines.get(TENANT, TIMELINE).logEndWatch;
  if (watch === undefined) throw new Error("no such acceptor");
  for (;;) {
    const { version, value: end } = watch;
    if (end.flushLsn >= lsn) return;
    await watch.changed(version);
  }
}

/** A promise that can be asked whether it has settled. */
function watched<T>(promise: Promise<T>): { readonly promise: Promise<T>; readonly settled: () => boolean } {
  let done = false;
  const mark = (): void => {
    done = true;
  };
  promise.then(mark, mark);
  return { promise, settled: () => done };
}

for (const choice of SERVERS) {
  const { installation, skip } = postgresOrSkip(choice);
  const name = typeof choice === "string" ? choice : "";

  // Aim: no commit returns on the word of one disk. Method: hold fdatasync of two acceptors; wait until both are asked
  // to sync and PostgreSQL says that the commit waits; the third one's sync must not be enough. Then release one.
  test.skipIf(skip !== "")(`with fsync of two acceptors held, no commit returns (${name})`, async () => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    const [first, second, third] = cluster.acceptors;
    await using writer = await cluster.sql();
    await using observer = await cluster.sql();
    await writer.query("create table t (i int)");

    second?.disk.hold();
    third?.disk.hold();
    const insert = watched(writer.query("insert into t values (1)"));
    await Promise.all([second?.disk.arrived(), third?.disk.arrived()]);
    await waitsForStandby(observer, writer.processId);
    const inserted = parseLsn(await value(observer, "select pg_current_wal_flush_lsn()"));
    await reaches(first, inserted);
    await waitsForStandby(observer, writer.processId);
    expect(insert.settled()).toBe(false);
    expect(await value(observer, "select count(*) from t")).toBe("0");

    third?.disk.release();
    await insert.promise;
    expect(await value(observer, "select count(*) from t")).toBe("1");
  });

  // Aim: without a quorum a commit hangs, and one acceptor's return releases it. Method: take two away while
  // PostgreSQL runs; wait until it says that the commit waits; bring one back with its data.
  test.skipIf(skip !== "")(
    `with two acceptors down an INSERT hangs until one is back (${name})`,
    async () => {
      if (installation === undefined) return;
      await using directory = await temporaryDirectory();
      await using cluster = await SmallCluster.create(installation, directory.path);
      const [, second, third] = cluster.acceptors;
      await using writer = await cluster.sql();
      await using observer = await cluster.sql();
      await writer.query("create table t (i int)");

      await Promise.all([second?.stop(), third?.stop()]);
      const insert = watched(writer.query("insert into t select generate_series(1, 1000)"));
      await waitsForStandby(observer, writer.processId);
      expect(insert.settled()).toBe(false);

      await second?.start();
      await insert.promise;
      expect(await value(observer, "select count(*) from t")).toBe("1000");
    },
  );

  // Aim: everything that was acknowledged survives a stop of all parts, the log goes on where it was, and all three
  // acceptors hold PostgreSQL's bytes. Method: two runs on the same data with a term each; compare the whole range.
  test.skipIf(skip !== "")(`a second run on the same data goes on, byte for byte (${name})`, async () => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    {
      await using writer = await cluster.sql();
      await writer.query("create table t (i int)");
      await writer.query("insert into t select generate_series(1, 20000)");
    }
    const firstTerm = cluster.bridge.status().term;
    await cluster.stop();
    await cluster.start();
    expect(cluster.bridge.status().term).toBe(firstTerm + 1n);

    await using writer = await cluster.sql();
    await writer.query("insert into t select generate_series(1, 20000)");
    expect(await value(writer, "select count(*) from t")).toBe("40000");
    const endLsn = parseLsn(await value(writer, "select pg_current_wal_flush_lsn()"));
    // A flush position can be in the middle of a record; one more commit brings everybody past it.
    await writer.query("insert into t values (0)");
    for (const acceptor of cluster.acceptors) {
      await reaches(acceptor, endLsn);
      const { timelineStartLsn, server } = acceptor.node.timelines.get(TENANT, TIMELINE).status();
      const comparison = await compareWal(
        {
          name: "PostgreSQL",
          directory: join(cluster.postgres.dataDirectory, "pg_wal"),
          timelineId: 1,
          partial: false,
        },
        {
          name: `acceptor ${acceptor.nodeId}`,
          directory: join(acceptor.directory, TENANT, TIMELINE),
          timelineId: 1,
          partial: true,
        },
        timelineStartLsn,
        endLsn,
        server.segmentBytes,
      );
      expect(comparison).toMatchObject({ equal: true, bytes: Number(endLsn - timelineStartLsn) });
    }
  });
}
