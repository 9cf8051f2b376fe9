/**
 * A failover as an operator does it: fence, let a standby replay to the end, promote it, bridge it. What follows is on
 * PostgreSQL's timeline 2, and stock clients follow there from the acceptors.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { parseLsn, segmentFileName, segmentNumber } from "@millrace/lsn";
import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import { postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresChoice } from "@millrace/postgres-process";
import { syncAcceptors } from "@millrace/wal-proposer";

import { SmallCluster, TENANT, TIMELINE } from "./small-cluster.js";
import {
  acceptorAt,
  applied,
  coldStandby,
  conninfo,
  giveToServer,
  RunningTool,
  timelineOf,
  until,
  value,
} from "./stock-client.js";

const SERVERS: readonly PostgresChoice[] = ["system", "embedded"];
const SEGMENT_BYTES = 1024 * 1024;

for (const choice of SERVERS) {
  const { installation, skip } = postgresOrSkip(choice);
  const name = typeof choice === "string" ? choice : "";

  // Aim: a promoted standby is bridged on its new timeline, every acceptor learns of that, also one that was away, and
  // clients of the acceptors follow. Method: a standby is fed from an acceptor up to the position of a synchronisation
  // and promoted; a second standby and pg_receivewal read the other side of the switch; the old primary comes back.
  test.skipIf(skip !== "")(
    `a failover goes on with timeline 2, for acceptors and their clients (${name})`,
    { timeout: 120_000 },
    async () => {
      if (installation === undefined) return;
      await using directory = await temporaryDirectory();
      await using cluster = await SmallCluster.create(installation, directory.path);
      const [first, second, third] = [0, 1, 2].map((index) => acceptorAt(cluster, index)) as [
        ReturnType<typeof acceptorAt>,
        ReturnType<typeof acceptorAt>,
        ReturnType<typeof acceptorAt>,
      ];
      await cluster.stop();
      const at = (place: string): string => join(directory.path, place);
      await Promise.all([first, second, third].map((acceptor) => acceptor.start()));
      const name1 = "application_name=next";
      await using next = await coldStandby(cluster.postgres, at("next"), conninfo(first, name1));
      await using follower = await coldStandby(cluster.postgres, at("follower"), conninfo(second));
      await Promise.all([first, second, third].map((acceptor) => acceptor.stop()));
      await cluster.start();
      {
        await using writer = await cluster.sql();
        await writer.query("create table t (i int)");
        await writer.query("insert into t select generate_series(1, 1000)");
      }

      await cluster.postgres.kill();
      const { lsn: syncLsn, term } = await syncAcceptors({
        acceptors: cluster.acceptors.map(({ address }) => address),
        tenantId: TENANT,
        timelineId: TIMELINE,
        segmentBytes: SEGMENT_BYTES,
      });
      expect(await cluster.bridge.closed).toMatchObject({ reason: "higher_term" });
      await next.start();
      await applied(first, syncLsn);
      await using sql = await connect(parseConnectionUrl(next.url()));
      expect(await value(sql, "select pg_promote()")).toBe("t");
      await third.stop();
      const bridge = await cluster.openBridge(next);
      await bridge.streaming;
      expect(bridge.status()).toMatchObject({ pgTimelineId: 2, term: term + 1n, termStartLsn: syncLsn });
      await sql.query("insert into t select generate_series(1, 50000)");
      const expected = { timelineId: 2, parentId: 1, beginLsn: syncLsn };
      for (const acceptor of [first, second]) {
        expect(timelineOf(acceptor).status().pgTimelines).toMatchObject([{ timelineId: 1 }, expected]);
      }

      await third.start();
      const { pgTimelines } = timelineOf(third).readers;
      while (pgTimelines.value.list().length < 2) await pgTimelines.changed(pgTimelines.version);
      expect(pgTimelines.value.list()).toMatchObject([{ timelineId: 1 }, expected]);

      await follower.start();
      await sql.query("select pg_switch_wal()");
      await sql.query("insert into t values (0)");
      const endLsn = parseLsn(await value(sql, "select pg_current_wal_flush_lsn()"));
      await sql.query("insert into t values (0)");
      await applied(second, endLsn);
      {
        await using reader = await connect(parseConnectionUrl(follower.url()));
        expect(Number(await value(reader, "select count(*) from t"))).toBeGreaterThanOrEqual(51_001);
        expect(await value(reader, "select received_tli from pg_stat_wal_receiver")).toBe("2");
      }

      if (installation.tool("pg_receivewal") !== undefined) {
        const archive = at("archive");
        await mkdir(archive, { mode: 0o777 });
        await giveToServer(archive);
        const args = [
          "--directory",
          archive,
          "--dbname",
          conninfo(third, "application_name=archive"),
          "--no-loop",
        ];
        await using receiver = new RunningTool(installation, "pg_receivewal", args);
        // Without an older file in its directory it begins with the segment at hand; more of them follow.
        const written = until(third, ({ senders }) =>
          senders.list().some(({ writeLsn }) => writeLsn >= endLsn),
        );
        await Promise.race([written, receiver.failed]);
        await sql.query("select pg_switch_wal()");
        const switched = parseLsn(await value(sql, "select pg_current_wal_insert_lsn()"));
        await sql.query("insert into t values (0)");
        const more = until(third, ({ senders }) =>
          senders.list().some(({ writeLsn }) => writeLsn >= switched),
        );
        await Promise.race([more, receiver.failed]);
        receiver.interrupt();
        expect(await receiver.exited).toBe(0);
        const history = await readFile(join(archive, "00000002.history"), "utf8");
        expect(history).toMatch(/^1\t\S+\t/);
        const segment = segmentFileName(2, segmentNumber(endLsn, SEGMENT_BYTES), SEGMENT_BYTES);
        const found = await readFile(join(archive, segment));
        const wanted = await readFile(join(next.dataDirectory, "pg_wal", segment));
        expect(Buffer.compare(found, wanted)).toBe(0);
      }

      await bridge.close({ immediate: true });
      await cluster.postgres.start();
      const old = await (await cluster.openBridge()).closed;
      expect(old).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_TIMELINE_CONFLICT" } });
      expect(old.detail).toMatch(/knows timeline 2 from \S+ on, PostgreSQL is on timeline 1.*pg_rewind/);
    },
  );
}
