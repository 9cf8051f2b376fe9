/**
 * Sends standby status messages on one replication connection, when PositionReporter says that one is due.
 *
 * Owns the timer and the socket's writing half; decides nothing. Every report passes `checkReport` against limits
 * that the reporter did not keep, and a report that fails is not sent: `failed` is called and the connection is to
 * be dropped. Several advances within one turn of the event loop make one message. If PostgreSQL does not read,
 * reports wait until the few that are queued have gone: the next one says all that the skipped ones would have.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { serializeStandbyStatus, toPgTimestamp } from "@millrace/pg-wire";
import type { CopyWriter } from "@millrace/pg-wire";
import { checkReport } from "./position-reporter.js";
import type { PositionReport, PositionReporter } from "./position-reporter.js";
import type { Clock, Timer } from "./timers.js";

/** Queued bytes above which no further report is added: about 1600 reports that nobody has read. */
const QUEUED_BYTES_MAX = 65_536;
/** How long reports wait before the queue is looked at again. */
const FULL_RETRY_MS = 50;

/** What the sender needs to know and to tell. */
export interface StatusSenderOptions {
  readonly reporter: PositionReporter;
  readonly writer: CopyWriter;
  readonly clock: Clock;
  /** End of what this connection has received, as its reader counts it. */
  readonly receivedLsn: () => Lsn;
  /** The highest position that may be reported, as its source knows it. */
  readonly committedLsn: () => Lsn;
  /** A report was refused by the guard; nothing was sent. */
  readonly failed: (error: unknown) => void;
}

/** One per connection; call `changed` after every change to the reporter. */
export class StatusSender {
  readonly #options: StatusSenderOptions;
  #timer: Timer | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #turnScheduled = false;
  #closed = false;
  #sentLsn: Lsn = INVALID_LSN;
  #sentReports = 0;

  constructor(options: StatusSenderOptions) {
    this.#options = options;
    this.#arm();
  }

  /** The flush position of the last report that was handed to the socket. */
  get sentLsn(): Lsn {
    return this.#sentLsn;
  }

  /** How many reports were handed to the socket. */
  get sentReports(): number {
    return this.#sentReports;
  }

  /** The reporter has changed: what is due goes out at the end of this turn of the event loop. */
  changed(): void {
    if (this.#closed || this.#turnScheduled) return;
    if (this.#options.reporter.dueAtMs() > this.#options.clock.monotonicMs()) {
      this.#arm();
      return;
    }
    this.#turnScheduled = true;
    this.#options.clock.nextTurn(() => {
      this.#turnScheduled = false;
      this.#sendDue();
    });
  }

  /** Sends a report, due or not, to which the server has to reply at once. */
  ask(): void {
    if (!this.#closed) this.#send(this.#options.reporter.takeFinal(this.#options.clock.monotonicMs()), true);
  }

  /** Sends a last report, due or not, and stops. */
  finish(): void {
    if (this.#closed) return;
    this.#send(this.#options.reporter.takeFinal(this.#options.clock.monotonicMs()));
    this.close();
  }

  /** Stops; nothing is sent any more. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #sendDue(): void {
    if (this.#closed) return;
    const { clock, reporter, writer } = this.#options;
    if (writer.queuedBytes > QUEUED_BYTES_MAX) {
      this.#armAt(clock.monotonicMs() + FULL_RETRY_MS);
      return;
    }
    const report = reporter.take(clock.monotonicMs());
    if (report !== undefined) this.#send(report);
    this.#arm();
  }

  #send(report: PositionReport, replyRequested = false): void {
    const { clock, writer, receivedLsn, committedLsn, failed } = this.#options;
    try {
      checkReport(report, {
        receivedLsn: receivedLsn(),
        committedLsn: committedLsn(),
        reportedLsn: this.#sentLsn,
      });
    } catch (error) {
      this.close();
      failed(error);
      return;
    }
    this.#sentLsn = report.flushLsn;
    this.#sentReports += 1;
    // A failed send shows up at the connection's reader too, which is where it is dealt with.
    void writer.send(
      serializeStandbyStatus({ ...report, timestamp: toPgTimestamp(clock.wallMs()), replyRequested }),
    );
  }

  #arm(): void {
    if (!this.#closed) this.#armAt(this.#options.reporter.dueAtMs());
  }

  #armAt(dueMs: number): void {
    if (this.#timer !== undefined && this.#timerDueMs === dueMs) return;
    this.#timer?.cancel();
    this.#timerDueMs = dueMs;
    this.#timer = this.#options.clock.setTimer(Math.max(0, dueMs - this.#options.clock.monotonicMs()), () => {
      this.#timer = undefined;
      this.#sendDue();
    });
  }
}
