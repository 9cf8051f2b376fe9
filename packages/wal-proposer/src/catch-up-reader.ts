/**
 * Connection C: an extra reader of PostgreSQL's WAL for an acceptor that needs older bytes than the ring has.
 *
 * Opened on demand, at most a few at a time (CatchUp sees to that), without a slot: the retain slot keeps what any
 * acceptor may need. It never reports a position (flush stays 0/0, so PostgreSQL counts it as asynchronous whatever
 * synchronous_standby_names says) but does answer, so that the walsender does not give it up while a slow acceptor
 * holds reading up.
 */
import { addBytes, formatLsn, INVALID_LSN, MAX_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseReplicationMessage } from "@millrace/pg-wire";
import type { ClientOptions, CopyBothStream } from "@millrace/pg-wire";
import type { CatchUpStream, WalChunk } from "./catch-up.js";
import { ProposerError } from "./errors.js";
import { PositionReporter } from "./position-reporter.js";
import { connectReplication } from "./postgres-connection.js";
import { gapError, startError, startReplication } from "./postgres-source.js";
import { SilenceWatch } from "./silence-watch.js";
import { StatusSender } from "./status-sender.js";
import type { Clock } from "./timers.js";

/** The halves of a COPY. */
type CopyHalves = Pick<CopyBothStream, "reader" | "writer">;

/** What a stream needs of its connection; see `ClientConnection`. */
export interface ReplicationConnection {
  startCopyBoth(command: string): Promise<CopyHalves>;
  destroy(): void;
}

/** See the members. */
export interface CatchUpStreamOptions {
  readonly fromLsn: Lsn;
  /** Starts the stream at `fromLsn`. */
  readonly command: string;
  /** A keepalive that says that there is no more ends the stream. */
  readonly endsWhenIdle?: boolean;
  readonly reportIntervalMs: number;
  /** How long the other side may be silent while it is being waited for; without it, for ever. */
  readonly silenceMs?: number;
  readonly clock: Clock;
}

/** See the members. */
export interface CatchUpReaderOptions extends Omit<CatchUpStreamOptions, "command"> {
  readonly timelineId: number;
  readonly postgres: ClientOptions;
  readonly applicationName: string;
  readonly signal?: AbortSignal;
}

/** A stream of WAL from PostgreSQL for one acceptor. */
export class CatchUpReader implements CatchUpStream {
  readonly #connection: ReplicationConnection;
  readonly #stream: CopyHalves;
  readonly #reporter: PositionReporter;
  readonly #sender: StatusSender;
  readonly #endsWhenIdle: boolean;
  readonly #silence: SilenceWatch | undefined;
  /** Why this side has dropped the connection, if it was for silence. */
  #silent: unknown;
  #nextLsn: Lsn;

  private constructor(options: CatchUpStreamOptions, connection: ReplicationConnection, stream: CopyHalves) {
    this.#connection = connection;
    this.#stream = stream;
    this.#nextLsn = options.fromLsn;
    this.#endsWhenIdle = options.endsWhenIdle === true;
    this.#reporter = new PositionReporter({
      startLsn: options.fromLsn,
      floorLsn: MAX_LSN,
      nowMs: options.clock.monotonicMs(),
      intervalMs: options.reportIntervalMs,
    });
    this.#sender = new StatusSender({
      reporter: this.#reporter,
      writer: stream.writer,
      clock: options.clock,
      receivedLsn: () => this.#nextLsn,
      committedLsn: () => INVALID_LSN,
      failed: () => this.close(),
    });
    const { silenceMs, clock } = options;
    if (silenceMs === undefined) return;
    this.#silence = new SilenceWatch({
      limitMs: silenceMs,
      clock,
      ask: () => this.#sender.ask(),
      silent: (error) => {
        this.#silent = error;
        this.close();
      },
    });
    this.#silence.hold(); // only while somebody waits
  }

  /**
   * Connects and starts to stream at `fromLsn`.
   *
   * @throws {ProposerError} ERR_BRIDGE_POSTGRES; that the WAL is gone shows at the first `next`
   */
  static async open(options: CatchUpReaderOptions): Promise<CatchUpReader> {
    const { postgres, applicationName, signal, fromLsn, timelineId } = options;
    const connection = await connectReplication(postgres, applicationName, signal);
    return CatchUpReader.start(connection, { ...options, command: startReplication(fromLsn, timelineId) });
  }

  /**
   * Starts to stream on `connection`, which is given: it goes with the reader, or at once if this fails.
   *
   * @throws {ProposerError} as `open`
   */
  static async start(
    connection: ReplicationConnection,
    options: CatchUpStreamOptions,
  ): Promise<CatchUpReader> {
    try {
      return new CatchUpReader(options, connection, await connection.startCopyBoth(options.command));
    } catch (error) {
      connection.destroy();
      throw startError(options.fromLsn, error);
    }
  }

  /** @throws {ProposerError} ERR_BRIDGE_WAL_REMOVED, ERR_BRIDGE_WAL_GAP, ERR_BRIDGE_POSTGRES (also after `close`) */
  async next(): Promise<WalChunk> {
    const { reader } = this.#stream;
    for (;;) {
      const event = reader.tryNext() ?? (await this.#nextEvent());
      if (event.type !== "data") {
        throw new ProposerError("ERR_BRIDGE_POSTGRES", "PostgreSQL ended a catch-up stream");
      }
      const message = parseReplicationMessage(event.payload);
      if (message.type === "keepalive") {
        if (message.replyRequested) this.#reporter.replyRequested();
        this.#sender.changed();
        if (this.#endsWhenIdle && message.endLsn <= this.#nextLsn) {
          throw new ProposerError("ERR_BRIDGE_WAL_GAP", `the log ends at ${formatLsn(message.endLsn)}`);
        }
        continue;
      }
      const { startLsn, walData } = message;
      if (startLsn !== this.#nextLsn) throw gapError(this.#nextLsn, startLsn);
      this.#nextLsn = addBytes(startLsn, walData.byteLength);
      return { startLsn, bytes: walData };
    }
  }

  close(): void {
    this.#silence?.close();
    this.#sender.close();
    this.#connection.destroy();
  }

  async #nextEvent(): ReturnType<CopyHalves["reader"]["next"]> {
    this.#silence?.resume();
    try {
      return await this.#stream.reader.next();
    } catch (error) {
      throw this.#silent ?? startError(this.#nextLsn, error);
    } finally {
      this.#silence?.hold();
    }
  }
}
