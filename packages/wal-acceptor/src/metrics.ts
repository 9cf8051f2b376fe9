/**
 * Numbers for a monitoring system: taken from state that is there anyway when somebody asks, plus a few plain counters.
 * What is measured while it happens is in measures.ts.
 *
 * Names are those of Neon's safekeeper, so that its dashboards can be used; the
 * text format of an exposition is the application's business. LSNs are exported as numbers and lose bits above 2^53 when
 * a monitoring system takes them for doubles, as they do everywhere.
 */
import { segmentNumber } from "@millrace/lsn";

import type { HistogramSnapshot } from "./histogram.js";
import type { Timeline } from "./timeline.js";

/** One measured value. */
export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number | bigint;
}

/** A metric with all its values; names end in `_total` for counters, which start at 0 with the process. */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly samples: readonly MetricSample[];
}

/** A distribution with its counts for each set of labels. */
export interface HistogramMetric {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly (HistogramSnapshot & { readonly labels: Readonly<Record<string, string>> })[];
}

/** Counts commands of the WAL port by their grammar's names, of which there are few. */
export class CommandCounters {
  readonly #received = new Map<string, number>();
  readonly #finished = new Map<string, number>();

  received(command: string): void {
    this.#received.set(command, (this.#received.get(command) ?? 0) + 1);
  }

  finished(command: string): void {
    this.#finished.set(command, (this.#finished.get(command) ?? 0) + 1);
  }

  metrics(): readonly Metric[] {
    const samples = (counts: ReadonlyMap<string, number>): readonly MetricSample[] =>
      [...counts].map(([query, value]) => ({ labels: { query }, value }));
    return [
      {
        name: "safekeeper_pg_queries_received_total",
        help: "Commands received on the WAL port",
        type: "counter",
        samples: samples(this.#received),
      },
      {
        name: "safekeeper_pg_queries_finished_total",
        help: "Commands of the WAL port that were answered or whose stream ended",
        type: "counter",
        samples: samples(this.#finished),
      },
    ];
  }
}

type Reading = readonly [
  name: string,
  type: Metric["type"],
  help: string,
  read: (timeline: Timeline) => number | bigint,
];

const READINGS: readonly Reading[] = [
  ["commit_lsn", "gauge", "Commit position", ({ state }) => state.commitLsn],
  ["flush_lsn", "gauge", "Flush position", ({ state }) => state.flushLsn],
  ["backup_lsn", "gauge", "Backup position", ({ state }) => state.backupLsn],
  ["peer_horizon_lsn", "gauge", "No acceptor needs WAL below", ({ state }) => state.peerHorizonLsn],
  [
    "remote_consistent_lsn",
    "gauge",
    "Pageservers have made WAL below consistent",
    ({ state }) => state.remoteConsistentLsn,
  ],
  ["epoch_start_lsn", "gauge", "Start of the term, 0 before an election", ({ state }) => state.termStartLsn],
  ["acceptor_term", "gauge", "Highest term voted for or learned", ({ state }) => state.term],
  [
    "timeline_active",
    "gauge",
    "1 while a compute is connected or WAL waits",
    ({ active }) => (active ? 1 : 0),
  ],
  ["connected_computes", "gauge", "Proposers that stream", ({ receivers }) => receivers.computes.value],
  ["wal_receivers", "gauge", "Streams into the timeline", ({ receivers }) => receivers.size],
  ["consumer_slots", "gauge", "Slots that may hold WAL back", ({ readers }) => readers.slots.size],
  ["disk_usage_bytes", "gauge", "Size of the segments on disk", diskUsageBytes],
  ["removed_wal_segments_total", "counter", "Segments removed", ({ readers }) => readers.removedSegments],
  ["sent_wal_bytes_total", "counter", "WAL sent to readers", ({ readers }) => readers.sentBytes],
  ["received_ps_feedbacks_total", "counter", "Pageserver reports", ({ feedback }) => feedback.published],
  ["manager_iterations_total", "counter", "Runs of background duties", ({ managerRuns }) => managerRuns],
  [
    "safety_violations_total",
    "counter",
    "Refused attempts to cut committed WAL",
    ({ safetyViolations }) => safetyViolations,
  ],
];

/** What there is to say about these timelines, a sample each. */
export function timelineMetrics(timelines: readonly Timeline[]): readonly Metric[] {
  const labels = ({ tenantId, timelineId }: Timeline): Record<string, string> => ({
    tenant_id: tenantId,
    timeline_id: timelineId,
  });
  const read = READINGS.map(([name, type, help, value]): Metric => ({
    name: `safekeeper_${name}`,
    help,
    type,
    samples: timelines.map((timeline) => ({ labels: labels(timeline), value: value(timeline) })),
  }));
  const readers: Metric = {
    name: "safekeeper_wal_readers",
    help: "Streams out of the timeline, by kind of reader and how far it may go",
    type: "gauge",
    samples: timelines.flatMap((timeline) =>
      [...readerKinds(timeline)].map(([key, value]) => {
        const [kind = "", target = ""] = key.split(" ");
        return { labels: { ...labels(timeline), kind, target }, value };
      }),
    ),
  };
  return [...read, readers];
}

function readerKinds(timeline: Timeline): ReadonlyMap<string, number> {
  const kinds = new Map<string, number>();
  for (const { peer, term } of timeline.readers.senders.list()) {
    const key = `${peer} ${term === undefined ? "commit" : "flush"}`;
    kinds.set(key, (kinds.get(key) ?? 0) + 1);
  }
  return kinds;
}

function diskUsageBytes(timeline: Timeline): number {
  const { oldestSegment, state } = timeline;
  const { segmentBytes } = state.server;
  if (oldestSegment === undefined) return 0;
  return (Number(segmentNumber(state.writeLsn, segmentBytes) - oldestSegment) + 1) * segmentBytes;
}
