/**
 * One connection to one acceptor: the WAL port's startup, START_WAL_PUSH, and then messages both ways.
 *
 * A shell without opinions: it turns bytes into messages and back, keeps the send window, and says how it ended.
 * Whether to connect, what to send and when to give up (it has no timer of its own) is decided by the core that the
 * owner drives. Handlers are called from socket events and may call any method here, `close` included.
 *
 * The window: a slow acceptor must not collect the ring in its socket's queue, so `writable` turns false while
 * more than SEND_WINDOW_BYTES wait for the kernel, and `drained` is called once they have gone.
 * `connect` succeeds only when the acceptor has opened the copy stream; that a timeline does not exist shows later, as
 * the stream's end without a word (Neon's safekeeper behaves so, and so does every acceptor that serves Neon's compute).
 */
import type { Duplex } from "node:stream";
import { connect } from "@millrace/pg-wire";
import type { ClientConnection, CopyBothStream, CopyEvent } from "@millrace/pg-wire";
import { appendRequestHeader, parseAcceptorMessage, serializeProposerMessage } from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendRequestFields,
  ProposerMessage,
  ProtocolVersion,
} from "@millrace/wal-protocol";

/** Bytes that may wait for the kernel on one connection before nothing more is sent: 32 full requests. */
export const SEND_WINDOW_BYTES: number = 4 * 1024 * 1024;

/** Where an acceptor's WAL port is. */
export interface AcceptorAddress {
  readonly host: string;
  readonly port: number;
}

/** What a connection tells its owner, never from within `open` or `close`. After `close` nothing is told any more. */
export interface AcceptorHandlers {
  /** The stream is open; the greeting may be sent. */
  opened(): void;
  /** `message` may hold views of the socket's chunk. */
  message(message: AcceptorMessage): void;
  /** The send window is open again. */
  drained(): void;
  /** The last call: connecting failed, or the connection ended by itself. */
  closed(reason: string): void;
}

/** How to reach an acceptor and what to say first. */
export interface AcceptorConnectionOptions {
  readonly address: AcceptorAddress;
  /** 32 hexadecimal digits. */
  readonly tenantId: string;
  /** 32 hexadecimal digits. */
  readonly timelineId: string;
  readonly protocolVersion: ProtocolVersion;
  /** A JWT, asked for anew at each connection if it is a function. */
  readonly password?: string | (() => string | Promise<string>);
  readonly handlers: AcceptorHandlers;
  readonly windowBytes?: number;
  /** Replaces the TCP connection, for tests and simulators. */
  readonly connectSocket?: (address: AcceptorAddress) => Duplex;
}

/** The startup parameters, the same for every connection of a proposer to an acceptor. */
export function acceptorOptions(tenantId: string, timelineId: string): string {
  return `-c tenant_id=${tenantId} timeline_id=${timelineId}`;
}

/** State: connecting → open → closed, or connecting → closed. */
export class AcceptorConnection {
  readonly #options: AcceptorConnectionOptions;
  readonly #windowBytes: number;
  readonly #cancel = new AbortController();
  #state: "connecting" | "open" | "closed" = "connecting";
  #connection: ClientConnection | undefined;
  #stream: CopyBothStream | undefined;
  #waitsForDrain = false;

  private constructor(options: AcceptorConnectionOptions) {
    this.#options = options;
    this.#windowBytes = options.windowBytes ?? SEND_WINDOW_BYTES;
  }

  /** Starts connecting; what comes of it is told to the handlers. */
  static open(options: AcceptorConnectionOptions): AcceptorConnection {
    const connection = new AcceptorConnection(options);
    void connection.#run();
    return connection;
  }

  /** Whether something may be sent now: the stream is open and the window is not full. */
  get writable(): boolean {
    return this.#state === "open" && !this.#waitsForDrain;
  }

  /** Bytes handed over and not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#stream?.writer.queuedBytes ?? 0;
  }

  /** Sends a message other than WAL; nothing happens unless the stream is open. */
  send(message: ProposerMessage): void {
    this.#sendParts([serializeProposerMessage(message, this.#options.protocolVersion)]);
  }

  /**
   * Sends one append-request; nothing happens unless the stream is open.
   *
   * @param walParts given: exactly `endLsn - beginLsn` bytes in all, never written to again
   */
  sendAppend(fields: AppendRequestFields, walParts: readonly Uint8Array[]): void {
    this.#sendParts([appendRequestHeader(fields, this.#options.protocolVersion), ...walParts]);
  }

  /** Drops the connection at once, or gives up connecting. No handler is called any more. */
  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#cancel.abort();
    this.#connection?.destroy();
  }

  #sendParts(parts: Uint8Array[]): void {
    const writer = this.#state === "open" ? this.#stream?.writer : undefined;
    if (writer === undefined) return;
    const pending = writer.send(...parts);
    if (pending === undefined || this.#waitsForDrain || writer.queuedBytes <= this.#windowBytes) return;
    this.#waitsForDrain = true;
    pending.then(
      () => this.#drained(),
      (error: unknown) => this.#end(describe(error)),
    );
  }

  #drained(): void {
    if (this.#state !== "open") return;
    this.#waitsForDrain = false;
    this.#options.handlers.drained();
  }

  /** What handlers throw is a bug and not caught here: it must not pass for an acceptor that went away. */
  async #run(): Promise<void> {
    const stream = await this.#openStream().catch((error: unknown) => this.#end(describe(error)));
    if (stream === undefined) return;
    this.#options.handlers.opened();
    while (!this.#isClosed()) {
      const message = this.#take(stream) ?? (await this.#wait(stream));
      if (message !== undefined && !this.#isClosed()) this.#options.handlers.message(message);
    }
  }

  /** The next message if it is here already. */
  #take({ reader }: CopyBothStream): AcceptorMessage | undefined {
    try {
      return this.#parse(reader.tryNext());
    } catch (error) {
      this.#end(describe(error));
      return undefined;
    }
  }

  /** The next message, or undefined when the stream has ended. */
  async #wait({ reader }: CopyBothStream): Promise<AcceptorMessage | undefined> {
    if (this.#isClosed()) return undefined;
    try {
      return this.#parse(await reader.next());
    } catch (error) {
      this.#end(describe(error));
      return undefined;
    }
  }

  #parse(event: CopyEvent | undefined): AcceptorMessage | undefined {
    if (event === undefined) return undefined;
    if (event.type === "data") return parseAcceptorMessage(event.payload, this.#options.protocolVersion);
    this.#end(describeEnd(event));
    return undefined;
  }

  /** Connects and starts the push; undefined if the connection was closed meanwhile. Rejects if that fails. */
  async #openStream(): Promise<CopyBothStream | undefined> {
    const { address, tenantId, timelineId, protocolVersion, password, connectSocket } = this.#options;
    const connection = await connect({
      host: address.host,
      port: address.port,
      user: "wal_proposer",
      database: "replication",
      parameters: { options: acceptorOptions(tenantId, timelineId), application_name: "millrace_proposer" },
      signal: this.#cancel.signal,
      ...(password === undefined ? {} : { password }),
      ...(connectSocket === undefined ? {} : { connectSocket: () => connectSocket(address) }),
    });
    if (this.#isClosed()) {
      connection.destroy();
      return undefined;
    }
    this.#connection = connection;
    const command = `START_WAL_PUSH (proto_version '${protocolVersion}', allow_timeline_creation 'false')`;
    const stream = await connection.startCopyBoth(command);
    if (this.#isClosed()) return undefined;
    this.#stream = stream;
    this.#state = "open";
    return stream;
  }

  /** A method, so that the compiler does not take the state before an await for the state after it. */
  #isClosed(): boolean {
    return this.#state === "closed";
  }

  #end(reason: string): void {
    if (this.#state === "closed") return;
    this.close();
    this.#options.handlers.closed(reason);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function describeEnd(event: CopyEvent): string {
  if (event.type === "end" && event.reason === "eof") return "the acceptor closed the connection";
  return `the acceptor ended the stream (${event.type})`;
}
