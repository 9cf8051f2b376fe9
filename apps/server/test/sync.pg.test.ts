/**
 * `millrace sync` on real acceptors: when it ends, what it leaves, and what the bridge that was there before can still do.
 */
import { join } from "node:path";
import { expect, test } from "vitest";

import { formatLsn, parseLsn } from "@millrace/lsn";
import { postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresChoice } from "@millrace/postgres-process";

import { EXIT } from "../src/errors.js";
import { formatHostPort } from "../src/configuration/values.js";
import { MillraceProcess } from "./millrace-process.js";
import { SmallCluster, TENANT, TestAcceptor, TIMELINE } from "./small-cluster.js";
import { acceptorAt, timelineOf, value } from "./stock-client.js";

const SERVERS: readonly PostgresChoice[] = ["system", "embedded"];

/** The command on these acceptors. */
function sync(acceptors: readonly TestAcceptor[], ...more: readonly string[]): MillraceProcess {
  const list = acceptors.map(({ address }) => formatHostPort(address)).join(",");
  const args = ["--acceptors", list, "--tenant", TENANT, "--timeline", TIMELINE, "--log-level", "fatal"];
  return new MillraceProcess(["sync", ...args, ...more]);
}

for (const choice of SERVERS) {
  const { installation, skip } = postgresOrSkip(choice);
  const name = typeof choice === "string" ? choice : "";

  // Aim: after the command a quorum has the position on disk, and the old bridge's commits wait. Method: everybody has all
  // WAL, which is when there is least to do; acceptors persist their commit position only now and then by themselves.
  test.skipIf(skip !== "")(`sync fences the bridge and leaves the commit on disks (${name})`, async () => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    await using writer = await cluster.sql();
    await using observer = await cluster.sql();
    await writer.query("create table t (i int)");
    const { term } = cluster.bridge.status();

    await using command = sync(cluster.acceptors, "--json");
    expect(await command.ended).toBe(EXIT.ok);
    const persisted = cluster.acceptors.map((acceptor) => timelineOf(acceptor).status().persistedCommitLsn);
    const told = JSON.parse(command.output) as { readonly lsn: string; readonly term: number };
    expect(BigInt(told.term)).toBe(term + 1n);
    const lsn = parseLsn(told.lsn);
    expect(lsn).toBeGreaterThanOrEqual(cluster.bridge.status().commitLsn);
    expect(persisted.filter((commitLsn) => commitLsn >= lsn).length).toBeGreaterThanOrEqual(2);

    const insert = writer.query("insert into t values (1)");
    insert.catch(() => undefined); // its connection goes with PostgreSQL, at the end
    expect(await cluster.bridge.closed).toMatchObject({ reason: "higher_term" });
    const waiting = `select coalesce(wait_event, '') from pg_stat_activity where pid = ${writer.processId}`;
    while ((await value(observer, waiting)) !== "SyncRep");
    expect(await value(observer, "select count(*) from t")).toBe("0");
    for (const acceptor of cluster.acceptors) expect(timelineOf(acceptor).state.commitLsn).toBe(lsn);
  });

  // Aim: an acceptor that missed WAL gets it from one that has it, without any PostgreSQL. Method: it is away while rows
  // are written, and comes back when bridge and PostgreSQL are gone.
  test.skipIf(skip !== "")(`sync feeds an acceptor that lags from another one (${name})`, async () => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using cluster = await SmallCluster.create(installation, directory.path);
    const third = acceptorAt(cluster, 2);
    await third.stop();
    {
      await using writer = await cluster.sql();
      await writer.query("create table t as select generate_series(1, 50000) i");
    }
    await cluster.postgres.kill();
    await cluster.bridge.close({ immediate: true });
    await third.start();
    const { flushLsn: before, timelineStartLsn } = timelineOf(third).status();

    await using command = sync(cluster.acceptors);
    expect(await command.ended).toBe(EXIT.ok);
    const lsn = parseLsn(command.output.split("\n", 1)[0] ?? "");
    expect(command.output).toContain(`Let a standby replay up to ${formatLsn(lsn)} before it is promoted.`);
    expect(before).toBeLessThan(lsn - 1_000_000n);
    const digests = cluster.acceptors.map((acceptor) => {
      expect(timelineOf(acceptor).status()).toMatchObject({ flushLsn: lsn, persistedCommitLsn: lsn });
      return timelineOf(acceptor).digest(timelineStartLsn, lsn);
    });
    expect(new Set(await Promise.all(digests)).size).toBe(1);
  });
}

// Aim: where there is no log none is begun, and the code tells why nothing was agreed. Method: timelines without WAL, no
// timeline, and nobody there.
test("sync begins no log, and says why it failed", async () => {
  await using directory = await temporaryDirectory();
  const acceptors = [1n, 2n, 3n].map((id) => new TestAcceptor(join(directory.path, `acceptor-${id}`), id));
  await Promise.all(acceptors.map((acceptor) => acceptor.start()));
  try {
    await using absent = sync(acceptors);
    expect([await absent.ended, absent.output]).toEqual([
      EXIT.failure,
      "millrace: the acceptors could not be brought into agreement: empty_timeline: no acceptor has the timeline\n",
    ]);
    const server = { pgVersion: 150_018, systemId: 7n, segmentBytes: 1024 * 1024 };
    const members = acceptors.map(({ nodeId, address }) => ({ nodeId, ...address }));
    const configuration = { generation: 1, members, newMembers: [] };
    const key = { tenantId: TENANT, timelineId: TIMELINE, configuration };
    for (const { node } of acceptors) await node.timelines.create({ ...key, ...server });
    await using empty = sync(acceptors);
    expect(await empty.ended).toBe(EXIT.failure);
    expect(empty.output).toContain("empty_timeline: no acceptor has any WAL");
    for (const acceptor of acceptors) {
      const { acceptorState, flushLsn, commitLsn } = timelineOf(acceptor).status();
      expect({ ...acceptorState, flushLsn, commitLsn }).toMatchObject({
        termHistory: [],
        flushLsn: 0n,
        commitLsn: 0n,
      });
    }
  } finally {
    await Promise.all(acceptors.map((acceptor) => acceptor.stop()));
  }
  await using alone = sync(acceptors, "--timeout-ms", "1000");
  expect(await alone.ended).toBe(EXIT.unavailable);
  expect(alone.output).toMatch(
    /timeout: no acceptor tells of the timeline \(127\.0\.0\.1:\d+: .*ECONNREFUSED/,
  );
});
