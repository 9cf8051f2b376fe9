/**
 * What is shown of a running all-in-one: one plain object that the status line, the status page and
 * GET /v1/status all render.
 *
 * LSNs and terms are bigint here; `statusDocument` turns LSNs into "X/X" text for JSON. Passwords never get into
 * this object: the page that shows it has no login.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import type { DivergenceResult } from "@millrace/wal-proposer";

import type { SupervisedState } from "../parts/supervisor.js";

/** The bridge's view of one acceptor. */
export interface BridgeAcceptorReport {
  readonly address: string;
  readonly state: string;
  readonly nodeId: bigint | undefined;
  readonly flushLsn: Lsn;
  /** It gave its vote in the bridge's term. */
  readonly voted: boolean;
}

/** What the bridge process tells about itself. */
export interface BridgeReport {
  readonly state: string;
  readonly term: bigint;
  readonly termStartLsn: Lsn;
  /** How often the term was carried over the loss of PostgreSQL. */
  readonly reconnects: number;
  /** End of the WAL received from PostgreSQL. */
  readonly receivedLsn: Lsn;
  /** Durable on a quorum. */
  readonly commitLsn: Lsn;
  /** What PostgreSQL was last told; 0 before the first commit of the term. */
  readonly reportedLsn: Lsn;
  /** How PostgreSQL's log compared with the acceptors' at the election; undefined before. */
  readonly divergence: DivergenceResult | undefined;
  readonly acceptors: readonly BridgeAcceptorReport[];
}

/** A child process as its supervisor sees it. */
export interface ProcessReport {
  readonly state: SupervisedState;
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly lastEnd: string | undefined;
}

/** One acceptor of the all-in-one. */
export interface AcceptorReport extends ProcessReport {
  readonly id: number;
  readonly walAddress: string;
  readonly httpUrl: string;
  /** What the bridge sees of it; absent while there is no bridge. */
  readonly stream: BridgeAcceptorReport | undefined;
}

/** The whole picture at one moment. */
export interface ClusterStatus {
  readonly uptimeMs: number;
  readonly dataDirectory: string;
  readonly postgres: { readonly kind: string; readonly address: string; readonly state: string };
  readonly bridge: ProcessReport & {
    readonly report: BridgeReport | undefined;
    /** How many bridges have ended so far, by reason. */
    readonly ends: ReadonlyMap<string, number>;
    /** How many comparisons of logs have ended so far, by result. */
    readonly divergenceChecks: ReadonlyMap<string, number>;
  };
  readonly acceptors: readonly AcceptorReport[];
  /** Bytes of WAL committed by the quorum per second, over the last few seconds. */
  readonly commitBytesPerSecond: number;
}

/** An acceptor counts as up when it takes part in the quorum: elected proposer, streaming. */
export function isStreaming(acceptor: AcceptorReport): boolean {
  return acceptor.state === "ready" && acceptor.stream?.state === "active";
}

/** Bytes that PostgreSQL has sent and no quorum has made durable yet; 0 without a bridge. */
export function commitLagBytes(status: ClusterStatus): number {
  const report = status.bridge.report;
  if (report === undefined || report.receivedLsn <= report.commitLsn) return 0;
  return Number(report.receivedLsn - report.commitLsn);
}

function processDocument(report: ProcessReport): Record<string, unknown> {
  return {
    state: report.state,
    pid: report.pid ?? null,
    restarts: report.restarts,
    last_end: report.lastEnd ?? null,
  };
}

/** A bridge's own positions: LSNs as "X/X", terms and node ids as (big) integers; null where there is no bridge. */
export function bridgeDocument(report: BridgeReport | undefined): Record<string, unknown> {
  const position = (lsn: Lsn | undefined): string | null => (lsn === undefined ? null : formatLsn(lsn));
  return {
    state: report?.state ?? null,
    term: report?.term ?? null,
    reconnects: report?.reconnects ?? null,
    term_start_lsn: position(report?.termStartLsn),
    received_lsn: position(report?.receivedLsn),
    commit_lsn: position(report?.commitLsn),
    reported_lsn: position(report?.reportedLsn),
    divergence: report?.divergence ?? null,
    acceptors: (report?.acceptors ?? []).map(({ address, state, nodeId, flushLsn, voted }) => ({
      address,
      state,
      voted,
      node_id: nodeId ?? null,
      flush_lsn: formatLsn(flushLsn),
    })),
  };
}

/** The document behind GET /v1/status of an all-in-one. */
export function statusDocument(status: ClusterStatus): Record<string, unknown> {
  const report = status.bridge.report;
  return {
    uptime_ms: Math.round(status.uptimeMs),
    data_directory: status.dataDirectory,
    postgres: { ...status.postgres },
    bridge: { process: processDocument(status.bridge), ...bridgeDocument(report) },
    commit_lag_bytes: commitLagBytes(status),
    commit_bytes_per_second: Math.round(status.commitBytesPerSecond),
    acceptors_up: status.acceptors.filter(isStreaming).length,
    acceptors: status.acceptors.map((acceptor) => ({
      id: acceptor.id,
      wal_address: acceptor.walAddress,
      http_url: acceptor.httpUrl,
      process: processDocument(acceptor),
      stream: acceptor.stream?.state ?? null,
      flush_lsn: acceptor.stream === undefined ? null : formatLsn(acceptor.stream.flushLsn),
      lag_bytes:
        acceptor.stream === undefined || report === undefined
          ? null
          : Number(bigMax(report.receivedLsn - acceptor.stream.flushLsn, 0n)),
    })),
  };
}

function bigMax(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** How far back the rate looks. Long enough to be calm, short enough to show a stop. */
const RATE_WINDOW_MS = 5000;

/** Turns commit LSNs seen over time into bytes per second. */
export class CommitRate {
  #samples: { readonly atMs: number; readonly lsn: bigint }[] = [];

  /** Notes that the commit LSN was `lsn` at `nowMs`; times never decrease. 0 is no position and says nothing. */
  note(nowMs: number, lsn: bigint): void {
    if (lsn === 0n) return;
    this.#samples.push({ atMs: nowMs, lsn });
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? nowMs) < nowMs - RATE_WINDOW_MS) {
      this.#samples.shift();
    }
  }

  /** Bytes per second between the oldest and the newest sample of the window; 0 with fewer than two. */
  bytesPerSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    const bytes = Number(last.lsn - first.lsn);
    return bytes <= 0 ? 0 : (bytes * 1000) / (last.atMs - first.atMs);
  }
}
