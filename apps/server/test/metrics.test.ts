/**
 * Metrics of the proposer's side: what is told, what is not made up, and how ends of bridges are counted.
 */
import { expect, test } from "vitest";

import { INVALID_LSN, toLsn } from "@millrace/lsn";
import type { Metric } from "@millrace/wal-acceptor";

import { createBridgeApi } from "../src/http/bridge-api.js";
import { createStatusApi } from "../src/http/status-api.js";
import { BridgeEnds } from "../src/status/bridge-ends.js";
import type { BridgeReport, ClusterStatus } from "../src/status/cluster-status.js";
import { DivergenceChecks } from "../src/status/divergence-checks.js";
import { bridgeMetrics, clusterMetrics } from "../src/status/metrics.js";

const REPORT: BridgeReport = {
  state: "streaming",
  term: 5n,
  termStartLsn: toLsn(1000n),
  reconnects: 1,
  receivedLsn: toLsn(5000n),
  commitLsn: toLsn(4000n),
  reportedLsn: toLsn(3000n),
  divergence: "equal",
  acceptors: [
    { address: "a:1", state: "active", nodeId: 1n, flushLsn: toLsn(4000n), voted: true },
    { address: "b:1", state: "offline", nodeId: undefined, flushLsn: INVALID_LSN, voted: false },
    // An acceptor that knows more than we have received does not lag by a negative number.
    { address: "c:1", state: "active", nodeId: 3n, flushLsn: toLsn(6000n), voted: true },
  ],
};

function cluster(
  report: BridgeReport | undefined,
  ends: ReadonlyMap<string, number>,
  divergenceChecks: ReadonlyMap<string, number> = new Map(),
): ClusterStatus {
  return {
    uptimeMs: 1500,
    dataDirectory: "/data",
    postgres: { kind: "", address: "", state: "running" },
    bridge: {
      state: report === undefined ? "waiting" : "ready",
      pid: 1,
      restarts: 3,
      lastEnd: undefined,
      report,
      ends,
      divergenceChecks,
    },
    acceptors: [],
    commitBytesPerSecond: 0,
  };
}

/** Samples as lines, without help and type. */
function lines(metrics: readonly Metric[]): string[] {
  return metrics.flatMap(({ name, samples }) =>
    samples.map(({ labels, value }) => `${name} ${JSON.stringify(labels)} ${value}`),
  );
}

// Aim: positions, term, state and lag are those of the report; a position that is not known is not told.
// Method: a report with one acceptor at work, one that was never there, one ahead.
test("the bridge's metrics are those of its report", () => {
  expect(lines(bridgeMetrics(REPORT))).toEqual([
    'walproposer_state {"state":"streaming"} 1',
    "walproposer_term {} 5",
    "walproposer_term_start_lsn {} 1000",
    "walproposer_quorum_commit_lsn {} 4000",
    "walproposer_pg_received_lsn {} 5000",
    "walproposer_pg_reported_flush_lsn {} 3000",
    "walproposer_pg_reconnects_total {} 1",
    'walproposer_divergence_checks_total {"result":"equal"} 1',
    'walproposer_divergence_checks_total {"result":"nothing"} 0',
    'walproposer_divergence_checks_total {"result":"unchecked"} 0',
    'walproposer_divergence_checks_total {"result":"diverged"} 0',
    'walproposer_divergence_checks_total {"result":"lost"} 0',
    'walproposer_divergence_checks_total {"result":"failed"} 0',
    'walproposer_acceptor_vote {"acceptor":"a:1"} 1',
    'walproposer_acceptor_vote {"acceptor":"b:1"} 0',
    'walproposer_acceptor_vote {"acceptor":"c:1"} 1',
    'walproposer_acceptor_state {"acceptor":"a:1","state":"active"} 1',
    'walproposer_acceptor_state {"acceptor":"b:1","state":"offline"} 1',
    'walproposer_acceptor_state {"acceptor":"c:1","state":"active"} 1',
    'walproposer_acceptor_flush_lsn {"acceptor":"a:1"} 4000',
    'walproposer_acceptor_flush_lsn {"acceptor":"c:1"} 6000',
    'walproposer_acceptor_lag_bytes {"acceptor":"a:1"} 1000',
    'walproposer_acceptor_lag_bytes {"acceptor":"c:1"} 0',
  ]);
  expect(lines(bridgeMetrics(undefined))).toEqual([]);
});

// Aim: a restart is counted under the reason that the bridge told, else under how its process ended, each once.
// Method: a bridge that told, one killed, one that exited without a word; reasons that never came stand at 0.
test("restarts are counted by reason", () => {
  const ends = new BridgeEnds();
  ends.told("higher_term");
  ends.ended(76);
  ends.ended(undefined);
  ends.ended(1);
  ends.ended(1);
  const told = lines(clusterMetrics(cluster(undefined, ends.counts)));
  expect(told).toContain('walproposer_restarts_total {"reason":"higher_term"} 1');
  expect(told).toContain('walproposer_restarts_total {"reason":"signal"} 1');
  expect(told).toContain('walproposer_restarts_total {"reason":"exit"} 2');
  expect(told).toContain('walproposer_restarts_total {"reason":"divergence"} 0');
  expect(told).toContain('millrace_part_up {"part":"bridge"} 0');
  expect(told).toContain('millrace_part_restarts_total {"part":"bridge"} 3');
});

// Aim: every life of a bridge counts once, however often it tells its result. Method: two lives, the second of which says
// it only at its end; an all-in-one shows the sum and not the last life's.
test("comparisons of logs are counted by result, one for each life", () => {
  const checks = new DivergenceChecks();
  checks.told(undefined);
  checks.told("equal");
  checks.told("equal");
  checks.ended();
  checks.told("diverged");
  checks.ended();
  checks.told("equal");
  const told = lines(clusterMetrics(cluster(REPORT, new Map(), checks.counts)));
  expect(told).toContain('walproposer_divergence_checks_total {"result":"equal"} 2');
  expect(told).toContain('walproposer_divergence_checks_total {"result":"diverged"} 1');
  expect(told).toContain('walproposer_divergence_checks_total {"result":"lost"} 0');
});

// Aim: both servers give the same metrics as text. Method: ask each over its application.
test("an all-in-one and a bridge by itself answer scrapes", async () => {
  const headers = { host: "127.0.0.1:1" };
  const whole = createStatusApi(() => cluster(REPORT, new Map()), "127.0.0.1");
  const bridge = createBridgeApi(() => REPORT);
  for (const app of [whole, bridge]) {
    const response = await app.request("/metrics", { headers });
    expect(response.headers.get("content-type")).toContain("version=0.0.4");
    const text = await response.text();
    expect(text).toContain(
      "# TYPE walproposer_quorum_commit_lsn gauge\nwalproposer_quorum_commit_lsn 4000\n",
    );
    expect(text).toContain('walproposer_acceptor_lag_bytes{acceptor="a:1"} 1000\n');
  }
  expect(await (await bridge.request("/v1/status")).text()).toContain('"commit_lsn":"0/FA0"');
  const early = createBridgeApi(() => undefined);
  expect(await (await early.request("/metrics")).text()).not.toContain("walproposer_quorum_commit_lsn ");
  expect((await early.request("/v1/status")).status).toBe(200);
});
