/**
 * The numbers of the proposer's side for a monitoring system, taken from the picture that the status page shows, too.
 *
 * Names begin with `walproposer_` for what the bridge knows and with `millrace_` for what the all-in-one knows of its
 * parts; acceptors have names and a page of their own. A position that is not known has no sample: 0 would look like a
 * log that was lost. Pure.
 */
import type { Lsn } from "@millrace/lsn";
import type { Metric, MetricSample } from "@millrace/wal-acceptor";

import type { BridgeReport, ClusterStatus, ProcessReport } from "./cluster-status.js";
import { DivergenceChecks } from "./divergence-checks.js";

function metric(
  name: string,
  type: Metric["type"],
  help: string,
  samples: readonly (MetricSample | undefined)[],
): Metric {
  return { name, type, help, samples: samples.filter((sample) => sample !== undefined) };
}

function one(
  value: number | bigint | undefined,
  labels: MetricSample["labels"] = {},
): MetricSample | undefined {
  return value === undefined ? undefined : { labels, value };
}

/** 0/0 is no position. */
function position(lsn: Lsn | undefined, labels: MetricSample["labels"] = {}): MetricSample | undefined {
  return lsn === undefined || lsn === 0n ? undefined : { labels, value: lsn };
}

function ownChecks(report: BridgeReport | undefined): ReadonlyMap<string, number> {
  if (report === undefined) return new Map();
  const checks = new DivergenceChecks();
  checks.told(report.divergence);
  return checks.counts;
}

/**
 * What a bridge knows; without a report the same metrics without samples.
 *
 * @param divergenceChecks counts over more lives than the report's; the report's own by default
 */
export function bridgeMetrics(
  report: BridgeReport | undefined,
  divergenceChecks: ReadonlyMap<string, number> = ownChecks(report),
): Metric[] {
  const acceptors = report?.acceptors ?? [];
  return [
    metric("walproposer_state", "gauge", "1 for the state in which the bridge is", [
      report === undefined ? undefined : { labels: { state: report.state }, value: 1 },
    ]),
    metric("walproposer_term", "gauge", "Term of the bridge, 0 before its election", [one(report?.term)]),
    metric("walproposer_term_start_lsn", "gauge", "Where the term begins", [position(report?.termStartLsn)]),
    metric("walproposer_quorum_commit_lsn", "gauge", "Durable on a quorum of acceptors", [
      position(report?.commitLsn),
    ]),
    metric("walproposer_pg_received_lsn", "gauge", "End of the WAL received from PostgreSQL", [
      position(report?.receivedLsn),
    ]),
    metric("walproposer_pg_reported_flush_lsn", "gauge", "What PostgreSQL was last told to be flushed", [
      position(report?.reportedLsn),
    ]),
    metric("walproposer_pg_reconnects_total", "counter", "Losses of PostgreSQL that the term survived", [
      one(report?.reconnects),
    ]),
    metric(
      "walproposer_divergence_checks_total",
      "counter",
      "Comparisons of PostgreSQL's log with the acceptors' after an election, by result",
      [...divergenceChecks].map(([result, value]) => one(value, { result })),
    ),
    metric(
      "walproposer_acceptor_vote",
      "gauge",
      "1 if the acceptor gave its vote in the bridge's term",
      acceptors.map(({ address, voted }) => one(voted ? 1 : 0, { acceptor: address })),
    ),
    metric(
      "walproposer_acceptor_state",
      "gauge",
      "1 for the state in which the acceptor's connection is",
      acceptors.map(({ address, state }) => one(1, { acceptor: address, state })),
    ),
    metric(
      "walproposer_acceptor_flush_lsn",
      "gauge",
      "Acknowledged by the acceptor in this term",
      acceptors.map(({ address, flushLsn }) => position(flushLsn, { acceptor: address })),
    ),
    metric(
      "walproposer_acceptor_lag_bytes",
      "gauge",
      "Received from PostgreSQL and not acknowledged by the acceptor",
      acceptors.map(({ address, flushLsn }) => {
        const received = report?.receivedLsn ?? 0n;
        if (flushLsn === 0n) return undefined;
        return one(received > flushLsn ? received - flushLsn : 0n, { acceptor: address });
      }),
    ),
  ];
}

/** What an all-in-one knows: its bridge, its parts, and how its bridges have ended. */
export function clusterMetrics(status: ClusterStatus): Metric[] {
  const parts: [string, Pick<ProcessReport, "state" | "restarts">][] = [
    ["bridge", status.bridge],
    ...status.acceptors.map((acceptor): [string, ProcessReport] => [`acceptor-${acceptor.id}`, acceptor]),
  ];
  return [
    ...bridgeMetrics(status.bridge.report, status.bridge.divergenceChecks),
    metric(
      "walproposer_restarts_total",
      "counter",
      "Bridges that ended without being asked to, by reason; each successor is a new term",
      [...status.bridge.ends].map(([reason, value]) => one(value, { reason })),
    ),
    metric("millrace_postgres_up", "gauge", "1 while PostgreSQL accepts connections", [
      one(status.postgres.state === "running" ? 1 : 0),
    ]),
    metric(
      "millrace_part_up",
      "gauge",
      "1 while the process says that it serves",
      parts.map(([part, { state }]) => one(state === "ready" ? 1 : 0, { part })),
    ),
    metric(
      "millrace_part_restarts_total",
      "counter",
      "Times that the process was started again",
      parts.map(([part, { restarts }]) => one(restarts, { part })),
    ),
    metric("millrace_uptime_seconds", "gauge", "Since the start of the all-in-one", [
      one(status.uptimeMs / 1000),
    ]),
  ];
}
