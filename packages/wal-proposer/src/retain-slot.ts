/**
 * Connection B: holds the physical slot that makes PostgreSQL keep WAL for acceptors that lag, and that lets only
 * one bridge at a time work on a primary.
 *
 * The slot is acquired before an election is begun. PostgreSQL hands a slot to one walsender at a time, so a second
 * bridge stops here instead of starting a duel of terms. What is reported on this connection moves the slot, and
 * nothing else: PostgreSQL sets restart_lsn to the reported flush position, even backwards, so only the
 * truncate LSN (below which no acceptor will ever ask) is reported, never less than the slot already had, at most
 * once a second. That needs a stream; it starts at the present end of the log, and what arrives is dropped.
 * A slot that PostgreSQL has invalidated (max_slot_wal_keep_size) is dropped and made anew.
 */
import { addBytes, INVALID_LSN, maxLsn, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseReplicationMessage } from "@millrace/pg-wire";
import type { ClientConnection, CopyBothStream } from "@millrace/pg-wire";
import { ProposerError } from "./errors.js";
import { PositionReporter } from "./position-reporter.js";
import { firstRow, postgresError, sqlstateOf } from "./postgres-connection.js";
import { startReplication } from "./postgres-source.js";
import { ShutdownSigns } from "./shutdown-signs.js";
import { SilenceWatch } from "./silence-watch.js";
import { StatusSender } from "./status-sender.js";
import type { Clock } from "./timers.js";
import { delay } from "./timers.js";

/** Names that PostgreSQL accepts for slots; anything else would have to be quoted. */
const SLOT_NAME = /^[a-z0-9_]{1,63}$/;
const FEATURE_NOT_SUPPORTED = "0A000"; // what READ_REPLICATION_SLOT says about a logical slot
const OBJECT_IN_USE = "55006";
const OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
/** A walsender whose bridge has just died may hold the slot for a moment longer. */
const ACQUIRE_RETRY_MS = 200;
/** The slot moves at most this often. */
const ADVANCE_GAP_MS = 1000;

/** See the members. */
export interface RetainSlotOptions {
  /** A replication connection, given: closed together with the slot's owner. */
  readonly connection: ClientConnection;
  readonly slotName: string;
  /** The present end of PostgreSQL's log. */
  readonly startLsn: Lsn;
  readonly timelineId: number;
  readonly reportIntervalMs: number;
  readonly silenceMs: number;
  /** How long to wait for a slot that is in use. */
  readonly acquireTimeoutMs: number;
  readonly clock: Clock;
}

/** The slot, held for as long as the connection lives. */
export class RetainSlot {
  readonly #connection: ClientConnection;
  readonly #stream: CopyBothStream;
  readonly #reporter: PositionReporter;
  readonly #sender: StatusSender;
  readonly #clock: Clock;
  readonly #shutdown: ShutdownSigns;
  readonly #silence: SilenceWatch;
  /** Why this side has dropped the connection, if it was for silence. */
  #silent: unknown;
  #receivedLsn: Lsn;
  #truncateLsn: Lsn = INVALID_LSN;

  private constructor(options: RetainSlotOptions, stream: CopyBothStream, restartLsn: Lsn) {
    this.#connection = options.connection;
    this.#stream = stream;
    this.#clock = options.clock;
    this.#shutdown = new ShutdownSigns(options.reportIntervalMs);
    this.#receivedLsn = options.startLsn;
    this.#reporter = new PositionReporter({
      startLsn: options.startLsn,
      floorLsn: restartLsn,
      nowMs: options.clock.monotonicMs(),
      intervalMs: options.reportIntervalMs,
      advanceGapMs: ADVANCE_GAP_MS,
    });
    this.#sender = new StatusSender({
      reporter: this.#reporter,
      writer: stream.writer,
      clock: options.clock,
      receivedLsn: () => this.#receivedLsn,
      committedLsn: () => this.#truncateLsn,
      failed: () => this.destroy(),
    });
    this.#silence = new SilenceWatch({
      limitMs: options.silenceMs,
      clock: options.clock,
      ask: () => this.#sender.ask(),
      silent: (error) => {
        this.#silent = error;
        this.destroy();
      },
    });
  }

  /**
   * Creates the slot if it is not there, and takes hold of it.
   *
   * @throws {ProposerError} ERR_BRIDGE_SLOT_ACTIVE, ERR_BRIDGE_SLOT, ERR_BRIDGE_POSTGRES
   */
  static async acquire(options: RetainSlotOptions): Promise<RetainSlot> {
    const { connection, slotName, clock } = options;
    if (!SLOT_NAME.test(slotName)) throw new RangeError(`${JSON.stringify(slotName)} cannot name a slot`);
    const deadlineMs = clock.monotonicMs() + options.acquireTimeoutMs;
    const command = startReplication(options.startLsn, options.timelineId, slotName);
    for (;;) {
      try {
        const restartLsn = await prepareSlot(connection, slotName);
        const stream = await startOrDrop(connection, slotName, command);
        if (stream !== undefined) return new RetainSlot(options, stream, restartLsn);
        if (clock.monotonicMs() >= deadlineMs) {
          const message = `slot ${slotName} was invalidated again before it could be used`;
          throw new ProposerError("ERR_BRIDGE_POSTGRES", message);
        }
      } catch (error) {
        if (sqlstateOf(error) !== OBJECT_IN_USE)
          throw postgresError(`acquiring slot ${slotName} failed`, error);
        if (clock.monotonicMs() >= deadlineMs) {
          const message = `slot ${slotName} is in use: another bridge works on this PostgreSQL`;
          throw new ProposerError("ERR_BRIDGE_SLOT_ACTIVE", message, { cause: error });
        }
      }
      await delay(clock, ACQUIRE_RETRY_MS);
    }
  }

  /** The position that PostgreSQL was told to keep WAL from; 0/0 if this connection has not moved the slot. */
  get retainedLsn(): Lsn {
    return this.#sender.sentLsn;
  }

  /** No acceptor will ask for WAL below `truncateLsn`. */
  advance(truncateLsn: Lsn): void {
    this.#truncateLsn = maxLsn(this.#truncateLsn, truncateLsn);
    this.#reporter.committed(truncateLsn);
    this.#sender.changed();
  }

  /**
   * Reads and drops the stream until the connection ends, from either side.
   *
   * A PostgreSQL that shuts down waits until all it has sent was reported as flushed, which a slot's position never
   * comes to. So the connection is ended as soon as that state shows (see ShutdownSigns), unless `isKept` says that it is
   * to be held: while WAL is still being taken, which must not lose its slot, and whose end ends the slot as well.
   *
   * @returns why; never rejects
   */
  async run(isKept: () => boolean): Promise<unknown> {
    const { reader } = this.#stream;
    try {
      for (;;) {
        const event = reader.tryNext() ?? (await reader.next());
        if (event.type !== "data")
          return new ProposerError("ERR_BRIDGE_POSTGRES", "PostgreSQL ended the slot's stream");
        this.#silence.heard();
        const message = parseReplicationMessage(event.payload);
        if (message.type === "keepalive") {
          if (!message.replyRequested) continue;
          if (this.#shutdown.requested(this.#clock.monotonicMs(), this.#sender.sentReports) && !isKept())
            return new ProposerError("ERR_BRIDGE_POSTGRES", "PostgreSQL is shutting down");
          this.#reporter.replyRequested();
        } else {
          this.#shutdown.wal();
          this.#receivedLsn = addBytes(message.startLsn, message.walData.byteLength);
          this.#reporter.received(this.#receivedLsn);
          if (this.#truncateLsn <= this.#reporter.reportedLsn) continue;
        }
        this.#sender.changed();
      }
    } catch (error) {
      return this.#silent ?? error;
    } finally {
      this.destroy();
    }
  }

  /** Reports the last position and lets the slot go. */
  async finish(): Promise<void> {
    this.#sender.finish();
    this.#silence.close();
    await this.#stream.writer.done();
    await this.#connection.close();
  }

  /** Lets the slot go at once. */
  destroy(): void {
    this.#silence.close();
    this.#sender.close();
    this.#connection.destroy();
  }
}

/**
 * Makes sure that a physical slot of that name exists and reserves WAL, and gives its restart position.
 *
 * A slot without one was invalidated, or created without a reservation. PostgreSQL lets a physical one stream all the
 * same and keeps nothing for it, so it is replaced; if somebody streams from it, that fails as "in use".
 */
async function prepareSlot(connection: ClientConnection, slotName: string): Promise<Lsn> {
  const existing = await readSlot(connection, slotName);
  if (existing !== undefined && existing !== INVALID_LSN) return existing;
  if (existing !== undefined) await dropSlot(connection, slotName);
  await firstRow(connection, `CREATE_REPLICATION_SLOT "${slotName}" PHYSICAL (RESERVE_WAL)`);
  return (await readSlot(connection, slotName)) ?? INVALID_LSN;
}

/** Streams from the slot; if PostgreSQL says that it is invalidated, drops it instead and gives undefined. */
async function startOrDrop(
  connection: ClientConnection,
  slotName: string,
  command: string,
): Promise<CopyBothStream | undefined> {
  try {
    return await connection.startCopyBoth(command);
  } catch (error) {
    if (sqlstateOf(error) !== OBJECT_NOT_IN_PREREQUISITE_STATE) throw error;
    await dropSlot(connection, slotName);
    return undefined;
  }
}

async function dropSlot(connection: ClientConnection, slotName: string): Promise<void> {
  await firstRow(connection, `DROP_REPLICATION_SLOT "${slotName}"`);
}

/** The restart position of a physical slot, 0/0 if it has none; undefined if there is no slot. */
async function readSlot(connection: ClientConnection, slotName: string): Promise<Lsn | undefined> {
  try {
    const row = await firstRow(connection, `READ_REPLICATION_SLOT ${slotName}`);
    return row?.[0] === "physical" ? (tryParseLsn(row[1] ?? "") ?? INVALID_LSN) : undefined;
  } catch (error) {
    if (sqlstateOf(error) !== FEATURE_NOT_SUPPORTED) throw error;
    throw new ProposerError("ERR_BRIDGE_SLOT", `slot ${slotName} is not a physical one`, { cause: error });
  }
}
