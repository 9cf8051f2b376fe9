// A walsender made of answers: just enough of PostgreSQL's replication protocol to misbehave on purpose.
import type { Duplex } from "node:stream";
import { formatLsn, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  acceptConnection,
  parseStandbyMessage,
  serializeKeepalive,
  serializeXLogDataHeader,
} from "@millrace/pg-wire";
import type { CopyReader, CopyWriter, ServerConnection, StandbyStatus } from "@millrace/pg-wire";
import { socketPair } from "./socket-pair.js";

/** One running START_REPLICATION. */
export interface FakeStream {
  readonly connection: ServerConnection;
  readonly startLsn: Lsn;
  readonly writer: CopyWriter;
  readonly statuses: StandbyStatus[];
  /** Resolves when the bridge has gone, one way or the other. */
  readonly ended: Promise<void>;
}

interface QueryError {
  readonly code: string;
  readonly message: string;
}

export class FakePostgres {
  serverVersion = "15.18";
  systemId = 42n;
  timelineId = 1;
  /** The history file of its timeline; "" stands for none. */
  history = "";
  flushLsn: Lsn;
  inRecovery = false;
  /** Without a restart position it reserves nothing. */
  slot: { restartLsn: Lsn | undefined } | undefined;
  /** What START_REPLICATION with the slot says, first answers first. */
  readonly slotErrors: QueryError[] = [];
  /** What DROP_REPLICATION_SLOT says, first answers first. */
  readonly dropErrors: QueryError[] = [];
  /** WAL below this is gone. */
  oldestLsn: Lsn;
  readonly settings: Map<string, string> = new Map([
    ["wal_segment_size", "16MB"],
    ["synchronous_standby_names", "walbridge"],
    ["synchronous_commit", "on"],
    ["fsync", "on"],
    ["full_page_writes", "on"],
    ["wal_level", "replica"],
    ["wal_sender_timeout", "1min"],
  ]);
  readonly queries: string[] = [];
  /** The slot's stream, and the one that feeds the bridge. */
  slotStream: FakeStream | undefined;
  stream: FakeStream | undefined;

  constructor(flushLsn: Lsn, oldestLsn: Lsn) {
    this.flushLsn = flushLsn;
    this.oldestLsn = oldestLsn;
  }

  /** Takes what comes and answers nothing any more: the host is gone. */
  isMute = false;
  /** Connections are refused. */
  isDown = false;
  attempts = 0;

  readonly connectSocket = (): Duplex => {
    const [ours, theirs] = socketPair();
    this.attempts += 1;
    if (this.isDown) theirs.destroy();
    else void this.#serve(theirs);
    return ours;
  };

  sendWal(startLsn: Lsn, bytes: Uint8Array): void {
    this.#send(this.stream, startLsn, bytes);
  }

  sendSlotWal(startLsn: Lsn, bytes: Uint8Array): void {
    this.#send(this.slotStream, startLsn, bytes);
  }

  #send(stream: FakeStream | undefined, startLsn: Lsn, bytes: Uint8Array): void {
    const header = serializeXLogDataHeader({ startLsn, endLsn: this.flushLsn, timestamp: 0n });
    void stream?.writer.send(header, bytes);
  }

  requestReply(stream: FakeStream | undefined): void {
    void stream?.writer.send(
      serializeKeepalive({ endLsn: this.flushLsn, timestamp: 0n, replyRequested: true }),
    );
  }

  async #serve(socket: Duplex): Promise<void> {
    try {
      const connection = await acceptConnection(socket, { serverVersion: () => this.serverVersion });
      if (connection === undefined) return;
      for (;;) {
        const query = await connection.readQuery();
        if (query === undefined) return;
        this.queries.push(query);
        if (this.isMute) return await new Promise<void>((resolve) => socket.once("close", resolve));
        const error = await this.#answer(connection, query);
        if (error !== undefined) await connection.sendError({ severity: "ERROR", ...error });
        await connection.sendReadyForQuery();
      }
    } catch {
      // The bridge went away.
    } finally {
      socket.destroy();
    }
  }

  async #answer(connection: ServerConnection, query: string): Promise<QueryError | undefined> {
    const row = async (...values: (string | null)[]): Promise<undefined> => {
      const columns = values.map((_, index) => ({ name: `c${index}`, type: "text" as const }));
      await connection.sendRows(columns, [values], "ROW");
      return undefined;
    };
    if (query === "IDENTIFY_SYSTEM") {
      return row(String(this.systemId), String(this.timelineId), formatLsn(this.flushLsn), null);
    }
    if (query.startsWith("TIMELINE_HISTORY ")) {
      if (this.history === "")
        return { code: "58P01", message: "could not open file: No such file or directory" };
      return row("00000002.history", this.history);
    }
    if (query.startsWith("SHOW ")) return row(this.settings.get(query.slice(5)) ?? "");
    if (query.includes("pg_is_in_recovery")) return row(this.inRecovery ? "t" : "f");
    if (query.startsWith("READ_REPLICATION_SLOT")) {
      if (this.slot === undefined) return row(null, null, null);
      const { restartLsn } = this.slot;
      return restartLsn === undefined
        ? row("physical", null, null)
        : row("physical", formatLsn(restartLsn), "1");
    }
    if (query.startsWith("CREATE_REPLICATION_SLOT")) {
      this.slot = { restartLsn: this.oldestLsn };
      return row("slot", "0/0", null, null);
    }
    if (query.startsWith("DROP_REPLICATION_SLOT")) {
      const error = this.dropErrors.shift();
      if (error !== undefined) return error;
      this.slot = undefined;
      await connection.sendCommandComplete("DROP_REPLICATION_SLOT");
      return undefined;
    }
    return this.#stream(connection, query);
  }

  async #stream(connection: ServerConnection, query: string): Promise<QueryError | undefined> {
    const match = /^START_REPLICATION (SLOT "\w+" )?PHYSICAL (\S+) TIMELINE \d+$/.exec(query);
    if (match === null) return { code: "42601", message: `unexpected: ${query}` };
    const hasSlot = match[1] !== undefined;
    const error = hasSlot ? this.slotErrors.shift() : undefined;
    if (error !== undefined) return error;
    const startLsn = parseLsn(match[2] ?? "");
    const { reader, writer } = await connection.startCopyBoth();
    if (startLsn < this.oldestLsn) {
      return { code: "58P01", message: "requested WAL segment has already been removed" };
    }
    let resolveEnded: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      resolveEnded = resolve;
    });
    const stream: FakeStream = { connection, startLsn, writer, statuses: [], ended };
    if (hasSlot) this.slotStream = stream;
    else this.stream = stream;
    try {
      await this.#listen(reader, stream);
    } finally {
      resolveEnded();
    }
    await writer.done();
    await connection.sendCommandComplete("START_REPLICATION");
    return undefined;
  }

  async #listen(reader: CopyReader, stream: FakeStream): Promise<void> {
    for (;;) {
      const event = await reader.next();
      if (event.type !== "data") return;
      const message = parseStandbyMessage(event.payload);
      if (message.type !== "standby-status") continue;
      stream.statuses.push(message);
      if (!message.replyRequested || this.isMute) continue;
      const { flushLsn: endLsn } = this;
      void stream.writer.send(serializeKeepalive({ endLsn, timestamp: 0n, replyRequested: false }));
    }
  }
}
