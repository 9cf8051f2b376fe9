/**
 * The redo manager: pages on request, replayed by worker threads or processes.
 *
 * A request waits for a place in the queue, then for a worker, then for the answer; each wait is bounded, and none holds
 * anything that another one needs. Requests for one page go to one worker as long as one of them is under way, so that no two
 * workers ever have the same page. What fails because a worker died or did not answer is tried again as often as its purpose
 * allows; what the record itself is to blame for is not. A page that fails every time is kept away from the workers for a while.
 *
 * Errors of a worker are told to everybody who has a request there, and to nobody else: `RedoWorker` sees to that. Events go to
 * the channels `wal-redo:process` and `wal-redo:stderr` of node:diagnostics_channel; nothing is logged here.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import { channel } from "node:diagnostics_channel";
import { Admission } from "./admission.js";
import { systemClock } from "./clock.js";
import { deferred } from "./deferred.js";
import { Dispatcher } from "./dispatcher.js";
import type { Job } from "./dispatcher.js";
import { RedoError } from "./errors.js";
import { applyMapEffect } from "./implicit-effects.js";
import type { MapEffect } from "./implicit-effects.js";
import { Page } from "./page.js";
import { Quarantine } from "./quarantine.js";
import { checkOptions, DEFAULTS, RETRIES } from "./redo-options.js";
import type { RedoManagerOptions } from "./redo-options.js";
import { pageKeyText } from "./redo-request.js";
import type { PageModification, RedoPurpose, RedoRequest } from "./redo-request.js";
import { RedoWorker } from "./redo-worker.js";
import type { KillCause, RedoWorkerState } from "./redo-worker.js";
import { startCommand, startProcess, startThread } from "./transport.js";
import type { WireRecord } from "./wire.js";

/** The manager at a moment. */
export interface RedoStatus {
  readonly workers: readonly {
    readonly state: RedoWorkerState;
    readonly pid: number | undefined;
    readonly inFlight: number;
  }[];
  /** Requests in the queue, and those that wait for a place in it. */
  readonly queued: number;
  readonly waiting: number;
  /** Workers that were started, and that were ended, by cause. Started less ended are alive. */
  readonly started: number;
  readonly killed: Readonly<Record<KillCause, number>>;
  readonly answered: number;
  readonly retried: number;
  readonly records: number;
  readonly stderr: { readonly lines: number; readonly dropped: number };
}

/** A worker was started or has ended; messages of `wal-redo:process`. */
export interface RedoProcessEvent {
  readonly event: "started" | "killed";
  readonly pid: number;
  readonly cause: KillCause | undefined;
}

const PING_TIMEOUT_MS = 1000;
const processChannel = channel("wal-redo:process");

export class RedoManager implements AsyncDisposable {
  readonly #options: Required<Omit<RedoManagerOptions, "engine" | "workerCount" | "retries">>;
  readonly #retries: Readonly<Record<RedoPurpose, number>>;
  readonly #workers: readonly RedoWorker[];
  readonly #dispatcher: Dispatcher;
  readonly #admission: Admission;
  readonly #quarantine: Quarantine;
  readonly #killed: Record<KillCause, number> = { poison: 0, startup: 0, quiesce: 0, shutdown: 0 };
  #started = 0;
  #answered = 0;
  #retried = 0;
  #records = 0;
  #lastDoneMs: number;
  #closing: Promise<void> | undefined;

  private constructor(options: RedoManagerOptions) {
    const { engine = "thread", workerCount = 1, retries, ...rest } = options;
    this.#options = { clock: systemClock, ...DEFAULTS, ...rest };
    this.#retries = { ...RETRIES, ...retries };
    const { clock, requestTimeoutMs, launchTimeoutMs, unackedBytesMax } = this.#options;
    this.#quarantine = new Quarantine(() => clock.monotonicMs());
    this.#admission = new Admission(this.#options.queueDepthMax, () => this.#dispatcher.size);
    this.#lastDoneMs = clock.monotonicMs();
    const dialect = typeof engine === "object" ? engine.dialect : "x1";
    const order = { dialect, pgMajor: 15, hintLsn: false } as const;
    this.#workers = Array.from(
      { length: workerCount },
      () =>
        new RedoWorker({
          dialect,
          clock,
          requestTimeoutMs,
          launchTimeoutMs,
          unackedBytesMax,
          start: (events) => {
            if (engine === "thread") return startThread(order, events);
            return engine === "process"
              ? startProcess(order, clock, events)
              : startCommand(engine.command, clock, events);
          },
          onChange: () => this.#dispatcher.dispatch(),
          onStarted: (pid) => {
            this.#started += 1;
            processChannel.publish({ event: "started", pid, cause: undefined } satisfies RedoProcessEvent);
          },
          onKilled: (pid, cause) => {
            this.#killed[cause] += 1;
            processChannel.publish({ event: "killed", pid, cause } satisfies RedoProcessEvent);
          },
        }),
    );
    this.#dispatcher = new Dispatcher(
      this.#workers,
      () => clock.monotonicMs(),
      () => this.#admission.admit(),
    );
  }

  /**
   * Starts a manager; resolves when its first worker answers.
   *
   * @throws {RangeError} a number out of its range
   * @throws {RedoError} ERR_REDO_LAUNCH
   */
  static async open(options: RedoManagerOptions = {}): Promise<RedoManager> {
    checkOptions(options);
    const manager = new RedoManager(options);
    try {
      await manager.#workers[0]?.ensure();
    } catch (error) {
      await manager.close();
      throw error;
    }
    return manager;
  }

  /**
   * Replays one page.
   *
   * @param request its bytes are borrowed until the promise settles
   * @param signal ends the wait; what a worker has by then it finishes for nobody
   * @returns a new page, the caller's
   * @throws {RangeError} no modification, or a base that is no page
   * @throws {RedoError} ERR_REDO_UNSUPPORTED, ERR_REDO_INVARIANT: deterministic; ERR_REDO_PROCESS_DIED, ERR_REDO_TIMEOUT,
   *   ERR_REDO_PROTOCOL, ERR_REDO_LAUNCH: after all attempts; ERR_REDO_QUARANTINED; ERR_REDO_CLOSED
   * @throws the signal's reason
   */
  async redo(request: RedoRequest, signal?: AbortSignal): Promise<Uint8Array> {
    checkRequest(request);
    this.#quarantine.check(request);
    for (let left = this.#retries[request.purpose]; ; left -= 1) {
      signal?.throwIfAborted();
      try {
        const page = await this.#attempt(request, signal);
        this.#answered += 1;
        return page;
      } catch (error) {
        if (!isWorthAnotherAttempt(error) || this.#closing !== undefined) throw error;
        if (left === 0) {
          this.#quarantine.add(request);
          throw error;
        }
        this.#retried += 1;
      }
    }
  }

  /**
   * Asks each worker that runs whether it answers, and starts one if none does.
   *
   * @throws {RedoError} ERR_REDO_TIMEOUT: one did not answer and was ended; ERR_REDO_LAUNCH, ERR_REDO_CLOSED
   */
  async ping(timeoutMs: number = PING_TIMEOUT_MS): Promise<void> {
    if (this.#closing !== undefined) throw closedError();
    const running = this.#workers.filter(({ state }) => state !== "absent");
    await Promise.all(
      (running.length > 0 ? running : this.#workers.slice(0, 1)).map((worker) => worker.ping(timeoutMs)),
    );
  }

  status(): RedoStatus {
    const stderr = { lines: 0, dropped: 0 };
    for (const worker of this.#workers) {
      stderr.lines += worker.stderr.lines;
      stderr.dropped += worker.stderr.dropped;
    }
    return {
      workers: this.#workers.map(({ state, pid, inFlight }) => ({ state, pid, inFlight })),
      queued: this.#dispatcher.size,
      waiting: this.#admission.waiting,
      started: this.#started,
      killed: { ...this.#killed },
      answered: this.#answered,
      retried: this.#retried,
      records: this.#records,
      stderr,
    };
  }

  /**
   * Ends the workers if nothing is under way and nothing was for `idleMs`; the next request starts one again.
   *
   * @returns whether it ended them
   */
  tryQuiesce(idleMs: number): boolean {
    const isIdle =
      this.#admission.taken === 0 &&
      this.#workers.every(({ state }) => state === "ready" || state === "absent");
    if (!isIdle || this.#options.clock.monotonicMs() - this.#lastDoneMs < idleMs) return false;
    for (const worker of this.#workers) worker.end("quiesce", closedError());
    return true;
  }

  /**
   * Ends everything: requests fail with ERR_REDO_CLOSED, workers are killed. Resolves when nothing of them is left.
   *
   * @returns whether it was this call that closed the manager
   */
  async close(): Promise<boolean> {
    const isFirst = this.#closing === undefined;
    this.#closing ??= this.#close();
    await this.#closing;
    return isFirst;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    // Nothing of this may run before `#closing` is set, or whoever is refused would try again.
    await Promise.resolve();
    for (const job of this.#dispatcher.stop()) job.failed(closedError());
    this.#admission.open();
    // One that is being started is there in a moment, and ended then.
    await Promise.all(this.#workers.map((worker) => worker.launched()));
    for (const worker of this.#workers) worker.end("shutdown", closedError());
    await Promise.all(this.#workers.map((worker) => worker.settled()));
  }

  /** All parts of the request, one after the other. */
  async #attempt(request: RedoRequest, signal: AbortSignal | undefined): Promise<Uint8Array> {
    let page = request.base?.bytes;
    for (const part of partsOf(request.modifications)) {
      if ("records" in part) page = await this.#submit(request, page, part.records, signal);
      else {
        const changed = new Page(page === undefined ? new Uint8Array(BLOCK_BYTES) : Uint8Array.from(page));
        applyMapEffect(part.effect, changed);
        page = changed.bytes;
      }
    }
    if (page === undefined) throw new RangeError("a request without modifications");
    return page;
  }

  async #submit(
    request: RedoRequest,
    base: Uint8Array | undefined,
    records: readonly WireRecord[],
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    await this.#admission.enter(signal);
    this.#admission.use();
    if (this.#closing !== undefined) throw closedError();
    if (signal?.aborted === true) this.#admission.admit();
    signal?.throwIfAborted();
    const answer = deferred<Uint8Array>();
    let bytes = base === undefined ? 0 : BLOCK_BYTES;
    for (const record of records) bytes += record.bytes.byteLength;
    const key = pageKeyText(request.page);
    const job: Job = {
      request,
      base,
      records,
      bytes,
      key,
      owner: request.owner ?? "",
      isDemand: request.purpose === "read",
      cost: records.length,
      done: (page) => {
        this.#records += records.length;
        this.#settled(job);
        answer.resolve(page);
      },
      failed: (error) => {
        this.#settled(job);
        answer.reject(error);
      },
    };
    const abort = (): void => {
      // One that a worker has stays there until it is answered, for its place in the order of the replies.
      if (this.#dispatcher.remove(job)) this.#admission.admit();
      answer.reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.#dispatcher.add(job);
    try {
      return await answer.promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #settled(job: Job): void {
    this.#lastDoneMs = this.#options.clock.monotonicMs();
    this.#dispatcher.leave(job);
  }
}

/** Records in a row, or a change that is none. */
type Part = { readonly records: WireRecord[] } | { readonly effect: MapEffect };

function partsOf(modifications: readonly PageModification[]): readonly Part[] {
  const parts: Part[] = [];
  for (const modification of modifications) {
    const last = parts.at(-1);
    if (modification.kind === "effect") parts.push({ effect: modification.effect });
    else if (last !== undefined && "records" in last) last.records.push(modification);
    else parts.push({ records: [modification] });
  }
  return parts;
}

function isWorthAnotherAttempt(error: unknown): boolean {
  return (
    error instanceof RedoError &&
    (error.code === "ERR_REDO_PROCESS_DIED" ||
      error.code === "ERR_REDO_TIMEOUT" ||
      error.code === "ERR_REDO_PROTOCOL")
  );
}

function closedError(): RedoError {
  return new RedoError("ERR_REDO_CLOSED", undefined, "the redo manager is closed");
}

function checkRequest({ modifications, base }: RedoRequest): void {
  if (modifications.length === 0) throw new RangeError("a request without modifications");
  if (base !== undefined && base.bytes.byteLength !== BLOCK_BYTES) {
    throw new RangeError(`a base of ${String(base.bytes.byteLength)} bytes`);
  }
}
