/**
 * Recognises on a slot's stream that the walsender behind it is shutting down. Pure: events and times in.
 *
 * A fast shutdown of PostgreSQL lets a walsender go only once its standby has flushed all that was sent, and until
 * then the walsender answers every reply with another keepalive that asks for one (walsender.c, WalSndDone). It says
 * nothing else that would tell. In normal operation it asks only after half of wal_sender_timeout without a reply,
 * which is longer than the interval at which we reply unasked. So a few requests in a row, each soon after a reply of ours
 * and without WAL in between, are that shutdown and nothing else.
 */

/** Requests in a row that mean a shutdown; with replies 50 ms apart they take less than half a second. */
export const SHUTDOWN_REQUESTS = 8;
/** Longest time from one of them to the next: the reply's own delay and a slow network. */
export const SHUTDOWN_GAP_MS = 1000;

/** One connection's signs. Times are monotonic milliseconds. */
export class ShutdownSigns {
  readonly #gapMs: number;
  #requests = 0;
  #replies = 0;
  #lastMs = Number.NEGATIVE_INFINITY;

  /** @param reportIntervalMs how often this side replies unasked; must be below half of wal_sender_timeout */
  constructor(reportIntervalMs: number) {
    this.#gapMs = Math.min(SHUTDOWN_GAP_MS, reportIntervalMs);
  }

  /** WAL has arrived: the walsender is still at work. */
  wal(): void {
    this.#requests = 0;
  }

  /**
   * A keepalive has asked for a reply.
   *
   * @param replies how many replies this side has sent on the connection by now; two requests with none in between
   *   count once
   * @returns whether the walsender is shutting down
   */
  requested(nowMs: number, replies: number): boolean {
    const isLate = nowMs - this.#lastMs > this.#gapMs;
    if (!isLate && replies === this.#replies) return false;
    this.#requests = isLate ? 0 : this.#requests + 1; // the first one need not have followed a reply
    this.#replies = replies;
    this.#lastMs = nowMs;
    return this.#requests >= SHUTDOWN_REQUESTS;
  }
}
