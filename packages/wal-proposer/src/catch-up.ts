/**
 * Feeds acceptors that have fallen behind the ring, from streams that reach further back.
 *
 * An acceptor whose next byte is no longer in memory gets a reader of its own: a stream of WAL from that byte on,
 * which runs until the acceptor stands well inside the ring again. At most CATCH_UPS_MAX run at a time, because
 * each makes PostgreSQL read old segments from disk; the others wait in the order in which they came. A slow
 * acceptor slows down only its own reader: nothing is read ahead of what its send window takes.
 *
 * Who may touch it: the proposer, which owns the core and the connections; this file only paces the transfer. What
 * an acceptor wants is asked anew for each chunk, since a reconnect or a heartbeat may have moved it meanwhile.
 */
import { addBytes, distanceBytes, formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AppendRequestFields } from "@millrace/wal-protocol";
import type { Clock, Timer } from "./timers.js";

/** Readers at a time; see the header. */
export const CATCH_UPS_MAX = 2;
/** After a failed reader the next attempt for that acceptor waits this long. */
export const CATCH_UP_RETRY_MS = 5000;

/** A piece of WAL that a catch-up stream yields. */
export interface WalChunk {
  readonly startLsn: Lsn;
  /** Given: may be queued on a socket, is never written to again. */
  readonly bytes: Uint8Array;
}

/** A stream of contiguous WAL from the position it was opened at. One consumer. */
export interface CatchUpStream {
  /** The next piece; it may wait for ever at the end of the log. Rejects when the stream is lost or was closed. */
  next(): Promise<WalChunk>;
  /** Ends the stream and frees what it holds; a waiting `next` rejects. */
  close(): void;
}

/** Opens a stream whose first byte is at `fromLsn`. */
export type CatchUpSource = (fromLsn: Lsn, signal: AbortSignal) => Promise<CatchUpStream>;

/** What a catch-up needs from the proposer. */
export interface CatchUpTarget {
  /** Where the acceptor's next byte is; undefined if it is not streaming. */
  wantsLsn(acceptor: number): Lsn | undefined;
  /** Whether the acceptor can be fed from memory from `lsn` on without falling out again at once. */
  isServed(lsn: Lsn): boolean;
  /** Sends what fits from the chunk; a promise means that the send window is full until it resolves. */
  feed(acceptor: number, chunk: WalChunk): Promise<void> | undefined;
  /** The acceptor has left catch-up: feed it from memory. */
  finished(acceptor: number): void;
  failed(acceptor: number, fromLsn: Lsn, error: unknown): void;
}

interface Running {
  readonly cancel: AbortController;
}

/** All catch-ups of one proposer. */
export class CatchUp {
  readonly #target: CatchUpTarget;
  readonly #source: CatchUpSource;
  readonly #clock: Clock;
  readonly #running = new Map<number, Running>();
  readonly #waiting = new Set<number>();
  readonly #resting = new Map<number, Timer>();
  #closed = false;

  constructor(target: CatchUpTarget, source: CatchUpSource, clock: Clock) {
    this.#target = target;
    this.#source = source;
    this.#clock = clock;
  }

  /** Whether the acceptor is fed by a reader now. */
  isRunning(acceptor: number): boolean {
    return this.#running.has(acceptor);
  }

  /** The acceptor's next byte is not in memory. Asking again while it waits, runs or rests does nothing. */
  request(acceptor: number): void {
    if (this.#closed || this.#running.has(acceptor) || this.#resting.has(acceptor)) return;
    this.#waiting.add(acceptor);
    this.#startNext();
  }

  /** The acceptor's connection is gone: its reader ends, its turn is forgotten. */
  cancel(acceptor: number): void {
    this.#waiting.delete(acceptor);
    this.#running.get(acceptor)?.cancel.abort();
  }

  /** Ends all readers; later requests do nothing. */
  close(): void {
    this.#closed = true;
    this.#waiting.clear();
    for (const timer of this.#resting.values()) timer.cancel();
    this.#resting.clear();
    for (const { cancel } of this.#running.values()) cancel.abort();
  }

  #startNext(): void {
    for (const acceptor of this.#waiting) {
      if (this.#running.size >= CATCH_UPS_MAX) return;
      this.#waiting.delete(acceptor);
      const running = { cancel: new AbortController() };
      this.#running.set(acceptor, running);
      void this.#run(acceptor, running.cancel.signal);
    }
  }

  async #run(acceptor: number, signal: AbortSignal): Promise<void> {
    const fromLsn = this.#target.wantsLsn(acceptor);
    let failure: { readonly error: unknown } | undefined;
    if (fromLsn !== undefined) {
      try {
        await this.#transfer(acceptor, fromLsn, signal);
      } catch (error) {
        if (!signal.aborted) failure = { error };
      }
    }
    this.#running.delete(acceptor);
    if (this.#closed) return;
    if (failure === undefined) {
      if (!signal.aborted) this.#target.finished(acceptor);
    } else if (fromLsn !== undefined) {
      this.#rest(acceptor);
      this.#target.failed(acceptor, fromLsn, failure.error);
    }
    this.#startNext();
  }

  #rest(acceptor: number): void {
    const timer = this.#clock.setTimer(CATCH_UP_RETRY_MS, () => {
      this.#resting.delete(acceptor);
      const lsn = this.#target.wantsLsn(acceptor);
      if (lsn !== undefined && !this.#target.isServed(lsn)) this.request(acceptor);
    });
    this.#resting.set(acceptor, timer);
  }

  async #transfer(acceptor: number, fromLsn: Lsn, signal: AbortSignal): Promise<void> {
    const stream = await this.#source(fromLsn, signal);
    const stop = (): void => stream.close();
    signal.addEventListener("abort", stop);
    try {
      for (;;) {
        const lsn = this.#target.wantsLsn(acceptor);
        if (signal.aborted || lsn === undefined || this.#target.isServed(lsn)) return;
        const chunk = await stream.next();
        await this.#feed(acceptor, chunk, signal);
      }
    } finally {
      signal.removeEventListener("abort", stop);
      stream.close();
    }
  }

  async #feed(acceptor: number, chunk: WalChunk, signal: AbortSignal): Promise<void> {
    const endLsn = addBytes(chunk.startLsn, chunk.bytes.byteLength);
    for (;;) {
      const lsn = this.#target.wantsLsn(acceptor);
      if (signal.aborted || lsn === undefined || lsn >= endLsn) return;
      if (lsn < chunk.startLsn) {
        throw new RangeError(
          `acceptor needs ${formatLsn(lsn)} and the reader is at ${formatLsn(chunk.startLsn)}`,
        );
      }
      const room = this.#target.feed(acceptor, chunk);
      if (room === undefined && this.#target.wantsLsn(acceptor) === lsn) return;
      if (room !== undefined) await room;
    }
  }
}

/** The part of the chunk that a request asks for, as a view; empty for a heartbeat, wherever that stands. */
export function chunkParts(chunk: WalChunk, request: AppendRequestFields): readonly Uint8Array[] {
  if (request.endLsn === request.beginLsn) return [];
  const begin = Number(distanceBytes(chunk.startLsn, request.beginLsn));
  const end = Number(distanceBytes(chunk.startLsn, request.endLsn));
  if (begin < 0) {
    throw new RangeError(
      `${formatLsn(request.beginLsn)} lies before the chunk at ${formatLsn(chunk.startLsn)}`,
    );
  }
  return [chunk.bytes.subarray(begin, end)];
}
