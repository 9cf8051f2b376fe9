/**
 * Two ends of a connection in memory, with what a socket has: back-pressure, half-close, reset.
 *
 * A write completes when the other side has room for it, so a peer that does not read fills the writer's buffer and
 * stops there. Everything that one end wrote can be looked at.
 */
import { Duplex } from "node:stream";

/** What an end buffers before it stops its peer; small, so that back-pressure shows soon. */
const END_BUFFER_BYTES = 16 * 1024;

class PairEnd extends Duplex {
  peer: PairEnd | undefined;
  /** Every chunk this end has written and the peer's buffer has taken. */
  readonly written: Uint8Array[] = [];
  /** While true nothing that this end writes gets anywhere, as with a peer that has stopped reading. */
  stalled = false;
  #resume: (() => void) | undefined;
  #stalledWrite: (() => void) | undefined;

  unstall(): void {
    this.stalled = false;
    this.#stalledWrite?.();
    this.#stalledWrite = undefined;
  }

  constructor(allowHalfOpen: boolean) {
    super({
      allowHalfOpen,
      readableHighWaterMark: END_BUFFER_BYTES,
      writableHighWaterMark: END_BUFFER_BYTES,
    });
  }

  override _read(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, callback: (error?: Error) => void): void {
    this.#send(chunk, callback);
  }

  #send(chunk: Uint8Array, callback: (error?: Error) => void): void {
    const { peer } = this;
    if (peer === undefined || peer.destroyed) {
      callback(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
      return;
    }
    if (this.stalled) {
      this.#stalledWrite = () => this.#send(chunk, callback);
      return;
    }
    this.written.push(chunk);
    // The callback in a later turn, as a kernel's: code that relies on synchronous writes shows.
    if (peer.push(chunk)) setImmediate(callback);
    else peer.#resume = callback;
  }

  // What was written in one turn arrives in one piece, as with a kernel's writev.
  override _writev(chunks: { readonly chunk: Uint8Array }[], callback: (error?: Error) => void): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), callback);
  }

  override _final(callback: () => void): void {
    this.peer?.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    callback(error);
    const { peer } = this;
    if (peer === undefined || peer.destroyed) return;
    const resume = this.#resume;
    this.#resume = undefined;
    // A socket that is dropped with its writing half open is a reset for the other side.
    if (!this.writableFinished)
      peer.destroy(Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }));
    else resume?.();
  }
}

export interface Pair {
  /** What the server gets. */
  readonly server: Duplex;
  readonly client: Duplex;
  /** Everything the server has written so far. */
  serverBytes(): Buffer;
  /** From now on the client takes nothing of what the server writes. */
  stallClient(): void;
  /** The client reads again. */
  resumeClient(): void;
}

/** Makes both ends of one connection. The client's end closes itself when the server has ended, as libpq's does. */
export function duplexPair(): Pair {
  const server = new PairEnd(true);
  const client = new PairEnd(false);
  server.peer = client;
  client.peer = server;
  server.on("error", () => undefined);
  client.on("error", () => undefined);
  return {
    server,
    client,
    serverBytes: () => Buffer.concat(server.written),
    stallClient: () => {
      server.stalled = true;
    },
    resumeClient: () => server.unstall(),
  };
}
