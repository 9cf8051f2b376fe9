/**
 * One socket, both halves, with back-pressure: the only place of this package that touches a stream.
 *
 * Reading pushes chunks into a receiver and wakes one waiter. Once READ_HIGH_WATER_BYTES lie there and a complete
 * message is among them, the socket is paused; the consumer resumes it through `consumed()`. While the next message
 * is incomplete reading goes on, so a message larger than the mark cannot stall; the framing bounds that.
 *
 * Writing gathers everything that is written within one turn of the event loop into one writev (cork until the next
 * tick). Node's own high-water mark is 16 KiB, a fraction of one WAL message, so the mark here is our own.
 *
 * The halves share only the socket's end: an end of reading does not stop writing, a full write queue does not stop
 * reading. A socket error ends both, and the reader sees it after everything that arrived before it. Node's stream
 * does not end by itself when the peer ends, if it was made with `allowHalfOpen`; otherwise it does.
 */
import { connect as connectNet } from "node:net";
import type { NetConnectOpts } from "node:net";
import type { Duplex } from "node:stream";
import { WireError } from "./errors.js";
import type { Timers } from "./timers.js";

/** Unread bytes at which a socket is paused: eight of the largest WAL messages. */
export const READ_HIGH_WATER_BYTES: number = 1024 * 1024;
/** Unread bytes below which a paused socket is read again. */
const READ_LOW_WATER_BYTES: number = READ_HIGH_WATER_BYTES / 2;
/** Queued bytes from which on a writer is asked to wait. */
export const SEND_HIGH_WATER_BYTES: number = 1024 * 1024;
/** Corked bytes that are not held until the next tick: from here on a system call of its own costs nothing extra. */
const UNCORK_BYTES = 256 * 1024;
/** How long close() waits for the queue to drain and for the peer to end its half. */
export const CLOSE_WAIT_MS = 2000;

/** Reads of a socket that we connected go into slabs of this size, one after the other. */
const SLAB_BYTES = 1024 * 1024;
/** The rest of a slab that is still worth a read of its own. */
const SLAB_REST_BYTES = 128 * 1024;

/** Where received bytes go: a session, which cuts them into messages. */
export interface ByteReceiver {
  receive(chunk: Uint8Array): void;
  readonly bufferedBytes: number;
  /** Whether the consumer could take something without more bytes. */
  readonly hasFrame: boolean;
  readonly atBoundary: boolean;
}

/** A socket and what has become of it. */
export class SocketTransport {
  readonly #receiver: ByteReceiver;
  readonly #timers: Timers;
  readonly #socket: Duplex;
  #ended = false; // the peer ended its half
  #failure: WireError | undefined;
  #paused = false;
  #discarding = false;
  #waiter: (() => void) | undefined;
  #corked = false;
  #closing: Promise<void> | undefined;
  readonly #waitingWrites = new Set<(reason: WireError) => void>();

  /** Takes over an open socket. Exactly one party may read from it and write to it from now on. */
  constructor(
    socket: Duplex | ((transport: SocketTransport) => Duplex),
    receiver: ByteReceiver,
    timers: Timers,
  ) {
    this.#receiver = receiver;
    this.#timers = timers;
    if (typeof socket === "function") {
      this.#socket = socket(this);
    } else {
      this.#socket = socket;
      socket.on("data", this.#onData);
    }
    this.#socket.on("end", this.#onEnd);
    this.#socket.on("error", this.#onError);
    this.#socket.on("close", this.#onClose);
    this.#socket.resume();
  }

  /**
   * Connects a socket whose reads go straight into slabs that are never reused: messages that arrive in pieces still
   * lie in one piece, and none is copied by the stream. The socket is not connected yet.
   */
  static connecting(options: NetConnectOpts, receiver: ByteReceiver, timers: Timers): SocketTransport {
    return new SocketTransport((transport) => slabSocket(options, transport.#onData), receiver, timers);
  }

  /** The socket; only its events and properties are the caller's business. */
  get socket(): Duplex {
    return this.#socket;
  }

  /** True once the peer ended its half of the connection. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Why the socket can no longer be used, if so. */
  get failure(): WireError | undefined {
    return this.#failure;
  }

  /** Bytes written and not yet handed to the kernel. */
  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  /** Must be called after messages were consumed: reads on if reading was paused and there is room again. */
  consumed(): void {
    if (!this.#paused) return;
    if (this.#receiver.bufferedBytes >= READ_LOW_WATER_BYTES && this.#receiver.hasFrame) return;
    this.#paused = false;
    this.#socket.resume();
  }

  /**
   * Why no more messages will come, asked once the receiver has none left: undefined while more may come, "eof" after
   * a clean end.
   *
   * @throws {WireError} ERR_WIRE_IO for a failed socket or an end inside a message, ERR_WIRE_CLOSED after close
   */
  whyNothingMore(): "eof" | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#ended) return undefined;
    if (!this.#receiver.atBoundary) throw new WireError("ERR_WIRE_IO", "connection ended inside a message");
    return "eof";
  }

  /**
   * Resolves when there are new bytes, an end or a failure, at once if one of the latter two is there already. Never
   * rejects for a reason of the socket.
   *
   * @throws {WireError} ERR_WIRE_BUSY if somebody else waits already
   */
  readable(): Promise<void> {
    this.consumed();
    if (this.#ended || this.#failure !== undefined) return Promise.resolve();
    if (this.#waiter !== undefined) {
      return Promise.reject(new WireError("ERR_WIRE_BUSY", "two readers wait on one connection"));
    }
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }

  /**
   * Writes buffers in order, in one system call with whatever else this turn writes.
   *
   * @param buffers given: their bytes must not change until they are written
   * @returns undefined below SEND_HIGH_WATER_BYTES, else a promise for the queue so far; see CopyWriter.send
   */
  write(buffers: readonly Uint8Array[]): Promise<void> | undefined {
    let totalBytes = this.#socket.writableLength;
    for (const buffer of buffers) totalBytes += buffer.length;
    return this.#write(buffers, totalBytes >= SEND_HIGH_WATER_BYTES);
  }

  /** Like `write`, and resolves once these buffers were handed to the kernel. */
  flush(buffers: readonly Uint8Array[]): Promise<void> {
    return this.#write(buffers, true) ?? Promise.resolve();
  }

  /**
   * Ends the socket: writes what is queued, sends FIN, throws away what still comes, and waits for the peer's end for
   * at most CLOSE_WAIT_MS, as closing with unread bytes would reset the connection and could cost the peer our last
   * message. Then destroys. Never rejects; calling it again gives the same promise.
   */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      let settle: () => void = () => undefined;
      this.#closing = new Promise((resolve) => {
        settle = resolve;
      });
      this.#close(settle);
    }
    return this.#closing;
  }

  /** Drops the socket and everything queued, now. */
  destroy(reason?: WireError): void {
    this.#socket.destroy();
    this.#fail(reason ?? closedError("the connection was destroyed"));
  }

  /** Gives the socket away, paused and without listeners of ours: TLS takes over. This object is of no use then. */
  release(): Duplex {
    this.#uncork();
    this.#socket.pause();
    this.#socket.off("data", this.#onData);
    this.#socket.off("end", this.#onEnd);
    this.#socket.off("error", this.#onError);
    this.#socket.off("close", this.#onClose);
    this.#socket.on("error", ignoreError); // its new owner reports it too; without a listener it would be a crash
    return this.#socket;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    if (this.#discarding) return;
    this.#receiver.receive(chunk);
    if (!this.#paused && this.#receiver.bufferedBytes >= READ_HIGH_WATER_BYTES && this.#receiver.hasFrame) {
      this.#paused = true;
      this.#socket.pause();
    }
    this.#wake();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#wake();
  };

  readonly #onError = (error: Error): void => {
    this.#fail(ioError("connection failed", error));
  };

  readonly #onClose = (): void => {
    // After the peer's end a close is no failure for the reader, and a writer sees that the socket is not writable.
    if (!this.#ended) this.#fail(new WireError("ERR_WIRE_IO", "connection closed"));
  };

  #fail(error: WireError): void {
    this.#failure ??= error;
    this.#wake();
    // A stream need not call back for a write that its destruction interrupted.
    if (this.#closing === undefined || this.#socket.destroyed) this.#rejectWaitingWrites(this.#failure);
  }

  #rejectWaitingWrites(reason: WireError): void {
    for (const reject of this.#waitingWrites) reject(reason);
    this.#waitingWrites.clear();
  }

  #wake(): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.();
  }

  #write(buffers: readonly Uint8Array[], wait: boolean): Promise<void> | undefined {
    const lost = this.#whyUnwritable();
    if (lost !== undefined) return settledQuietly(Promise.reject(lost));
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(this.#uncork);
    }
    const last = buffers.length - 1;
    for (let index = 0; index < last; index++) this.#socket.write(buffers[index]);
    const lastBuffer = buffers[last] ?? NOTHING;
    let written: Promise<void> | undefined;
    if (wait) written = settledQuietly(this.#writeAndWait(lastBuffer));
    else this.#socket.write(lastBuffer);
    if (this.#socket.writableLength >= UNCORK_BYTES) this.#uncork();
    return written;
  }

  #writeAndWait(buffer: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waitingWrites.add(reject);
      this.#socket.write(buffer, (error) => {
        this.#waitingWrites.delete(reject);
        if (error === null || error === undefined) resolve();
        else reject(this.#failure ?? ioError("write failed", error));
      });
    });
  }

  #whyUnwritable(): WireError | undefined {
    if (this.#failure !== undefined) return this.#failure;
    if (this.#closing !== undefined || !this.#socket.writable) {
      return closedError("the sending half of the connection is closed");
    }
    return undefined;
  }

  readonly #uncork = (): void => {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  };

  #close(settle: () => void): void {
    this.#uncork();
    this.#discarding = true;
    this.#fail(closedError("the connection was closed"));
    let stopTimer = (): void => undefined;
    const finish = (): void => {
      stopTimer();
      this.#socket.destroy();
      this.#rejectWaitingWrites(closedError("the connection was closed before this was sent"));
      settle();
    };
    if (this.#socket.destroyed) {
      finish();
      return;
    }
    stopTimer = this.#timers.start(finish, CLOSE_WAIT_MS);
    this.#socket.once("close", finish);
    this.#socket.end();
    this.#socket.resume();
  }
}

const NOTHING: Uint8Array = new Uint8Array(0);

function ignoreError(): void {}

function ioError(what: string, cause: Error): WireError {
  return new WireError("ERR_WIRE_IO", `${what}: ${cause.message}`, { cause });
}

function closedError(message: string): WireError {
  return new WireError("ERR_WIRE_CLOSED", message);
}

/** Marks a rejection as seen, so that a caller who does not wait is not a crash; whoever awaits still gets it. */
function settledQuietly(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}

/** A net socket that reads into slabs; each byte of a slab is written once. */
function slabSocket(options: NetConnectOpts, deliver: (chunk: Uint8Array) => void): Duplex {
  let rest = Buffer.allocUnsafeSlow(SLAB_BYTES);
  return connectNet({
    ...options,
    onread: {
      buffer: () => rest,
      callback: (countBytes: number) => {
        const chunk = rest.subarray(0, countBytes);
        rest = rest.subarray(countBytes);
        if (rest.length < SLAB_REST_BYTES) rest = Buffer.allocUnsafeSlow(SLAB_BYTES);
        deliver(chunk);
        return true;
      },
    },
  });
}
