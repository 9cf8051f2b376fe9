/**
 * The commands of stock replication clients on the WAL port: walreceiver, pg_receivewal, pg_basebackup.
 *
 * Answers have the shapes that libpq's clients insist on, which libpqwalreceiver.c and receivelog.c check column by
 * column. START_REPLICATION alone enters COPY; it comes back to the command loop when both sides have ended COPY (at the
 * end of one of PostgreSQL's timelines, or when the client has enough), because a standby goes on with
 * TIMELINE_HISTORY on the same connection. Every other end closes the connection.
 */
import { formatLsn, INVALID_LSN, timelineHistoryFileName } from "@millrace/lsn";
import type { Column, ServerConnection } from "@millrace/pg-wire";

import type { Clock } from "./clock.js";
import type { CreateReplicationSlot, StartReplication } from "./command-grammar.js";
import type { SlotLease } from "./consumer-slots.js";
import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import { AcceptorError } from "./errors.js";
import { finishStream } from "./finish-stream.js";
import type { PgTimeline } from "./pg-timelines.js";
import type { Timeline } from "./timeline.js";
import { sendWal } from "./walsender.js";
import type { WalSenderGuard } from "./walsender-registry.js";

const TEXT = "text" as const;
const IDENTIFY_SYSTEM_COLUMNS: readonly Column[] = [
  { name: "systemid", type: TEXT },
  { name: "timeline", type: "int4" },
  { name: "xlogpos", type: TEXT },
  { name: "dbname", type: TEXT },
];
const READ_REPLICATION_SLOT_COLUMNS: readonly Column[] = [
  { name: "slot_type", type: TEXT },
  { name: "restart_lsn", type: TEXT },
  { name: "restart_tli", type: "int8" },
];
const CREATE_REPLICATION_SLOT_COLUMNS: readonly Column[] = [
  { name: "slot_name", type: TEXT },
  { name: "consistent_point", type: TEXT },
  { name: "snapshot_name", type: TEXT },
  { name: "output_plugin", type: TEXT },
];
const TIMELINE_HISTORY_COLUMNS: readonly Column[] = [
  { name: "filename", type: TEXT },
  { name: "content", type: TEXT },
];
const NEXT_TIMELINE_COLUMNS: readonly Column[] = [
  { name: "next_tli", type: "int8" },
  { name: "next_tli_startpos", type: TEXT },
];

/** What the commands of one connection work with. */
export interface ReplicationPortOptions {
  /** Lent: closed here only when a stream ends it. */
  readonly connection: ServerConnection;
  readonly place: EventPlace;
  readonly clock: Clock;
  readonly idleTimeoutMs: number;
  /** Aborted when the node stops. */
  readonly stopSignal: AbortSignal;
}

/** The replication commands of one connection. One at a time; the caller sends errors and ReadyForQuery. */
export class ReplicationPort implements Disposable {
  readonly #options: ReplicationPortOptions;
  readonly #connection: ServerConnection;
  /** Timelines on which this connection has made temporary slots. */
  readonly #temporarySlots = new Set<Timeline>();

  constructor(options: ReplicationPortOptions) {
    this.#options = options;
    this.#connection = options.connection;
  }

  /** IDENTIFY_SYSTEM. */
  async identifySystem(timeline: Timeline): Promise<void> {
    const { state, readers } = timeline;
    const position = this.#isRecoveryReader() ? state.flushLsn : state.commitLsn;
    const { timelineId } = readers.pgTimelineAt(state.commitLsn);
    const row = [state.server.systemId.toString(), String(timelineId), formatLsn(position), null];
    await this.#connection.sendRows(IDENTIFY_SYSTEM_COLUMNS, [row], "IDENTIFY_SYSTEM");
  }

  /** TIMELINE_HISTORY. @throws {AcceptorError} ERR_ACCEPTOR_NO_HISTORY_FILE */
  async timelineHistory(timeline: Timeline, timelineId: number): Promise<void> {
    const filename = timelineHistoryFileName(timelineId);
    const history = timeline.readers.pgTimelines.value.get(timelineId)?.history ?? "";
    if (history === "") {
      // The words of PostgreSQL, which has no history file for the first timeline either.
      const message = `could not open file "pg_wal/${filename}": No such file or directory`;
      throw new AcceptorError("ERR_ACCEPTOR_NO_HISTORY_FILE", message);
    }
    await this.#connection.sendRows(TIMELINE_HISTORY_COLUMNS, [[filename, history]], "TIMELINE_HISTORY");
  }

  /** READ_REPLICATION_SLOT; a row of NULLs is how PostgreSQL says that there is none. */
  async readSlot(timeline: Timeline, name: string): Promise<void> {
    const slot = timeline.readers.slots.get(name);
    let row: readonly (string | null)[] = [null, null, null];
    if (slot !== undefined) {
      const kept = slot.restartLsn !== INVALID_LSN;
      const { timelineId } = timeline.readers.pgTimelineAt(slot.restartLsn);
      row = ["physical", kept ? formatLsn(slot.restartLsn) : null, kept ? String(timelineId) : null];
    }
    await this.#connection.sendRows(READ_REPLICATION_SLOT_COLUMNS, [row], "READ_REPLICATION_SLOT");
  }

  /** CREATE_REPLICATION_SLOT. @throws {AcceptorError} as `ConsumerSlots.create` */
  async createSlot(timeline: Timeline, command: CreateReplicationSlot): Promise<void> {
    const { slot, temporary, reserveWal } = command;
    const restartLsn = reserveWal ? timeline.state.commitLsn : INVALID_LSN;
    if (temporary) this.#temporarySlots.add(timeline);
    const owner = temporary ? this.#connection.processId : undefined;
    await timeline.readers.slots.create(slot, restartLsn, owner);
    const row = [slot, "0/0", null, null];
    await this.#connection.sendRows(CREATE_REPLICATION_SLOT_COLUMNS, [row], "CREATE_REPLICATION_SLOT");
  }

  /** DROP_REPLICATION_SLOT. @throws {AcceptorError} as `ConsumerSlots.drop` */
  async dropSlot(timeline: Timeline, name: string): Promise<void> {
    await timeline.readers.slots.drop(name, this.#connection.processId);
    timeline.wakeManager();
    await this.#connection.sendCommandComplete("DROP_REPLICATION_SLOT");
  }

  /**
   * START_REPLICATION.
   *
   * @returns "loop" when the command is over and ReadyForQuery may follow, "closed" when the connection is
   * @throws {AcceptorError} before COPY began: ERR_ACCEPTOR_NOT_IN_HISTORY, _CONNECTION_LIMIT, _CANCELLED, and what
   *   `ConsumerSlots.acquire` throws
   */
  async startReplication(timeline: Timeline, command: StartReplication): Promise<"loop" | "closed"> {
    const successor = this.#checkHistory(timeline, command);
    const guard = timeline.enter();
    try {
      const connectionId = this.#connection.processId;
      using sender = timeline.readers.senders.register({
        connectionId,
        applicationName: this.#connection.parameters.get("application_name") ?? "",
        term: command.term,
        slot: command.slot,
      });
      using slot =
        command.slot === undefined
          ? undefined
          : await timeline.readers.slots.acquire(command.slot, connectionId, command.startLsn);
      if (successor !== undefined && command.startLsn === successor.beginLsn) {
        await this.#sendNextTimeline(successor);
        return "loop";
      }
      return await this.#stream(timeline, command, sender, slot);
    } finally {
      guard.release();
    }
  }

  /** The connection has ended: its temporary slots go. */
  [Symbol.dispose](): void {
    for (const timeline of this.#temporarySlots) {
      timeline.readers.slots.dropTemporary(this.#connection.processId);
      timeline.wakeManager();
    }
  }

  // The timeline that follows the one asked for, if there is one.
  #checkHistory(timeline: Timeline, { startLsn, timelineId }: StartReplication): PgTimeline | undefined {
    if (timelineId === undefined) return undefined;
    const known = timeline.readers.pgTimelines.value;
    if (known.get(timelineId) === undefined) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_NOT_IN_HISTORY",
        `requested timeline ${timelineId} is not in this server's history`,
      );
    }
    const successor = known.successorOf(timelineId);
    if (successor !== undefined && startLsn > successor.beginLsn) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_NOT_IN_HISTORY",
        `requested starting point ${formatLsn(startLsn)} on timeline ${timelineId} is not in this server's history, which forked from timeline ${timelineId} at ${formatLsn(successor.beginLsn)}`,
      );
    }
    return successor;
  }

  async #stream(
    timeline: Timeline,
    command: StartReplication,
    sender: WalSenderGuard,
    slot: SlotLease | undefined,
  ): Promise<"loop" | "closed"> {
    const { clock, idleTimeoutMs, stopSignal, place } = this.#options;
    const { reader, writer } = await this.#connection.startCopyBoth();
    publish(() => ({
      ...place,
      type: "reader-started",
      level: "info",
      startLsn: formatLsn(command.startLsn),
    }));
    const { end, idle } = await sendWal({
      command,
      timeline,
      place,
      sender,
      slot,
      reader,
      writer,
      clock,
      idleTimeoutMs,
      stopSignal,
    });
    if (end.kind === "end-of-timeline" || end.kind === "peer-done" || end.kind === "stopped") {
      await idle;
      publish(() => ({ ...place, type: "stream-ended", level: "info", reason: end.kind, error: undefined }));
      return await this.#afterCopy(end.kind, timeline, command);
    }
    await finishStream(this.#connection, writer, end, place);
    await idle;
    return "closed";
  }

  // Both sides have ended COPY.
  async #afterCopy(
    kind: "end-of-timeline" | "peer-done" | "stopped",
    timeline: Timeline,
    command: StartReplication,
  ): Promise<"loop" | "closed"> {
    if (kind === "stopped") {
      // As PostgreSQL's walsender says goodbye. The client may drop the connection as soon as it has read this.
      await this.#connection.sendCommandComplete("COPY 0");
      await this.#connection.sendReadyForQuery();
      await this.#connection.close();
      return "closed";
    }
    const { timelineId } = command;
    const known = timeline.readers.pgTimelines.value;
    const successor = timelineId === undefined ? undefined : known.successorOf(timelineId);
    if (successor !== undefined) await this.#sendNextTimeline(successor);
    else {
      await this.#connection.sendCommandComplete("START_STREAMING");
      await this.#connection.sendCommandComplete("START_REPLICATION");
    }
    return "loop";
  }

  // Two CommandCompletes: libpqrcv_endstreaming reads a result with rows and then one without.
  async #sendNextTimeline({ timelineId, beginLsn }: PgTimeline): Promise<void> {
    const row = [String(timelineId), formatLsn(beginLsn)];
    await this.#connection.sendRows(NEXT_TIMELINE_COLUMNS, [row], "START_STREAMING");
    await this.#connection.sendCommandComplete("START_REPLICATION");
  }

  // Proposers in recovery and other acceptors continue from what is durable, everybody else from what is committed.
  #isRecoveryReader(): boolean {
    const name = this.#connection.parameters.get("application_name") ?? "";
    return name === "wal_proposer_recovery" || name.startsWith("safekeeper");
  }
}
