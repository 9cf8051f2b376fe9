/**
 * A reader of WAL over an in-memory connection, and a timeline with WAL to read.
 */
import type { Lsn } from "@millrace/lsn";
import {
  parseReplicationMessage,
  ServerError,
  serializeHotStandbyFeedback,
  serializePageserverFeedbackHeader,
  serializeStandbyStatus,
  WireError,
} from "@millrace/pg-wire";
import type { ClientConnection, CopyBothStream, Keepalive, QueryResult, XLogData } from "@millrace/pg-wire";
import { serializePageserverFeedback } from "@millrace/wal-protocol";

import type { Timeline } from "../src/timeline.js";
import { KEEPALIVE_INTERVAL_MS } from "../src/walsender.js";
import { START } from "./acceptor-harness.js";
import type { ClientEnd, Harness, TestProposer } from "./acceptor-harness.js";
import type { Pair } from "./duplex-pair.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import type { WalStream } from "./wal-stream.js";

export const at0 = 0n as Lsn;

/** A proposer's stream, and the WAL it has sent so far. */
export class Source {
  readonly timeline: Timeline;
  readonly proposer: TestProposer;
  readonly wal: WalStream;
  #sentLsn: Lsn = START;
  #term = 1n;

  constructor(timeline: Timeline, proposer: TestProposer, wal: WalStream) {
    this.timeline = timeline;
    this.proposer = proposer;
    this.wal = wal;
  }

  static async open(harness: Harness, wal: WalStream): Promise<Source> {
    const proposer = await harness.elected();
    const timeline = harness.node.timelines.get(TENANT, TIMELINE);
    return new Source(timeline, proposer, wal);
  }

  /** Makes WAL up to `lsn` durable, and commits up to `commitLsn` if that is given. */
  async write(lsn: Lsn, commitLsn: Lsn = at0): Promise<void> {
    while (this.#sentLsn < lsn) {
      const next = this.#sentLsn + 131_072n < lsn ? ((this.#sentLsn + 131_072n) as Lsn) : lsn;
      this.proposer.append(this.wal, this.#sentLsn, next, at0, this.#term);
      this.#sentLsn = next;
    }
    const { timeline } = this;
    for (let { version } = timeline.logEndWatch; timeline.state.flushLsn < lsn;)
      version = await timeline.logEndWatch.changed(version);
    if (commitLsn > 0n) await this.commit(commitLsn);
  }

  async commit(lsn: Lsn): Promise<void> {
    this.proposer.append(this.wal, this.#sentLsn, this.#sentLsn, lsn, this.#term);
    const { commitWatch } = this.timeline;
    for (let { version } = commitWatch; commitWatch.value < lsn;)
      version = await commitWatch.changed(version);
  }
}

export class TestReader {
  readonly client: ClientConnection;
  readonly stream: CopyBothStream;
  readonly pair: Pair;
  readonly served: Promise<void>;

  constructor(client: ClientConnection, stream: CopyBothStream, pair: Pair, served: Promise<void>) {
    this.client = client;
    this.stream = stream;
    this.pair = pair;
    this.served = served;
  }

  static async start(harness: Harness, command: string, name = "reader"): Promise<TestReader> {
    const { client, pair, served } = await harness.connect({ parameters: { application_name: name } });
    // The client may have CopyBothResponse before the sender has begun to count the seconds.
    const counting = harness.clock.timerSet(KEEPALIVE_INTERVAL_MS);
    const stream = await client.startCopyBoth(command);
    await counting;
    return new TestReader(client, stream, pair, served);
  }

  /** The next message. */
  async next(): Promise<XLogData | Keepalive> {
    const event = await this.stream.reader.next();
    if (event.type !== "data") throw new Error(`the stream ended: ${event.type}`);
    return parseReplicationMessage(event.payload);
  }

  /** The next message, which must be WAL. */
  async data(): Promise<XLogData> {
    const message = await this.next();
    if (message.type !== "xlog-data") throw new Error(`expected WAL, got ${message.type}`);
    return message;
  }

  /** Data messages up to `lsn`. */
  async until(lsn: Lsn): Promise<XLogData[]> {
    const list: XLogData[] = [];
    for (;;) {
      const message = await this.data();
      list.push(message);
      if (message.startLsn + BigInt(message.walData.byteLength) >= lsn) return list;
    }
  }

  status(flushLsn: Lsn, replyRequested = false): void {
    const message = { writeLsn: flushLsn, flushLsn, applyLsn: flushLsn, timestamp: 0n, replyRequested };
    void this.stream.writer.send(serializeStandbyStatus(message));
  }

  hotStandby(xmin: bigint, catalogXmin: bigint): void {
    void this.stream.writer.send(serializeHotStandbyFeedback({ timestamp: 5n, xmin, catalogXmin }));
  }

  pageserver(remoteConsistentLsn: Lsn): void {
    const body = serializePageserverFeedback({
      currentTimelineSize: 1n,
      lastReceivedLsn: remoteConsistentLsn,
      diskConsistentLsn: remoteConsistentLsn,
      remoteConsistentLsn,
      replyTime: 0n,
      shardNumber: 0,
      corruptionDetected: false,
    });
    void this.stream.writer.send(serializePageserverFeedbackHeader(body.byteLength), body);
  }

  /** Ends both halves in an orderly way; what the server says after that. */
  async finish(): Promise<readonly QueryResult[]> {
    void this.stream.writer.done();
    for (;;) {
      const event = await this.stream.reader.next();
      if (event.type === "done") return await this.stream.finish();
      if (event.type !== "data") throw new Error(`the stream ended: ${event.type}`);
    }
  }

  /** How the stream ends, past any messages. */
  async end(): Promise<ClientEnd> {
    try {
      for (;;) {
        const event = await this.stream.reader.next();
        if (event.type === "done") return "done";
        if (event.type === "end") return "eof";
      }
    } catch (error) {
      if (error instanceof ServerError) return { sqlstate: error.fields.code, message: error.fields.message };
      if (error instanceof WireError && error.code === "ERR_WIRE_IO") return "reset";
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.served;
  }
}
