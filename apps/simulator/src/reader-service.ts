/**
 * The reading side of one acceptor process: the package's own walsender for every reader that connects.
 *
 * Whatever a walsender hands to its connection is looked at in that moment, between the sender's last check and the
 * network: what it may send depends on the commit position, or the term, of just then.
 */
import { INVALID_LSN } from "@millrace/lsn";
import { parseReplicationMessage } from "@millrace/pg-wire";
import type { CopyWriter, ErrorFields } from "@millrace/pg-wire";
import { parseCommand, sendWal } from "@millrace/wal-acceptor";
import type { StartReplication, Timeline } from "@millrace/wal-acceptor";
import { CopyLink } from "./copy-link.js";
import { stackOf } from "./error-text.js";
import type { Endpoint, Side } from "./network.js";
import type { World } from "./world.js";

/** A reader that says nothing for so long is dropped. */
const READER_IDLE_MS = 3000;

/** All readers of one process. */
export class ReaderService {
  readonly #world: World;
  readonly #node: { readonly nodeId: bigint; readonly name: string };
  readonly #timeline: Timeline;
  readonly #links = new Set<CopyLink>();
  readonly #stop = new AbortController();

  constructor(world: World, node: { readonly nodeId: bigint; readonly name: string }, timeline: Timeline) {
    this.#world = world;
    this.#node = node;
    this.#timeline = timeline;
  }

  /** A reader has connected; its first message is the command. */
  accept(side: Side, reader: Endpoint): void {
    const link = new CopyLink(side, this.#world.time);
    this.#links.add(link);
    this.#world.time.promisesMoved();
    void this.#serve(link, reader)
      .catch((error: unknown) => {
        this.#world.ledger.violate("Internal", `${this.#node.name} serves a reader: ${stackOf(error)}`);
      })
      .finally(() => {
        this.#links.delete(link);
        link.close("the acceptor ended the stream");
      });
  }

  /** The process is gone: no more of what it sent arrives than is under way. */
  die(keepAll: boolean): void {
    for (const link of this.#links) link.destroy("the acceptor's process is gone", keepAll);
    this.#links.clear();
  }

  async #serve(link: CopyLink, reader: Endpoint): Promise<void> {
    const first = await link.next().catch(() => undefined);
    if (first?.type !== "data" || this.#timeline.cancelSignal.aborted) return;
    const command = parseCommand(Buffer.from(first.payload).toString());
    if (command.type !== "start-replication") throw new Error(`unexpected command ${command.type}`);
    const { term, startLsn } = command;
    const { trace, coverage, time } = this.#world;
    trace.note("reader", this.#node.name, reader, startLsn, term);
    using sender = this.#timeline.readers.senders.register({
      connectionId: reader,
      applicationName: "simulated",
      term,
      slot: undefined,
    });
    const { end } = await sendWal({
      command,
      timeline: this.#timeline,
      place: {},
      sender,
      slot: undefined,
      reader: link,
      writer: new WatchedWriter(link, (payload) => this.#onSent(command, payload)),
      clock: time,
      idleTimeoutMs: READER_IDLE_MS,
      stopSignal: this.#stop.signal,
    });
    trace.note("reader-left", this.#node.name, reader, end.kind, sender.sentLsn);
    const code = end.kind === "failed" ? (end.error as { readonly code?: unknown }).code : undefined;
    if (code === "ERR_ACCEPTOR_TERM_CHANGED") coverage.count("reader-lost-term");
    else if (end.kind === "failed" && !/^ERR_(ACCEPTOR|WIRE)_/.test(String(code))) throw end.error;
  }

  #onSent(command: StartReplication, payload: Uint8Array): void {
    const message = parseReplicationMessage(payload);
    if (message.type !== "xlog-data" || message.walData.byteLength === 0) return;
    const { startLsn, walData } = message;
    const { ledger, coverage } = this.#world;
    const { state } = this.#timeline;
    const { nodeId, name } = this.#node;
    if (command.term === undefined) {
      ledger.readers.onCommitted({ nodeId, startLsn, bytes: walData, limitLsn: state.commitLsn });
      coverage.count("reader-bytes");
      return;
    }
    const limitLsn = state.timelineStartLsn === INVALID_LSN ? INVALID_LSN : state.flushLsn;
    ledger.readers.onDurable(command.term, state.term, { nodeId, startLsn, bytes: walData, limitLsn });
    coverage.count("term-reader-bytes");
    this.#world.trace.note("served", name, startLsn, walData.byteLength);
  }
}

/** A writer whose messages are looked at before they are sent. */
class WatchedWriter implements CopyWriter {
  readonly #inner: CopyWriter;
  readonly #look: (payload: Uint8Array) => void;

  constructor(inner: CopyWriter, look: (payload: Uint8Array) => void) {
    this.#inner = inner;
    this.#look = look;
  }

  get queuedBytes(): number {
    return this.#inner.queuedBytes;
  }

  send(...parts: Uint8Array[]): Promise<void> | undefined {
    const payload = Buffer.concat(parts);
    this.#look(payload);
    return this.#inner.send(payload);
  }

  done(): Promise<void> | undefined {
    return this.#inner.done();
  }

  fail(fields: ErrorFields): Promise<void> | undefined {
    return this.#inner.fail(fields);
  }
}
