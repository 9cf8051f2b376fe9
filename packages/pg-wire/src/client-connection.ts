/**
 * A client connection on a socket: simple queries and COPY BOTH over a ClientSession and a SocketTransport.
 *
 * One thing runs at a time; a second query while one is unfinished is refused, not queued, because a queue here
 * would hide that a replication stream owns the connection. A result is collected whole and bounded: this client is
 * for replication commands and small catalog queries, not for reading tables.
 *
 * After a server error the answer is read up to ReadyForQuery, so the connection stays usable; after an error of the
 * protocol or the socket it is closed.
 */
import type { ClientOptions } from "./client-options.js";
import { logIn } from "./client-login.js";
import type { ClientEvent, ClientSession } from "./client-session.js";
import { SessionCopyReader, SessionCopyWriter } from "./copy-halves.js";
import type { CopyReader, CopyWriter } from "./copy-stream.js";
import { protocolError, ServerError, WireError } from "./errors.js";
import type { ErrorFields } from "./errors.js";
import type { SocketTransport } from "./socket-transport.js";

/** Most bytes of rows that one answer may have. */
export const RESULT_BYTES_MAX: number = 64 * 1024 * 1024;
/** Most rows of one answer: also empty ones take memory. */
export const RESULT_ROWS_MAX = 1_000_000;
/** Most statements in one answer. */
const RESULTS_MAX = 10_000;

/** The result of one statement. */
export interface QueryResult {
  /** Column names; empty for a statement that returns no rows. */
  readonly columns: readonly string[];
  /** Values in text format, null for NULL. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** The command tag, such as "SELECT 1"; "" for an empty query. */
  readonly tag: string;
}

/** A running COPY BOTH. */
export interface CopyBothStream {
  /** What the server sends; `done` once it has sent CopyDone. */
  readonly reader: CopyReader;
  readonly writer: CopyWriter;
  /**
   * Ends the stream: sends CopyDone if that has not been done, throws away what the server still sends of the copy,
   * and reads the results that follow, up to ReadyForQuery. A server that shuts down may close instead after a last
   * CommandComplete; its results are returned all the same. The reader must not be waiting.
   *
   * @throws {WireError} ServerError if the server reported one in the stream or after it; ERR_WIRE_*
   */
  finish(): Promise<readonly QueryResult[]>;
}

/**
 * Connects and logs in.
 *
 * @throws {WireError} ERR_WIRE_IO, ERR_WIRE_TLS, ERR_WIRE_AUTH, ERR_WIRE_PROTOCOL, ERR_WIRE_TIMEOUT; ServerError with
 *   the server's refusal; the reason of `signal`. The socket is gone then.
 */
export async function connect(options: ClientOptions): Promise<ClientConnection> {
  const { session, transport } = await logIn(options);
  return new ClientConnection(session, transport, options.onNotice);
}

/** A logged-in connection. */
export class ClientConnection implements AsyncDisposable {
  readonly #session: ClientSession;
  readonly #transport: SocketTransport;
  readonly #onNotice: ((fields: ErrorFields) => void) | undefined;
  #busy = false;
  #copy: CopyBothStream | undefined;

  /** Made by `connect`. */
  constructor(
    session: ClientSession,
    transport: SocketTransport,
    onNotice: ((fields: ErrorFields) => void) | undefined,
  ) {
    this.#session = session;
    this.#transport = transport;
    this.#onNotice = onNotice;
  }

  /** What the server reported about itself: server_version, integer_datetimes and others. Live. */
  get parameters(): ReadonlyMap<string, string> {
    return this.#session.parameters;
  }

  /** Process id of the backend. */
  get processId(): number {
    return this.#session.processId;
  }

  /** As libpq's PQserverVersion: 150018 for "15.18 (Debian …)", 190000 for "19devel"; 0 if not reported. */
  get serverVersion(): number {
    return parseServerVersion(this.parameters.get("server_version") ?? "");
  }

  /**
   * Runs one simple query, which may hold several statements.
   *
   * @returns a result for each statement
   * @throws {WireError} ServerError with the first error of the answer, the connection stays usable unless it was
   *   FATAL; ERR_WIRE_BUSY; ERR_WIRE_IO, ERR_WIRE_PROTOCOL, ERR_WIRE_CLOSED
   */
  query(text: string): Promise<readonly QueryResult[]> {
    return this.#exclusively(async () => {
      this.#start(text);
      const answer = await this.#collect();
      if (answer.copy) {
        this.#transport.destroy();
        throw protocolError("query() was answered with COPY BOTH");
      }
      return answer.results;
    });
  }

  /**
   * Runs a command that starts COPY BOTH, such as START_REPLICATION.
   *
   * @returns the stream. If the server answers with results and no copy, as PostgreSQL does when there is nothing to
   *   stream on a timeline, the reader is done at once and `finish` gives these results.
   * @throws {WireError} as `query`
   */
  startCopyBoth(text: string): Promise<CopyBothStream> {
    return this.#exclusively(async () => {
      this.#start(text);
      const answer = await this.#collect();
      const reader = new SessionCopyReader(this.#copySource(), this.#transport);
      const writer = new SessionCopyWriter(this.#session, this.#transport);
      const early = answer.copy ? undefined : answer.results;
      const stream: CopyBothStream = { reader, writer, finish: () => this.#finish(stream, early) };
      if (answer.copy) this.#copy = stream;
      return stream;
    });
  }

  /**
   * Says goodbye (Terminate), writes what is queued, ends the socket, and waits a bounded time for the server to do
   * the same. Never rejects; whoever waits on this connection gets ERR_WIRE_CLOSED.
   */
  close(): Promise<void> {
    if (this.#transport.failure === undefined) void this.#transport.write([this.#session.terminate()]);
    return this.#transport.close();
  }

  /** Drops the connection and what is queued. */
  destroy(): void {
    this.#transport.destroy();
  }

  /** Same as close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #start(text: string): void {
    if (this.#transport.failure !== undefined) throw this.#transport.failure;
    void this.#transport.write([this.#session.query(text)]);
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy || this.#copy !== undefined) {
      throw new WireError("ERR_WIRE_BUSY", "a query or a copy is running on this connection");
    }
    this.#busy = true;
    try {
      return await work();
    } catch (error) {
      if (!this.#session.isIdle) this.#transport.destroy(error instanceof WireError ? error : undefined);
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  /** The session as a reader sees it, with notices going where they belong. */
  #copySource(): { nextCopyEvent: ClientSession["nextCopyEvent"]; readonly bufferedBytes: number } {
    const session = this.#session;
    const onNotice = this.#onNotice;
    return {
      nextCopyEvent: () => {
        const event = session.nextCopyEvent();
        if (onNotice !== undefined) session.takeNotices().forEach(onNotice);
        return event;
      },
      get bufferedBytes() {
        return session.bufferedBytes;
      },
    };
  }

  async #finish(
    stream: CopyBothStream,
    early: readonly QueryResult[] | undefined,
  ): Promise<readonly QueryResult[]> {
    if (early !== undefined) return early;
    if (this.#copy !== stream) throw new WireError("ERR_WIRE_STATE", "this copy was finished before");
    this.#copy = undefined;
    return this.#exclusively(async () => {
      const streamError = await this.#drain(stream);
      const answer = await this.#collect(true);
      if (streamError !== undefined) throw streamError;
      return answer.results;
    });
  }

  /** Ends our half and reads the server's to its end. */
  async #drain(stream: CopyBothStream): Promise<ServerError | undefined> {
    void stream.writer.done();
    try {
      for (;;) {
        const event = await stream.reader.next();
        if (event.type === "end")
          throw new WireError("ERR_WIRE_IO", "the server closed the connection in a copy");
        if (event.type !== "data") return undefined;
      }
    } catch (error) {
      if (error instanceof ServerError) return error;
      throw error;
    }
  }

  /**
   * Reads an answer up to ReadyForQuery, or to the start of a copy.
   *
   * @param mayClose a clean end after at least one CommandComplete counts as the end of the answer
   */
  async #collect(mayClose = false): Promise<{ results: readonly QueryResult[]; copy: boolean }> {
    const answer = new Answer();
    for (;;) {
      const event = this.#session.nextEvent();
      if (event === undefined) {
        const output = this.#session.takeOutput();
        if (output.length > 0) void this.#transport.write(output);
        if (this.#answerEnded(answer, mayClose)) return { results: answer.finish(), copy: false };
        await this.#transport.readable();
      } else if (event.type === "notice") this.#onNotice?.(event.fields);
      else if (event.type === "ready") return { results: answer.finish(), copy: false };
      else if (event.type === "copy-both") return { results: [], copy: true };
      else answer.add(event);
    }
  }

  /** Whether the connection has ended. @throws what the server said last, or else why the connection is gone */
  #answerEnded(answer: Answer, mayClose: boolean): boolean {
    if (answer.error !== undefined && (this.#transport.ended || this.#transport.failure !== undefined)) {
      throw answer.error; // a FATAL error explains the end better than the end itself
    }
    if (this.#transport.whyNothingMore() !== "eof") return false;
    if (mayClose && answer.hasResult) return true;
    throw new WireError("ERR_WIRE_IO", "the server closed the connection in the middle of an answer");
  }
}

/** Collects what one simple query is answered with. */
class Answer {
  readonly #results: QueryResult[] = [];
  #columns: readonly string[] = [];
  #rows: (readonly (string | null)[])[] = [];
  #bytes = 0;
  #rowCount = 0;
  error: ServerError | undefined;

  get hasResult(): boolean {
    return this.#results.length > 0;
  }

  add(event: ClientEvent): void {
    if (event.type === "columns") this.#columns = event.names;
    else if (event.type === "error") this.error ??= new ServerError(event.fields);
    else if (event.type === "row") {
      this.#bytes += event.bytes;
      this.#rowCount += 1;
      if (this.#bytes > RESULT_BYTES_MAX || this.#rowCount > RESULT_ROWS_MAX) {
        throw protocolError("the answer is larger than this client collects");
      }
      this.#rows.push(event.values);
    } else if (event.type === "complete") {
      if (this.#results.length >= RESULTS_MAX) throw protocolError("the answer has too many results");
      this.#results.push({ columns: this.#columns, rows: this.#rows, tag: event.tag });
      this.#columns = [];
      this.#rows = [];
    }
  }

  /** @throws {ServerError} the first error of the answer */
  finish(): readonly QueryResult[] {
    if (this.error !== undefined) throw this.error;
    return this.#results;
  }
}

/** "15.18 (Debian 15.18-1)" → 150018, "9.6.24" → 90624, "18beta1" → 180000. */
function parseServerVersion(text: string): number {
  const [, major = "0", minor = "0", patch = "0"] =
    /^([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?/.exec(text) ?? [];
  if (Number(major) >= 10) return Number(major) * 10_000 + Number(minor);
  return Number(major) * 10_000 + Number(minor) * 100 + Number(patch);
}
