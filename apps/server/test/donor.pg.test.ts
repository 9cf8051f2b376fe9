/**
 * An acceptor that PostgreSQL can no longer serve, with real acceptors: another one gives it what it lacks.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { segmentFileName, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresChoice } from "@millrace/postgres-process";

import { NoticeWatch } from "./notices.js";
import { SmallCluster } from "./small-cluster.js";
import type { TestAcceptor } from "./small-cluster.js";
import { acceptorAt, timelineOf } from "./stock-client.js";

const SERVERS: readonly PostgresChoice[] = ["system", "embedded"];
const SEGMENT_BYTES = 1024 * 1024;
const COMMIT = "select pg_logical_emit_message(true, 'test', repeat('x', 200000))";

/** Resolves once the acceptor has made WAL up to `lsn` durable. */
async function reaches(acceptor: TestAcceptor, lsn: Lsn): Promise<void> {
  const { logEndWatch } = timelineOf(acceptor);
  for (let { version } = logEndWatch; logEndWatch.value.flushLsn < lsn;)
    version = await logEndWatch.changed(version);
}

for (const choice of SERVERS) {
  const { installation, skip } = postgresOrSkip(choice);
  const name = typeof choice === "string" ? choice : "";

  // Aim: an acceptor that was away for longer than PostgreSQL keeps WAL gets all of it, from an acceptor, and neither the
  // term nor a commit suffers. Method: megabytes and checkpoints pass a slot limit of 1 MB and a small ring while it is
  // away; the segment it needs next is gone from pg_wal when it comes back.
  test.skipIf(skip !== "")(
    `an acceptor is fed by another one when PostgreSQL has removed its WAL (${name})`,
    { timeout: 60_000 },
    async () => {
      if (installation === undefined) return;
      await using directory = await temporaryDirectory();
      using watch = new NoticeWatch();
      await using cluster = await SmallCluster.create(installation, directory.path, {
        settings: {
          wal_keep_size: "0",
          max_slot_wal_keep_size: "1MB",
          max_wal_size: "2MB",
          min_wal_size: "2MB",
        },
        bridge: { ringBytes: 262_144 },
      });
      const third = acceptorAt(cluster, 2);
      await using sql = await cluster.sql();
      await sql.query(COMMIT);
      await reaches(third, cluster.bridge.status().commitLsn);
      const missedFrom = timelineOf(third).status().flushLsn;
      await third.stop();
      // One checkpoint gives the slot up and removes the segments: with each, PostgreSQL 15 waits for the slot's walsender.
      for (let i = 0; i < 25; i += 1) await sql.query(COMMIT);
      await sql.query("checkpoint");
      await sql.query(COMMIT);
      await watch.until((notice) => notice.type === "warning" && notice.warning === "slot_renewed");
      const segment = segmentFileName(1, segmentNumber(missedFrom, SEGMENT_BYTES), SEGMENT_BYTES);
      expect(existsSync(join(cluster.postgres.dataDirectory, "pg_wal", segment))).toBe(false);
      const { term } = cluster.bridge.status();

      await third.start();
      await reaches(third, cluster.bridge.status().commitLsn);
      await sql.query(COMMIT);
      const { commitLsn } = cluster.bridge.status();
      await Promise.all(cluster.acceptors.map((acceptor) => reaches(acceptor, commitLsn)));
      const donation = watch.notices.find((notice) => notice.type === "donor");
      expect(donation).toMatchObject({ fromLsn: missedFrom });
      expect(cluster.bridge.status()).toMatchObject({ state: "streaming", term });
      const { timelineStartLsn } = timelineOf(third).status();
      const digests = await Promise.all(
        cluster.acceptors.map((acceptor) => timelineOf(acceptor).digest(timelineStartLsn, commitLsn)),
      );
      expect(new Set(digests).size).toBe(1);
    },
  );
}
