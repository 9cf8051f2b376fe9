/**
 * Decides what a standby's status message may say to PostgreSQL, and when it is due. Pure: positions and times in,
 * reports out; whoever owns the socket and the timer calls it.
 *
 * PostgreSQL believes what it is told. A flush position above the truth releases waiting commits at once, and for
 * good: its release position only moves up, so later commits below it return without having been replicated. And
 * a slot's restart position is set to whatever is reported, even backwards. Hence, for one connection:
 * - nothing (0/0) is reported below `floorLsn`: before a proposer's first commit of its own term, PostgreSQL shows
 *   the standby as asynchronous, moves no slot and releases nobody;
 * - never more than was committed, never more than was received here, never less than was reported before;
 * - write = flush; apply is the same, or 0/0 if asked for;
 * - a report is due at once when the position moved (or `advanceGapMs` after the last one), when a reply was
 *   requested, and `intervalMs` after the last one. A walsender that is shutting down answers each reply with
 *   another request, so a report that says nothing new waits until `unchangedGapMs` after the last one.
 *
 * Facts from PostgreSQL's walsender.c (ProcessStandbyReplyMessage, WalSndDone) and syncrep.c.
 */
import { INVALID_LSN, formatLsn, minLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { ProposerError } from "./errors.js";

/** Unasked reports: well below half of PostgreSQL's default wal_sender_timeout of 60 s. */
export const REPORT_INTERVAL_MS = 10_000;
/** At most 20 reports a second that say nothing new. */
export const UNCHANGED_GAP_MS = 50;

/** The positions of one status message. */
export interface PositionReport {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** See the members; everything but the two positions has a default. */
export interface PositionReporterOptions {
  /** Where the connection's stream starts: what lies below counts as received. */
  readonly startLsn: Lsn;
  /** Nothing below this is ever reported. */
  readonly floorLsn: Lsn;
  /** Monotonic time of creation. */
  readonly nowMs: number;
  /** "none" reports apply as 0/0, so that `remote_apply` honestly waits for ever. */
  readonly reportApply?: "commit" | "none";
  readonly intervalMs?: number;
  readonly unchangedGapMs?: number;
  /** Least time between two reports that say something new; 0 by default. */
  readonly advanceGapMs?: number;
}

/** The reports of one connection. Times are monotonic milliseconds. */
export class PositionReporter {
  readonly #floorLsn: Lsn;
  readonly #reportApply: boolean;
  readonly #intervalMs: number;
  readonly #unchangedGapMs: number;
  readonly #advanceGapMs: number;
  #receivedLsn: Lsn;
  #committedLsn: Lsn = INVALID_LSN;
  #reportedLsn: Lsn = INVALID_LSN;
  #replyRequested = false;
  #lastSentMs: number;
  #sentAny = false;

  constructor(options: PositionReporterOptions) {
    this.#receivedLsn = options.startLsn;
    this.#floorLsn = options.floorLsn;
    this.#lastSentMs = options.nowMs;
    this.#reportApply = options.reportApply !== "none";
    this.#intervalMs = options.intervalMs ?? REPORT_INTERVAL_MS;
    this.#unchangedGapMs = options.unchangedGapMs ?? UNCHANGED_GAP_MS;
    this.#advanceGapMs = options.advanceGapMs ?? 0;
  }

  /** The flush position of the last report, 0/0 before the first one that carried any. */
  get reportedLsn(): Lsn {
    return this.#reportedLsn;
  }

  /** WAL up to `endLsn` has arrived on this connection. A lower value changes nothing. */
  received(endLsn: Lsn): void {
    if (endLsn > this.#receivedLsn) this.#receivedLsn = endLsn;
  }

  /** Everything up to `lsn` is safe (committed by the quorum). A lower value changes nothing. */
  committed(lsn: Lsn): void {
    if (lsn > this.#committedLsn) this.#committedLsn = lsn;
  }

  /** The server asked for a reply; several requests before the next report are answered by that one. */
  replyRequested(): void {
    this.#replyRequested = true;
  }

  /** When `take` will next have a report, if nothing else happens; in the past means now. */
  dueAtMs(): number {
    let due = this.#lastSentMs + this.#intervalMs;
    if (this.#replyRequested) {
      due = Math.min(due, this.#sentAny ? this.#lastSentMs + this.#unchangedGapMs : this.#lastSentMs);
    }
    if (this.#position() > this.#reportedLsn) {
      due = Math.min(due, this.#sentAny ? this.#lastSentMs + this.#advanceGapMs : this.#lastSentMs);
    }
    return due;
  }

  /** The report to send now, which counts as sent; undefined if none is due. */
  take(nowMs: number): PositionReport | undefined {
    if (nowMs < this.dueAtMs()) return undefined;
    return this.#report(nowMs);
  }

  /** A report that is sent whether it is due or not: the last one of a connection, or one that asks for an answer. */
  takeFinal(nowMs: number): PositionReport {
    return this.#report(nowMs);
  }

  #report(nowMs: number): PositionReport {
    this.#reportedLsn = this.#position();
    this.#replyRequested = false;
    this.#sentAny = true;
    this.#lastSentMs = nowMs;
    const lsn = this.#reportedLsn;
    return { writeLsn: lsn, flushLsn: lsn, applyLsn: this.#reportApply ? lsn : INVALID_LSN };
  }

  #position(): Lsn {
    const lsn = minLsn(this.#committedLsn, this.#receivedLsn);
    return lsn < this.#floorLsn ? INVALID_LSN : lsn;
  }
}

/**
 * The last look at a report before it goes out, against positions that the reporter did not keep itself.
 *
 * @param limits `receivedLsn` and `committedLsn` as the socket's reader and the proposer know them; `reportedLsn`
 *   the last report that was sent on this connection
 * @throws {ProposerError} ERR_BRIDGE_OVERREPORT; the bridge must end: an overshoot cannot be taken back
 */
export function checkReport(
  report: PositionReport,
  limits: { readonly receivedLsn: Lsn; readonly committedLsn: Lsn; readonly reportedLsn: Lsn },
): void {
  const highest = minLsn(limits.receivedLsn, limits.committedLsn);
  for (const lsn of [report.writeLsn, report.flushLsn, report.applyLsn]) {
    if (lsn > highest) {
      throw new ProposerError(
        "ERR_BRIDGE_OVERREPORT",
        `${formatLsn(lsn)} was about to be reported with ${formatLsn(limits.receivedLsn)} received ` +
          `and ${formatLsn(limits.committedLsn)} committed`,
      );
    }
  }
  if (report.flushLsn < limits.reportedLsn) {
    throw new ProposerError(
      "ERR_BRIDGE_OVERREPORT",
      `${formatLsn(report.flushLsn)} was about to be reported after ${formatLsn(limits.reportedLsn)}`,
    );
  }
}
