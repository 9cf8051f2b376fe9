import { expect, test } from "vitest";

import { Harness, START, walOf } from "./acceptor-harness.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import { Source, TestReader } from "./test-reader.js";

// Aim: the numbers are those of the state, and nothing a peer sends becomes a label. Method: a timeline with WAL, a
// standby, a reader with a term and a few commands; every value is compared with what it stands for.
test("metrics tell the state of timelines, readers and commands", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(10));
  const end = source.wal.endLsn;
  await source.write(end, end);
  const standby = await TestReader.start(harness, "START_REPLICATION 0/300000 TIMELINE 1");
  await standby.until(end);
  standby.status(START);
  const { changes } = source.timeline.readers.senders;
  while (source.timeline.status().walSenders[0]?.peer !== "standby") await changes.changed(changes.version);
  const donor = await TestReader.start(harness, "START_REPLICATION 0/300000 (term='1')");
  await donor.until(end);
  const { client } = await harness.connect();
  await client.query("IDENTIFY_SYSTEM");
  await expect(client.query('DROP_REPLICATION_SLOT "\u{1F600}"')).rejects.toMatchObject({
    sqlstate: "42704",
  });
  await expect(client.query("GARBAGE")).rejects.toMatchObject({ sqlstate: "42601" });

  const values = new Map<string, number | bigint>();
  for (const { name, samples } of harness.node.metrics()) {
    for (const { labels, value } of samples) {
      const { tenant_id: tenant, timeline_id: timeline, ...rest } = labels;
      if (tenant !== undefined) expect([tenant, timeline]).toEqual([TENANT, TIMELINE]);
      values.set([name.replace("safekeeper_", ""), ...Object.values(rest)].join(" "), value);
    }
  }
  expect(Object.fromEntries(values)).toMatchObject({
    timelines: 1,
    pg_connections: 4,
    commit_lsn: end,
    flush_lsn: end,
    epoch_start_lsn: START,
    acceptor_term: 1n,
    connected_computes: 1,
    disk_usage_bytes: 1024 * 1024,
    sent_wal_bytes_total: 2 * Number(end - 0x300000n),
    removed_wal_segments_total: 0,
    safety_violations_total: 0,
    "wal_readers standby commit": 1,
    "wal_readers unknown flush": 1,
    "pg_queries_received_total START_REPLICATION": 2,
    "pg_queries_received_total DROP_REPLICATION_SLOT": 1,
    "pg_queries_received_total unknown": 1,
    "pg_queries_finished_total unknown": 1,
    "pg_queries_finished_total IDENTIFY_SYSTEM": 1,
  });
  expect(values.has("pg_queries_finished_total START_REPLICATION")).toBe(false);
});
