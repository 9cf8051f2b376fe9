/**
 * Connection A: WAL comes in, quorum positions go out. The only connection whose flush position releases commits.
 *
 * It uses no slot, so that what it reports never moves one. It checks that every message starts exactly where the
 * one before ended, hands the bytes on without a copy and in batches (all that is already here, up to
 * BATCH_BYTES), and lets the owner hold reading up between batches. Replies do not wait for reading: while
 * the owner holds it up, PostgreSQL still hears from us and keeps the connection.
 *
 * A quorum that is lost is no reason to disconnect: the position then simply stops. Only two things end the
 * connection from this side, `finish` (after a last report) and `destroy` (at once, when another proposer was elected).
 */
import { addBytes, formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseReplicationMessage, serializeHotStandbyFeedback, toPgTimestamp } from "@millrace/pg-wire";
import type { ClientConnection, CopyBothStream, CopyEvent } from "@millrace/pg-wire";
import { ProposerError } from "./errors.js";
import { PositionReporter } from "./position-reporter.js";
import { isWireError, postgresError, sqlstateOf } from "./postgres-connection.js";
import { SilenceWatch } from "./silence-watch.js";
import { StatusSender } from "./status-sender.js";
import type { Clock, Timer } from "./timers.js";

/** Bytes after which a batch is passed on although more is already here. */
const BATCH_BYTES = 1024 * 1024;
/** Least time between two hot standby feedback messages; a walreceiver sends one each 10 s. */
const FEEDBACK_GAP_MS = 1000;

/** The owner's side of the stream. */
export interface SourceHandlers {
  /** Bytes that follow at the end of all earlier ones. Given, never written to again. */
  wal(bytes: Uint8Array): void;
  /** The bytes since the last call are a batch. A promise holds reading up until it resolves. */
  batch(): Promise<void> | undefined;
  /** The highest position that may be reported. */
  committedLsn(): Lsn;
}

/** See the members. */
export interface PostgresSourceOptions {
  /** Given: closed together with the source. */
  readonly connection: ClientConnection;
  readonly startLsn: Lsn;
  readonly timelineId: number;
  /** Nothing below this is reported; the start of the proposer's term. */
  readonly floorLsn: Lsn;
  readonly reportApply: "commit" | "none";
  readonly reportIntervalMs: number;
  readonly silenceMs: number;
  readonly clock: Clock;
  readonly handlers: SourceHandlers;
  /** Wait for the first message before `open` resolves: it may be the server's refusal. */
  readonly expectData: boolean;
}

/** One stream from PostgreSQL. */
export class PostgresSource {
  readonly #options: PostgresSourceOptions;
  readonly #stream: CopyBothStream;
  readonly #reporter: PositionReporter;
  readonly #sender: StatusSender;
  readonly #silence: SilenceWatch;
  #receivedLsn: Lsn;
  #first: CopyEvent | undefined;
  /** Why this side has dropped the connection. */
  #dropped: unknown;
  #feedback: { readonly xmin: bigint; readonly catalogXmin: bigint } | undefined;
  #feedbackTimer: Timer | undefined;
  #feedbackSentMs = Number.NEGATIVE_INFINITY;

  private constructor(options: PostgresSourceOptions, stream: CopyBothStream, first: CopyEvent | undefined) {
    this.#options = options;
    this.#stream = stream;
    this.#first = first;
    this.#receivedLsn = options.startLsn;
    this.#reporter = new PositionReporter({
      startLsn: options.startLsn,
      floorLsn: options.floorLsn,
      nowMs: options.clock.monotonicMs(),
      reportApply: options.reportApply,
      intervalMs: options.reportIntervalMs,
    });
    this.#sender = new StatusSender({
      reporter: this.#reporter,
      writer: stream.writer,
      clock: options.clock,
      receivedLsn: () => this.#receivedLsn,
      committedLsn: () => options.handlers.committedLsn(),
      failed: (error) => this.#giveUp(error),
    });
    this.#silence = new SilenceWatch({
      limitMs: options.silenceMs,
      clock: options.clock,
      ask: () => this.#sender.ask(),
      silent: (error) => this.#giveUp(error),
    });
  }

  /**
   * Starts streaming on `connection`, which is destroyed if that fails.
   *
   * @throws {ProposerError} ERR_BRIDGE_WAL_REMOVED if PostgreSQL no longer has the start, else ERR_BRIDGE_POSTGRES
   */
  static async open(options: PostgresSourceOptions): Promise<PostgresSource> {
    const { connection, startLsn, timelineId } = options;
    try {
      const stream = await connection.startCopyBoth(startReplication(startLsn, timelineId));
      const first = options.expectData ? await stream.reader.next() : undefined;
      return new PostgresSource(options, stream, first);
    } catch (error) {
      connection.destroy();
      throw startError(startLsn, error);
    }
  }

  /** End of what has been received. */
  get receivedLsn(): Lsn {
    return this.#receivedLsn;
  }

  /** The flush position that PostgreSQL was told last. */
  get reportedLsn(): Lsn {
    return this.#sender.sentLsn;
  }

  /**
   * Reads until PostgreSQL ends the stream.
   *
   * @returns when the server has ended it, as in a shutdown
   * @throws {ProposerError} ERR_BRIDGE_POSTGRES, ERR_BRIDGE_WAL_GAP, ERR_BRIDGE_OVERREPORT; and what handlers throw
   */
  async run(): Promise<void> {
    try {
      await this.#read();
    } catch (error) {
      if (this.#dropped !== undefined) throw this.#dropped;
      throw isWireError(error) ? postgresError("the stream from PostgreSQL failed", error) : error;
    } finally {
      this.destroy();
    }
  }

  /** The quorum has everything up to `lsn`. */
  committed(lsn: Lsn): void {
    this.#reporter.committed(lsn);
    this.#sender.changed();
  }

  /** Which transactions the acceptors' standbys still need; forwarded when it changes, at most once a second. */
  hotStandby(feedback: { readonly xmin: bigint; readonly catalogXmin: bigint }): void {
    const last = this.#feedback ?? { xmin: 0n, catalogXmin: 0n };
    if (feedback.xmin === last.xmin && feedback.catalogXmin === last.catalogXmin) return;
    this.#feedback = { xmin: feedback.xmin, catalogXmin: feedback.catalogXmin };
    const { clock } = this.#options;
    const waitMs = Math.max(0, this.#feedbackSentMs + FEEDBACK_GAP_MS - clock.monotonicMs());
    this.#feedbackTimer ??= clock.setTimer(waitMs, () => this.#sendFeedback());
  }

  /** Sends a last report, ends the copy and closes the connection. */
  async finish(): Promise<void> {
    this.#sender.finish();
    this.#silence.close();
    this.#feedbackTimer?.cancel();
    await this.#stream.writer.done();
    await this.#options.connection.close();
  }

  #giveUp(error: unknown): void {
    this.#dropped = error;
    this.destroy();
  }

  /** Drops the connection at once; `run` ends. */
  destroy(): void {
    this.#silence.close();
    this.#sender.close();
    this.#feedbackTimer?.cancel();
    this.#options.connection.destroy();
  }

  async #read(): Promise<void> {
    const { reader } = this.#stream;
    let batchBytes = 0;
    for (;;) {
      let event = this.#first ?? reader.tryNext();
      this.#first = undefined;
      if (event === undefined || batchBytes >= BATCH_BYTES) {
        const hold = this.#endBatch();
        batchBytes = 0;
        if (hold !== undefined) await this.#held(hold);
        event ??= await reader.next();
      }
      if (event.type !== "data") {
        void this.#endBatch(); // nothing is left to be held up
        return;
      }
      batchBytes += this.#take(event.payload);
    }
  }

  async #held(hold: Promise<void>): Promise<void> {
    this.#silence.hold();
    await hold;
    this.#silence.resume();
  }

  #endBatch(): Promise<void> | undefined {
    const hold = this.#options.handlers.batch();
    this.#reporter.received(this.#receivedLsn);
    this.#sender.changed();
    return hold;
  }

  #take(payload: Uint8Array): number {
    this.#silence.heard();
    const message = parseReplicationMessage(payload);
    if (message.type === "keepalive") {
      if (message.replyRequested) this.#reporter.replyRequested();
      return 0;
    }
    if (message.startLsn !== this.#receivedLsn) throw gapError(this.#receivedLsn, message.startLsn);
    this.#options.handlers.wal(message.walData);
    this.#receivedLsn = addBytes(message.startLsn, message.walData.byteLength);
    return message.walData.byteLength;
  }

  #sendFeedback(): void {
    this.#feedbackTimer = undefined;
    if (this.#feedback === undefined) return;
    const { clock } = this.#options;
    this.#feedbackSentMs = clock.monotonicMs();
    const timestamp = toPgTimestamp(clock.wallMs());
    void this.#stream.writer.send(serializeHotStandbyFeedback({ timestamp, ...this.#feedback }));
  }
}

/** The command that starts physical streaming without a slot, or with one. */
export function startReplication(startLsn: Lsn, timelineId: number, slotName?: string): string {
  const slot = slotName === undefined ? "" : `SLOT "${slotName}" `;
  return `START_REPLICATION ${slot}PHYSICAL ${formatLsn(startLsn)} TIMELINE ${timelineId}`;
}

/** What PostgreSQL said instead of streaming; 58P01 stands for a segment that has been removed. */
export function startError(startLsn: Lsn, error: unknown): ProposerError {
  const wrapped = postgresError(`streaming from ${formatLsn(startLsn)} failed`, error);
  if (sqlstateOf(error) !== SEGMENT_REMOVED) return wrapped;
  const message = `PostgreSQL no longer has the WAL at ${formatLsn(startLsn)}`;
  return new ProposerError("ERR_BRIDGE_WAL_REMOVED", message, { cause: error });
}

/** ERR_BRIDGE_WAL_GAP for a message that does not start where the stream had ended. */
export function gapError(expectedLsn: Lsn, startLsn: Lsn): ProposerError {
  const message = `PostgreSQL's stream continues at ${formatLsn(startLsn)} instead of ${formatLsn(expectedLsn)}`;
  return new ProposerError("ERR_BRIDGE_WAL_GAP", message);
}

const SEGMENT_REMOVED = "58P01";
