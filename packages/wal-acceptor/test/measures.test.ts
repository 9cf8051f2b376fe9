/**
 * What a node's histograms hold after work whose amount is known. Time stands still unless the test moves it, so a time
 * that is not 0 was measured around exactly the call that moved it.
 */
import { expect, test } from "vitest";

import type { HistogramSnapshot } from "../src/histogram.js";
import { QUEUE_SAMPLE_INTERVAL_MS, QueueSampler } from "../src/queue-sampler.js";
import { Histogram } from "../src/histogram.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { FakeClock } from "./fake-clock.js";
import { TENANT, TIMELINE } from "./fixtures.js";

function read(harness: Harness, name: string, operation?: string): HistogramSnapshot {
  const samples = harness.node.histograms().find((metric) => metric.name === `safekeeper_${name}`)?.samples;
  const found = samples?.find(({ labels }) => labels["operation"] === operation);
  if (found === undefined) throw new Error(`no histogram ${name}`);
  return found;
}

function counter(harness: Harness, name: string): number | bigint | undefined {
  const metric = harness.node.metrics().find((candidate) => candidate.name === `safekeeper_${name}`);
  return metric?.samples[0]?.value;
}

// Aim: each time is that of its own step. Method: a sync, a write and a rename take 7 s, 2 s and 11 s by a clock that
// moves only inside these calls.
test("writes, syncs, control files and acknowledgements are timed where they happen", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  await proposer.vote(1n); // refused, and thereby behind the election
  const before = {
    persists: read(harness, "persist_control_file_seconds"),
    truncations: read(harness, "wal_storage_operation_seconds", "truncate_wal"),
  };
  expect(before.persists).toMatchObject({ count: 2, sum: 0 }); // the vote and the election
  expect(before.truncations).toMatchObject({ count: 1, sum: 0 });
  const { clock, disk } = harness;
  disk.onCall = ({ name }) => {
    if (name === "fdatasync") clock.advance(7000);
    if (name === "pwrite") clock.advance(2000);
  };
  const wal = walOf(3);
  const end = wal.commit().endLsn;
  proposer.append(wal, START, end);
  await proposer.receiveOf("append-response");
  disk.onCall = undefined;
  expect(read(harness, "write_wal_bytes")).toMatchObject({ count: 1, sum: Number(end - START) });
  // One write that is durable by itself: the test's disk counts it as a write and a sync.
  expect(read(harness, "write_wal_seconds")).toMatchObject({ count: 1, sum: 9 });
  expect(read(harness, "flush_wal_seconds")).toMatchObject({ count: 1, sum: 9 });
  expect(counter(harness, "wal_durable_writes_total")).toBe(1);
  expect(read(harness, "commit_to_ack_seconds")).toMatchObject({ count: 1, sum: 9 });
  expect(read(harness, "wal_storage_operation_seconds", "write_wal")).toMatchObject({ count: 1, sum: 0 });
  expect(read(harness, "wal_storage_operation_seconds", "flush_wal").sum).toBe(9);
  expect(read(harness, "append_batch_size")).toMatchObject({ count: 1, sum: 1 });

  disk.onCall = ({ name }) => (name === "rename" ? clock.advance(11_000) : undefined);
  await harness.node.timelines.get(TENANT, TIMELINE).bumpTerm(9n);
  disk.onCall = undefined;
  const persists = read(harness, "persist_control_file_seconds");
  expect(persists.sum).toBe(11);
  await proposer.client.close();
  await proposer.served;
  expect(read(harness, "recovery_decode_seconds").count).toBe(0); // the new timeline had nothing to look at
  await harness.reopen();
  expect(read(harness, "recovery_decode_seconds").count).toBe(1);
});

// Aim: depth is seen in time and costs nothing without streams. Method: two queues of known size and an own clock.
test("queues are looked at every five seconds while there is one", () => {
  const clock = new FakeClock();
  const depths = new Histogram([0, 1, 2, 4, 256]);
  const sampler = new QueueSampler(clock, depths);
  expect(clock.pending).toBe(0);
  const queue = { size: 0 };
  const first = sampler.watch(queue);
  const second = sampler.watch({ size: 256 });
  clock.advance(QUEUE_SAMPLE_INTERVAL_MS - 1);
  expect(depths.snapshot().count).toBe(0);
  clock.advance(1);
  expect(depths.snapshot()).toMatchObject({ cumulativeCounts: [1, 1, 1, 1, 2] });
  second[Symbol.dispose]();
  second[Symbol.dispose]();
  queue.size = 3;
  clock.advance(2 * QUEUE_SAMPLE_INTERVAL_MS);
  expect(depths.snapshot()).toMatchObject({ cumulativeCounts: [1, 1, 1, 3, 4], count: 4 });
  first[Symbol.dispose]();
  expect(clock.pending).toBe(0);
});

// Aim: a stream's queue is among them for as long as the stream lasts. Method: a stream, the interval, its end.
test("a push stream's queue is sampled and let go", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  await proposer.vote(1n);
  harness.clock.advance(QUEUE_SAMPLE_INTERVAL_MS);
  expect(read(harness, "wal_receiver_queue_depth")).toMatchObject({ count: 1, sum: 0 });
  await proposer.client.close();
  await proposer.served;
  harness.clock.advance(QUEUE_SAMPLE_INTERVAL_MS);
  expect(read(harness, "wal_receiver_queue_depth").count).toBe(1);
});
