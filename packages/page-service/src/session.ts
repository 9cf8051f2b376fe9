/**
 * One pagestream: messages in, answers out in the order of the questions, however long each takes.
 *
 * Requests for pages that follow each other are answered as a batch, whose pages are asked for at the same time; the next batch
 * is collected while one is under way. A batch ends before a request of another kind, before one for a page that is in it
 * already as of another position, and before one that would have to wait for WAL that the others need not wait for. A request
 * that waits holds nothing: neither a page nor a place that another session needs.
 *
 * There is no socket here: whoever has one gives messages in, stops reading when it is told to, and writes what comes out.
 * Batching and the rule about holding nothing are Neon's page server's; the second one after a deadlock with its shutdown.
 */
import type { Lsn } from "@millrace/lsn";
import { PagestreamError, StreamEnd } from "./errors.js";
import { encodePagestreamResponse, PAGE_BYTES, parsePagestreamRequest } from "./messages.js";
import type { PagestreamAnswer, PagestreamRequest, PagestreamVersion } from "./messages.js";
import type { PageSource } from "./page-source.js";
import { effectiveLsn, positionToAwait } from "./positions.js";

/** Pages of one batch. */
const BATCH_MAX = 32;
/** Requests that are read ahead of the answers; beyond this nothing more is read. */
const QUEUE_MAX = 256;

export interface PagestreamSessionOptions {
  readonly version: PagestreamVersion;
  readonly source: PageSource;
  /** Takes an answer's message, which is the receiver's; the next one waits for the promise. */
  readonly send: (message: Buffer) => Promise<void> | void;
  /** More may be given in, after `receive` has said no. */
  readonly onDrain?: () => void;
  /** 1 to 32; default 32. */
  readonly batchMax?: number;
}

export class PagestreamSession {
  readonly #version: PagestreamVersion;
  readonly #source: PageSource;
  readonly #send: PagestreamSessionOptions["send"];
  readonly #onDrain: () => void;
  readonly #batchMax: number;
  readonly #queue: PagestreamRequest[] = [];
  readonly #abort = new AbortController();
  #isFull = false;
  #isFinished = false;
  #wake: (() => void) | undefined;
  #largestBatch = 0;

  /** Settles when the session is over: after `finish` and the last answer, or with what ended it. */
  readonly done: Promise<void>;

  /** @throws {RangeError} bad `batchMax` */
  constructor(options: PagestreamSessionOptions) {
    const { batchMax = BATCH_MAX } = options;
    if (!Number.isInteger(batchMax) || batchMax < 1 || batchMax > BATCH_MAX) {
      throw new RangeError(`batches of ${String(batchMax)} pages`);
    }
    this.#version = options.version;
    this.#source = options.source;
    this.#send = options.send;
    this.#onDrain = options.onDrain ?? ((): void => undefined);
    this.#batchMax = batchMax;
    this.done = this.#run();
    // Whoever does not look at `done` has aborted the session, or will see the same at the next call.
    this.done.catch(() => undefined);
  }

  /** Requests that are not answered, and the largest batch so far. */
  get status(): { readonly queued: number; readonly largestBatch: number } {
    return { queued: this.#queue.length, largestBatch: this.#largestBatch };
  }

  /**
   * Takes a message.
   *
   * @param message borrowed for the call
   * @returns whether more may be given in now; otherwise `onDrain` says when
   * @throws {PagestreamError} ERR_PAGESTREAM_FRAME: it is none, and the session is over; ERR_PAGESTREAM_CLOSED: it was before
   */
  receive(message: Uint8Array): boolean {
    if (this.#isFinished || this.#abort.signal.aborted) {
      throw new PagestreamError("ERR_PAGESTREAM_CLOSED", "the pagestream is over");
    }
    let request: PagestreamRequest;
    try {
      request = parsePagestreamRequest(message, this.#version);
    } catch (error) {
      this.abort(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    this.#queue.push(request);
    this.#wake?.();
    this.#isFull = this.#queue.length >= QUEUE_MAX;
    return !this.#isFull;
  }

  /** No more messages will come; what has come is answered. */
  finish(): void {
    this.#isFinished = true;
    this.#wake?.();
  }

  /** Ends the session at once: nothing more is sent, and nobody waits any more. */
  abort(reason: Error): void {
    this.#abort.abort(reason);
    this.#wake?.();
  }

  async #run(): Promise<void> {
    for (;;) {
      this.#abort.signal.throwIfAborted();
      if (this.#queue.length === 0) {
        if (this.#isFinished) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
        continue;
      }
      await this.#answerNext();
    }
  }

  async #answerNext(): Promise<void> {
    const [first] = this.#queue;
    if (first === undefined) return;
    // Waiting comes first and holds nothing; what arrives meanwhile may still join the batch.
    const refusal = await this.#awaitPosition(first);
    const batch = refusal === undefined ? this.#takeBatch(first) : this.#queue.splice(0, 1);
    if (this.#isFull && this.#queue.length < QUEUE_MAX / 2) {
      this.#isFull = false;
      this.#onDrain();
    }
    this.#largestBatch = Math.max(this.#largestBatch, batch.length);
    const answers = batch.map((request) =>
      refusal === undefined ? this.#answer(request) : Promise.resolve(this.#encode(request, refusal)),
    );
    // All of them are waited for before the first failure is told: none may go on for a session that is over.
    const settled = await Promise.allSettled(answers);
    for (const each of settled) {
      if (each.status === "rejected") throw each.reason as Error;
      this.#abort.signal.throwIfAborted();
      await this.#send(each.value);
    }
  }

  /** Waits until the request can be answered; gives the answer where it never can. */
  async #awaitPosition(request: PagestreamRequest): Promise<PagestreamAnswer | undefined> {
    try {
      const lsn = positionToAwait(request, this.#source);
      if (lsn !== undefined) await this.#source.waitFor(lsn, this.#abort.signal);
      return undefined;
    } catch (error) {
      return this.#refusal(error);
    }
  }

  /** Takes requests for pages from the queue as long as they belong together; `first` alone if it is of another kind. */
  #takeBatch(first: PagestreamRequest): PagestreamRequest[] {
    const queue = this.#queue;
    if (first.question.kind !== "getpage") return queue.splice(0, 1);
    const lsns = new Map<string, Lsn>();
    let count = 0;
    for (const request of queue) {
      const { question } = request;
      if (count === this.#batchMax || question.kind !== "getpage" || !this.#isReady(request)) break;
      const { spc, db, rel, fork } = question.rel;
      const key = `${String(spc)}/${String(db)}/${String(rel)}/${String(fork)}/${String(question.block)}`;
      const lsn = effectiveLsn(request, this.#source);
      if ((lsns.get(key) ?? lsn) !== lsn) break;
      lsns.set(key, lsn);
      count += 1;
    }
    return queue.splice(0, Math.max(1, count));
  }

  /** Whether the request can be answered without waiting and is none that has to be refused. */
  #isReady(request: PagestreamRequest): boolean {
    try {
      return positionToAwait(request, this.#source) === undefined;
    } catch {
      return false;
    }
  }

  /** The answer's message. */
  async #answer(request: PagestreamRequest): Promise<Buffer> {
    try {
      return this.#encode(request, await this.#ask(request));
    } catch (error) {
      return this.#encode(request, this.#refusal(error));
    }
  }

  async #ask(request: PagestreamRequest): Promise<PagestreamAnswer> {
    const { question } = request;
    const source = this.#source;
    const { signal } = this.#abort;
    const lsn = effectiveLsn(request, source);
    switch (question.kind) {
      case "exists":
        return { kind: "exists", exists: await source.exists(question.rel, lsn, signal) };
      case "nblocks":
        return { kind: "nblocks", blocks: await source.relationBlocks(question.rel, lsn, signal) };
      case "getpage":
        return { kind: "getpage", page: await source.page(question.rel, question.block, lsn, signal) };
      case "dbsize":
        return { kind: "dbsize", bytes: await source.databaseBytes(question.db, lsn, signal) };
      case "slru":
        break;
    }
    const data = await source.slruSegment(question.slru, question.segment, lsn, signal);
    return { kind: "slru", blocks: data.byteLength / PAGE_BYTES, data };
  }

  #encode(request: PagestreamRequest, answer: PagestreamAnswer): Buffer {
    return encodePagestreamResponse(request, answer, this.#version);
  }

  /** An error as an answer, if the stream can go on after it. */
  #refusal(error: unknown): PagestreamAnswer {
    this.#abort.signal.throwIfAborted();
    if (error instanceof StreamEnd) throw error;
    return { kind: "error", message: error instanceof Error ? error.message : String(error) };
  }
}
