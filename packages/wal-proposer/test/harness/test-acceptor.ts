// A single-minded acceptor for tests: the protocol's rules without a disk. It keeps all WAL in memory, votes, and
// answers at once unless it is told to hold its acknowledgements. Not a model of durability.
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBytes, formatLsn, INVALID_LSN, minLsn, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { acceptConnection, serializeKeepalive, serializeXLogDataHeader } from "@millrace/pg-wire";
import type { CopyWriter, ServerConnection } from "@millrace/pg-wire";
import { WalDecoder } from "@millrace/wal-decoder";
import {
  effectiveHistory,
  EMPTY_CONFIGURATION,
  NO_HOT_STANDBY_FEEDBACK,
  parseProposerMessage,
  serializeAcceptorMessage,
} from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendRequest,
  Configuration,
  HotStandbyFeedback,
  ProposerMessage,
  TermHistory,
} from "@millrace/wal-protocol";

export interface TestTimeline {
  readonly startLsn: Lsn;
  readonly configuration: Configuration;
  /** With a decoder, only whole records are acknowledged. */
  readonly wal?: { readonly pgMajor: number; readonly segmentBytes: number };
}

interface State {
  readonly timeline: TestTimeline;
  term: bigint;
  history: TermHistory;
  commitLsn: Lsn;
  truncateLsn: Lsn;
  bytes: Buffer;
  writeBytes: number;
  flushLsn: Lsn;
  decoder: WalDecoder | undefined;
}

export class TestAcceptor implements AsyncDisposable {
  readonly nodeId: bigint;
  readonly received: ProposerMessage["type"][] = [];
  /** Append-requests without WAL. */
  heartbeats = 0;
  /** What the next replies carry. */
  hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  connections = 0;
  /** Where this acceptor was asked to give its WAL from. */
  readonly donations: Lsn[] = [];
  /** Turns of the event loop between a request's arrival and its effect, as a disk would take time. */
  delayTurns = 0;
  #state: State | undefined;
  #holdAcks = false;
  #refuse = false;
  readonly #held: (() => void)[] = [];
  readonly #open = new Set<ServerConnection>();
  readonly #watchers = new Set<() => void>();
  #server: Server | undefined;
  #port = 0;
  #stalled: Promise<void> | undefined;
  #unstall: (() => void) | undefined;

  constructor(nodeId: bigint) {
    this.nodeId = nodeId;
  }

  static async listen(nodeId: bigint): Promise<TestAcceptor> {
    const acceptor = new TestAcceptor(nodeId);
    await acceptor.restart();
    return acceptor;
  }

  get port(): number {
    return this.#port;
  }

  get hasTimeline(): boolean {
    return this.#state !== undefined;
  }

  get startLsn(): Lsn {
    return this.#state?.timeline.startLsn ?? INVALID_LSN;
  }

  get term(): bigint {
    return this.#state?.term ?? 0n;
  }

  get flushLsn(): Lsn {
    return this.#state?.flushLsn ?? INVALID_LSN;
  }

  get commitLsn(): Lsn {
    return this.#state?.commitLsn ?? INVALID_LSN;
  }

  get history(): TermHistory {
    return this.#state?.history ?? [];
  }

  get writeLsn(): Lsn {
    return this.#state === undefined ? INVALID_LSN : this.#writeLsn(this.#state);
  }

  /** A copy of [beginLsn, endLsn). */
  bytes(beginLsn: Lsn, endLsn: Lsn): Buffer {
    const state = this.#need();
    const begin = Number(beginLsn - state.timeline.startLsn);
    return Buffer.from(state.bytes.subarray(begin, begin + Number(endLsn - beginLsn)));
  }

  createTimeline(timeline: TestTimeline): void {
    if (this.#state !== undefined) return;
    this.#state = {
      timeline,
      term: 0n,
      history: [{ term: 0n, lsn: timeline.startLsn }],
      commitLsn: timeline.startLsn,
      truncateLsn: timeline.startLsn,
      bytes: Buffer.alloc(1024 * 1024),
      writeBytes: 0,
      flushLsn: timeline.startLsn,
      decoder: undefined,
    };
    this.#changed();
  }

  /** As the HTTP side of an acceptor would answer. */
  async digest(fromLsn: Lsn, untilLsn: Lsn): Promise<string> {
    const state = this.#need();
    if (this.#refuse) throw new Error("connection refused");
    if (fromLsn < state.timeline.startLsn || untilLsn > state.flushLsn) throw new Error("not that WAL");
    return createHash("sha256").update(this.bytes(fromLsn, untilLsn)).digest("hex");
  }

  /** As if the disk had changed one bit. */
  flipBit(lsn: Lsn): void {
    const { bytes, timeline } = this.#need();
    const at = Number(lsn - timeline.startLsn);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }

  /** As if another proposer had been elected. */
  bumpTerm(term: bigint): void {
    this.#need().term = term;
  }

  /** WAL that this acceptor is born with, from an earlier term. */
  preload(bytes: Uint8Array): void {
    const state = this.#need();
    this.#write(state, bytes);
    this.#flush(state);
  }

  /** Acknowledgements are kept back until `releaseAcks`. */
  holdAcks(): void {
    this.#holdAcks = true;
  }

  releaseAcks(): void {
    this.#holdAcks = false;
    for (const send of this.#held.splice(0)) send();
  }

  /** Stops reading requests, so that the sender's window fills. */
  stall(): void {
    this.#stalled = new Promise((resolve) => {
      this.#unstall = resolve;
    });
  }

  unstall(): void {
    this.#stalled = undefined;
    this.#unstall?.();
  }

  /** Resolves once `condition` holds; it is looked at after every message and every connection that comes or goes. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!condition()) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Drops every connection and accepts no new ones until `restart`. */
  async stop(): Promise<void> {
    this.#refuse = true;
    this.unstall();
    for (const connection of this.#open) connection.destroy();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Listens (again), on the same port if there was one. */
  async restart(): Promise<void> {
    this.#refuse = false;
    const server = createServer({ allowHalfOpen: true }, (socket) => void this.accept(socket));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#port, "127.0.0.1", resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Serves one connection to its end. */
  async accept(socket: Duplex): Promise<void> {
    if (this.#refuse) {
      socket.destroy();
      return;
    }
    let connection: ServerConnection | undefined;
    try {
      connection = await acceptConnection(socket);
      if (connection === undefined) return;
      this.#open.add(connection);
      this.connections += 1;
      this.#changed();
      await this.#serve(connection);
    } catch {
      // A connection that breaks is what these tests are about.
    } finally {
      if (connection !== undefined) this.#open.delete(connection);
      connection?.destroy();
      socket.destroy();
      this.#changed();
    }
  }

  async #serve(connection: ServerConnection): Promise<void> {
    for (;;) {
      const query = await connection.readQuery();
      if (query === undefined) return;
      if (query === "TIMELINE_STATUS") {
        const state = this.#state;
        const rows = state === undefined ? [] : [[formatLsn(state.flushLsn), formatLsn(state.commitLsn)]];
        const columns = [
          { name: "flush_lsn", type: "text" as const },
          { name: "commit_lsn", type: "text" as const },
        ];
        await connection.sendRows(columns, rows, "TIMELINE_STATUS");
        await connection.sendReadyForQuery();
        continue;
      }
      if (query === "SHOW wal_segment_size") {
        const segmentBytes = this.#state?.timeline.wal?.segmentBytes ?? 16 * 1024 * 1024;
        const columns = [{ name: "wal_segment_size", type: "text" as const }];
        await connection.sendRows(columns, [[`${segmentBytes / (1024 * 1024)}MB`]], "SHOW");
        await connection.sendReadyForQuery();
        continue;
      }
      const donation = /^START_REPLICATION PHYSICAL (\S+) \(term='(\d+)'\)$/.exec(query);
      if (donation !== null) {
        await this.#donate(connection, parseLsn(donation[1] ?? ""), BigInt(donation[2] ?? ""));
        return;
      }
      const { reader, writer } = await connection.startCopyBoth();
      if (this.#state === undefined) return; // absent: the stream ends without a word
      for (;;) {
        const event = reader.tryNext() ?? (await reader.next());
        if (event.type !== "data") return;
        if (this.#stalled !== undefined) await this.#stalled;
        for (let turn = 0; turn < this.delayTurns; turn += 1) await nextTurn();
        this.#handle(parseProposerMessage(event.payload, 3), writer);
        this.#changed();
      }
    }
  }

  /** Sends all that is durable from `startLsn` on, then a keepalive, and waits for the reader to go. */
  async #donate(connection: ServerConnection, startLsn: Lsn, term: bigint): Promise<void> {
    const state = this.#need();
    const { reader, writer } = await connection.startCopyBoth();
    if (term !== state.term) throw new Error("another term");
    this.donations.push(startLsn);
    const timestamp = 0n;
    const endLsn = state.flushLsn;
    for (let lsn = startLsn; lsn < endLsn;) {
      const chunkEnd = minLsn(endLsn, addBytes(lsn, 131_072));
      await writer.send(
        serializeXLogDataHeader({ startLsn: lsn, endLsn, timestamp }),
        this.bytes(lsn, chunkEnd),
      );
      lsn = chunkEnd;
    }
    await writer.send(serializeKeepalive({ endLsn, timestamp, replyRequested: true }));
    while ((await reader.next()).type === "data");
  }

  #handle(message: ProposerMessage, writer: CopyWriter): void {
    const state = this.#need();
    const reply = (answer: AcceptorMessage): void => {
      const send = (): void => void writer.send(serializeAcceptorMessage(answer, 3));
      if (answer.type === "append-response" && this.#holdAcks) this.#held.push(send);
      else send();
    };
    this.received.push(message.type);
    const { generation } = state.timeline.configuration;
    if (message.type === "greeting") {
      const { configuration } = state.timeline;
      reply({ type: "greeting", nodeId: this.nodeId, configuration, term: state.term });
    } else if (message.type === "vote-request") {
      const voteGiven = state.term < message.term;
      if (voteGiven) state.term = message.term;
      const { flushLsn, truncateLsn, term } = state;
      const history = effectiveHistory(state.history, flushLsn);
      reply({ type: "vote-response", generation, term, voteGiven, flushLsn, truncateLsn, history });
    } else if (message.type === "elected") {
      if (state.term > message.term) return;
      state.term = message.term;
      this.#truncate(state, message.startStreamingAt);
      state.history = message.history;
    } else {
      this.#append(state, message);
      const { term, flushLsn, commitLsn } = state;
      const stale = term > message.term;
      reply({
        type: "append-response",
        generation,
        term,
        flushLsn: stale ? INVALID_LSN : flushLsn,
        commitLsn: stale ? INVALID_LSN : commitLsn,
        hotStandby: this.hotStandby,
      });
    }
  }

  #append(state: State, message: AppendRequest): void {
    if (state.term > message.term) return;
    if (message.beginLsn !== this.#writeLsn(state)) {
      throw new Error(`gap: ${formatLsn(message.beginLsn)} at ${formatLsn(this.#writeLsn(state))}`);
    }
    if (message.walData.byteLength === 0) this.heartbeats += 1;
    this.#write(state, message.walData);
    this.#flush(state);
    const commitLsn = message.commitLsn < state.flushLsn ? message.commitLsn : state.flushLsn;
    if (commitLsn > state.commitLsn) state.commitLsn = commitLsn;
    if (message.truncateLsn > state.truncateLsn) state.truncateLsn = message.truncateLsn;
  }

  #truncate(state: State, lsn: Lsn): void {
    const { wal, startLsn } = state.timeline;
    state.writeBytes = Number(lsn - startLsn);
    state.flushLsn = lsn;
    state.decoder = wal === undefined ? undefined : new WalDecoder({ startLsn: lsn, ...wal });
  }

  #write(state: State, bytes: Uint8Array): void {
    const endBytes = state.writeBytes + bytes.byteLength;
    if (endBytes > state.bytes.byteLength) {
      const larger = Buffer.alloc(Math.max(2 * state.bytes.byteLength, endBytes));
      state.bytes.copy(larger, 0, 0, state.writeBytes);
      state.bytes = larger;
    }
    state.bytes.set(bytes, state.writeBytes);
    state.writeBytes = endBytes;
    state.decoder?.feed(bytes);
  }

  #flush(state: State): void {
    state.flushLsn = state.decoder?.recordEndLsn ?? this.#writeLsn(state);
  }

  #writeLsn(state: State): Lsn {
    return addBytes(state.timeline.startLsn, state.writeBytes);
  }

  #need(): State {
    if (this.#state === undefined) throw new Error(`acceptor ${this.nodeId} has no timeline`);
    return this.#state;
  }

  #changed(): void {
    for (const look of this.#watchers) look();
  }
}

/** Generation 1 with these acceptors. */
export function configurationOf(acceptors: readonly TestAcceptor[]): Configuration {
  const members = acceptors.map(({ nodeId, port }) => ({ nodeId, host: "127.0.0.1", port }));
  return { ...EMPTY_CONFIGURATION, generation: 1, members };
}
