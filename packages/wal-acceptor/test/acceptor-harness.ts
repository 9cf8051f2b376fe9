/**
 * A node in a temporary directory with a clock and a disk under control, and a proposer that speaks to it over an
 * in-memory connection with pg-wire's own client.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import type { Lsn } from "@millrace/lsn";
import { connect, ServerError, WireError } from "@millrace/pg-wire";
import type { ClientConnection, ClientOptions, CopyBothStream } from "@millrace/pg-wire";
import { EMPTY_CONFIGURATION, parseAcceptorMessage, serializeProposerMessage } from "@millrace/wal-protocol";
import type { AcceptorMessage, ProposerMessage, ProtocolVersion } from "@millrace/wal-protocol";

import { AcceptorNode } from "../src/acceptor-node.js";
import type { AcceptorNodeOptions } from "../src/acceptor-node.js";
import { ACCEPTOR_CHANNEL } from "../src/diagnostics.js";
import type { AcceptorEvent } from "../src/diagnostics.js";
import type { WalPortListener } from "../src/wal-port.js";
import { duplexPair } from "./duplex-pair.js";
import type { Pair } from "./duplex-pair.js";
import { FakeClock } from "./fake-clock.js";
import { SYSTEM_ID, TENANT, TIMELINE } from "./fixtures.js";
import { TracedFileSystem } from "./traced-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

export const PG_VERSION = 150_018;
/** Where the WAL of most tests begins: behind the long header of segment 3. */
export const START: Lsn = BigInt(3 * MIB + 40) as Lsn;

/** Everything the package publishes while it is alive, and a way to wait for it. */
export class EventLog implements Disposable {
  readonly events: AcceptorEvent[] = [];
  readonly #waiters = new Set<() => void>();
  readonly #listener = (event: unknown): void => {
    this.events.push(event as AcceptorEvent);
    for (const wake of this.#waiters) wake();
  };

  constructor() {
    subscribe(ACCEPTOR_CHANNEL, this.#listener);
  }

  of<T extends AcceptorEvent["type"]>(type: T): Extract<AcceptorEvent, { readonly type: T }>[] {
    return this.events.filter((event) => event.type === type) as Extract<
      AcceptorEvent,
      { readonly type: T }
    >[];
  }

  /** Waits until `count` events of the type have been published since the start. */
  async seen(type: AcceptorEvent["type"], count = 1): Promise<void> {
    while (this.of(type).length < count) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiters.delete(wake);
          resolve();
        };
        this.#waiters.add(wake);
      });
    }
  }

  [Symbol.dispose](): void {
    unsubscribe(ACCEPTOR_CHANNEL, this.#listener);
  }
}

export class Harness implements AsyncDisposable {
  readonly directory: string;
  readonly clock: FakeClock = new FakeClock();
  readonly disk: TracedFileSystem = new TracedFileSystem();
  readonly log: EventLog = new EventLog();
  readonly fatal: Error[] = [];
  readonly #handlers: Promise<void>[] = [];
  readonly #options: Partial<AcceptorNodeOptions>;
  node: AcceptorNode;

  private constructor(directory: string, options: Partial<AcceptorNodeOptions>, node: AcceptorNode) {
    this.directory = directory;
    this.#options = options;
    this.node = node;
  }

  static async open(options: Partial<AcceptorNodeOptions> = {}): Promise<Harness> {
    const directory = await mkdtemp(path.join(tmpdir(), "millrace-acceptor-"));
    const harness = new Harness(directory, options, undefined as unknown as AcceptorNode);
    harness.node = await harness.#openNode();
    await harness.node.timelines.whenLoaded();
    return harness;
  }

  #openNode(): Promise<AcceptorNode> {
    return AcceptorNode.open({
      directory: this.directory,
      nodeId: 1n,
      clock: this.clock,
      fileSystem: this.disk,
      onFatal: (error) => this.fatal.push(error),
      ...this.#options,
    });
  }

  /** Closes the node, opens the directory again and waits until everything is loaded. */
  async reopen(): Promise<void> {
    await this.node.close();
    await this.reopenWithoutClosing();
  }

  /** Opens the directory a second time without closing the first node, as after a kill. */
  async reopenWithoutClosing(): Promise<void> {
    await this.reopenWithoutLoading();
    await this.node.timelines.whenLoaded();
  }

  /** The same without waiting for what is loaded in the background. */
  async reopenWithoutLoading(): Promise<void> {
    this.node = await this.#openNode();
  }

  /** A raw connection; `served` settles when the node is done with it. */
  raw(listener?: WalPortListener): Pair & { readonly served: Promise<void> } {
    const pair = duplexPair();
    const served = this.node.handleConnection(pair.server, listener);
    this.#handlers.push(served);
    return { ...pair, served };
  }

  async connect(
    options: Partial<ClientOptions> & { readonly target?: string; readonly listener?: WalPortListener } = {},
  ): Promise<{ readonly client: ClientConnection; readonly pair: Pair; readonly served: Promise<void> }> {
    const {
      target = `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`,
      listener,
      parameters,
      ...rest
    } = options;
    const pair = this.raw(listener);
    const client = await connect({
      user: "test",
      ssl: "disable",
      parameters: { ...(target === "" ? {} : { options: target }), ...parameters },
      connectSocket: () => pair.client,
      ...rest,
    });
    return { client, pair, served: pair.served };
  }

  /** A connection in START_WAL_PUSH. */
  async push(
    options: { readonly version?: ProtocolVersion; readonly command?: string; readonly target?: string } = {},
  ): Promise<TestProposer> {
    const { version = 3, command = `START_WAL_PUSH (proto_version '${version}')`, ...rest } = options;
    const { client, pair, served } = await this.connect(rest);
    const stream = await client.startCopyBoth(command);
    return new TestProposer(client, stream, pair, served, version);
  }

  /** A connection whose proposer is elected in `term` and streams from `start`. */
  async elected(term = 1n, start: Lsn = START): Promise<TestProposer> {
    const proposer = await this.push();
    await proposer.greet();
    await proposer.vote(term);
    proposer.elect(term, start, [
      { term: 0n, lsn: START },
      { term, lsn: start },
    ]);
    return proposer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disk.onCall = undefined;
    this.clock.runFree();
    await this.node.close().catch(() => undefined); // a poisoned timeline cannot be saved
    await Promise.all(this.#handlers);
    this.log[Symbol.dispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** What a stream ended with, as its client sees it. */
export type ClientEnd = { readonly sqlstate: string; readonly message: string } | "eof" | "done" | "reset";

export class TestProposer {
  readonly client: ClientConnection;
  readonly stream: CopyBothStream;
  readonly pair: Pair;
  readonly served: Promise<void>;
  readonly version: ProtocolVersion;

  constructor(
    client: ClientConnection,
    stream: CopyBothStream,
    pair: Pair,
    served: Promise<void>,
    version: ProtocolVersion,
  ) {
    this.client = client;
    this.stream = stream;
    this.pair = pair;
    this.served = served;
    this.version = version;
  }

  send(message: ProposerMessage): void {
    void this.stream.writer.send(serializeProposerMessage(message, this.version));
  }

  async receive(): Promise<AcceptorMessage> {
    const event = await this.stream.reader.next();
    if (event.type !== "data") throw new Error(`expected a message, got ${JSON.stringify(event)}`);
    return parseAcceptorMessage(event.payload, this.version);
  }

  /** The next reply that is of the type. */
  async receiveOf<T extends AcceptorMessage["type"]>(
    type: T,
  ): Promise<Extract<AcceptorMessage, { readonly type: T }>> {
    const message = await this.receive();
    if (message.type !== type) throw new Error(`expected ${type}, got ${message.type}`);
    return message as Extract<AcceptorMessage, { readonly type: T }>;
  }

  async greet(
    change: Partial<Extract<ProposerMessage, { readonly type: "greeting" }>> = {},
  ): Promise<AcceptorMessage> {
    this.sendGreeting(change);
    return await this.receiveOf("greeting");
  }

  sendGreeting(change: Partial<Extract<ProposerMessage, { readonly type: "greeting" }>> = {}): void {
    this.send({
      type: "greeting",
      tenantId: TENANT,
      timelineId: TIMELINE,
      configuration: EMPTY_CONFIGURATION,
      pgVersion: PG_VERSION,
      systemId: SYSTEM_ID,
      segmentBytes: MIB,
      ...change,
    });
  }

  async vote(term: bigint): Promise<Extract<AcceptorMessage, { readonly type: "vote-response" }>> {
    this.send({ type: "vote-request", generation: 0, term });
    return await this.receiveOf("vote-response");
  }

  elect(
    term: bigint,
    startStreamingAt: Lsn,
    history: readonly { readonly term: bigint; readonly lsn: Lsn }[],
  ): void {
    this.send({ type: "elected", generation: 0, term, startStreamingAt, history });
  }

  append(wal: WalStream, beginLsn: Lsn, endLsn: Lsn, commitLsn: Lsn = 0n as Lsn, term = 1n): void {
    this.send({
      type: "append-request",
      generation: 0,
      term,
      beginLsn,
      endLsn,
      commitLsn,
      truncateLsn: START,
      walData: wal.slice(beginLsn, endLsn),
    });
  }

  /** Reads to the end of the stream, past any messages. */
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
}

/** WAL from START on with `records` small records; each ends at one of its `boundaries`. */
export function walOf(records: number): WalStream {
  const wal = new WalStream({ startLsn: START });
  for (let index = 0; index < records; index += 1) wal.record(40);
  return wal;
}
