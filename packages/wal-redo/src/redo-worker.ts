/**
 * A place for one worker thread or process: starts it when it is needed, sends it requests, and replaces it when it fails.
 *
 * States: absent, spawning, ready, busy, and then dead for good: an instance that fails once (it ends, does not answer in time,
 * answers nonsense) leaves the place at that moment, with all requests that it had, and is killed and waited for beside it. The
 * next request gets a new one. Requests are compared by instance, so that a late event of a dead one concerns nobody.
 */
import type { RedoClock, Timer } from "./clock.js";
import { deferred } from "./deferred.js";
import { RedoError } from "./errors.js";
import type { RedoRequest } from "./redo-request.js";
import { ReplyReader } from "./replies.js";
import type { Transport, TransportEvents } from "./transport.js";
import { encodeHello, encodePing, encodeRequest } from "./wire.js";
import type { RedoDialect, WireRecord } from "./wire.js";

/** Requests that one instance has at a time; more wait in the manager. */
const IN_FLIGHT_MAX = 16;

export type RedoWorkerState = "absent" | "spawning" | "ready" | "busy";

/** Why an instance was ended. */
export type KillCause = "poison" | "startup" | "quiesce" | "shutdown";

/** A request's part between two changes that are not records. */
export interface RedoJob {
  readonly request: RedoRequest;
  readonly base: Uint8Array | undefined;
  readonly records: readonly WireRecord[];
  readonly bytes: number;
  done(page: Uint8Array): void;
  failed(error: RedoError): void;
}

export interface RedoWorkerOptions {
  readonly dialect: RedoDialect;
  readonly clock: RedoClock;
  readonly requestTimeoutMs: number;
  readonly launchTimeoutMs: number;
  readonly unackedBytesMax: number;
  readonly start: (events: TransportEvents) => Transport;
  /** Something changed that may let the next request go. */
  readonly onChange: () => void;
  readonly onStarted: (pid: number) => void;
  readonly onKilled: (pid: number, cause: KillCause) => void;
}

interface InFlight {
  readonly job: RedoJob;
  readonly timer: Timer;
}

interface Instance {
  readonly transport: Transport;
  readonly replies: ReplyReader;
  readonly inFlight: Map<number, InFlight>;
  readonly pongs: (() => void)[];
  unackedBytes: number;
  isDead: boolean;
  hello: string;
}

export class RedoWorker {
  readonly #options: RedoWorkerOptions;
  #instance: Instance | undefined;
  #launch: Promise<Instance> | undefined;
  readonly #dying = new Set<Promise<void>>();
  #nextId = 0;
  #lines = 0;
  #droppedLines = 0;

  constructor(options: RedoWorkerOptions) {
    this.#options = options;
  }

  get state(): RedoWorkerState {
    if (this.#launch !== undefined) return "spawning";
    if (this.#instance === undefined) return "absent";
    return this.#instance.inFlight.size > 0 ? "busy" : "ready";
  }

  get pid(): number | undefined {
    return this.#instance?.transport.pid;
  }

  get inFlight(): number {
    return this.#instance?.inFlight.size ?? 0;
  }

  get stderr(): { readonly lines: number; readonly dropped: number } {
    const { lines, dropped } = this.#instance?.transport.stderr ?? { lines: 0, dropped: 0 };
    return { lines: this.#lines + lines, dropped: this.#droppedLines + dropped };
  }

  /** Whether a request of so many bytes may be sent now; one that is larger than the limit may go alone. */
  hasRoomFor(bytes: number): boolean {
    const instance = this.#instance;
    if (instance === undefined) return false;
    if (instance.inFlight.size === 0) return true;
    return (
      instance.inFlight.size < IN_FLIGHT_MAX && instance.unackedBytes + bytes <= this.#options.unackedBytesMax
    );
  }

  /**
   * Starts an instance if there is none, and waits until it answers. Whoever asks meanwhile gets the same one.
   *
   * @throws {RedoError} ERR_REDO_LAUNCH
   */
  async ensure(): Promise<void> {
    if (this.#instance !== undefined) return;
    this.#launch ??= this.#start().finally(() => {
      this.#launch = undefined;
    });
    await this.#launch;
  }

  async #start(): Promise<Instance> {
    const { clock, launchTimeoutMs, dialect, onStarted, onChange } = this.#options;
    const launch = deferred<Instance>();
    const fail = (cause: Error): void => {
      if (instance.isDead) return;
      this.#end(instance, this.#instance === instance ? "poison" : "startup", diedOf(cause));
      launch.reject(launchError(cause));
    };
    const replies = new ReplyReader(dialect, {
      page: (id, page) => this.#answer(instance, id, (job) => job.done(page)),
      failure: (id, error) => this.#answer(instance, id, (job) => job.failed(error)),
      pong: () => instance.pongs.shift()?.(),
    });
    const instance: Instance = {
      transport: this.#startTransport({
        onData: (chunk) => this.#receive(instance, chunk, fail),
        onEnd: fail,
      }),
      replies,
      inFlight: new Map(),
      pongs: [],
      unackedBytes: 0,
      isDead: false,
      hello: "",
    };
    onStarted(instance.transport.pid);
    const timer = clock.setTimer(launchTimeoutMs, () => {
      fail(new Error(`no answer in ${String(launchTimeoutMs)} ms`));
    });
    this.#sendPing(instance, () => launch.resolve(instance));
    try {
      await launch.promise;
    } finally {
      timer.cancel();
    }
    this.#instance = instance;
    onChange();
    return instance;
  }

  /** Some failures of the system are thrown at once, others are the transport's end. */
  #startTransport(events: TransportEvents): Transport {
    try {
      return this.#options.start(events);
    } catch (error) {
      throw launchError(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #receive(instance: Instance, chunk: Uint8Array, fail: (cause: Error) => void): void {
    if (instance.isDead) return;
    try {
      instance.replies.take(chunk);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #answer(instance: Instance, id: number, settle: (job: RedoJob) => void): void {
    const entry = instance.inFlight.get(id);
    if (entry === undefined) return;
    instance.inFlight.delete(id);
    instance.unackedBytes -= entry.job.bytes;
    entry.timer.cancel();
    settle(entry.job);
    this.#options.onChange();
  }

  #sendPing(instance: Instance, answered: () => void): void {
    instance.pongs.push(answered);
    instance.replies.expect("ping");
    instance.transport.send(encodePing());
  }

  /**
   * Sends a request.
   *
   * @throws {RangeError} no instance is there
   */
  send(job: RedoJob): void {
    const instance = this.#instance;
    if (instance === undefined) throw new RangeError("a request without a worker");
    const { dialect, clock, requestTimeoutMs } = this.#options;
    const { request, base, records } = job;
    const id = this.#nextId;
    this.#nextId = (id + 1) >>> 0;
    const hello = `${String(request.pgMajor)} ${String(request.hintLsn)}`;
    if (dialect === "x1" && instance.hello !== hello) {
      instance.hello = hello;
      instance.transport.send(encodeHello(request.pgMajor, request.hintLsn));
    }
    const timer = clock.setTimer(requestTimeoutMs, () => {
      const text = `no answer in ${String(requestTimeoutMs)} ms`;
      instance.inFlight.delete(id);
      this.#end(instance, "poison", diedOf(new Error(text)));
      job.failed(new RedoError("ERR_REDO_TIMEOUT", undefined, text));
    });
    instance.inFlight.set(id, { job, timer });
    instance.unackedBytes += job.bytes;
    instance.replies.expect(id);
    instance.transport.send(encodeRequest({ id, page: request.page, base, records }, dialect));
  }

  /**
   * Asks whether the instance answers, after having started one if need be.
   *
   * @throws {RedoError} ERR_REDO_TIMEOUT: it was ended; ERR_REDO_LAUNCH
   */
  async ping(timeoutMs: number): Promise<void> {
    await this.ensure();
    const instance = this.#instance;
    if (instance === undefined) throw diedOf(new Error("the worker ended"));
    const answer = deferred<undefined>();
    const timer = this.#options.clock.setTimer(timeoutMs, () => {
      const text = `no answer to a ping in ${String(timeoutMs)} ms`;
      this.#end(instance, "poison", diedOf(new Error(text)));
      answer.reject(new RedoError("ERR_REDO_TIMEOUT", undefined, text));
    });
    this.#sendPing(instance, () => answer.resolve(undefined));
    try {
      await answer.promise;
    } finally {
      timer.cancel();
    }
  }

  /** Ends the instance, if there is one, and fails what it has. */
  end(cause: KillCause, error: RedoError): void {
    if (this.#instance !== undefined) this.#end(this.#instance, cause, error);
  }

  /** Resolves when no instance is being started. */
  async launched(): Promise<void> {
    await this.#launch?.catch(() => undefined);
  }

  /** Resolves when nothing of any earlier instance is left. */
  async settled(): Promise<void> {
    while (this.#dying.size > 0) await Promise.all(this.#dying);
  }

  #end(instance: Instance, cause: KillCause, error: RedoError): void {
    if (instance.isDead) return;
    instance.isDead = true;
    if (this.#instance === instance) this.#instance = undefined;
    const dying = instance.transport.kill().then(() => {
      const { lines, dropped } = instance.transport.stderr;
      this.#lines += lines;
      this.#droppedLines += dropped;
      this.#options.onKilled(instance.transport.pid, cause);
      this.#dying.delete(dying);
    });
    this.#dying.add(dying);
    const left = [...instance.inFlight.values()];
    instance.inFlight.clear();
    for (const { job, timer } of left) {
      timer.cancel();
      job.failed(error);
    }
    this.#options.onChange();
  }
}

function diedOf(cause: Error): RedoError {
  if (cause instanceof RedoError && cause.code === "ERR_REDO_PROTOCOL") return cause;
  return new RedoError("ERR_REDO_PROCESS_DIED", undefined, cause.message, { cause });
}

function launchError(cause: Error): RedoError {
  return new RedoError("ERR_REDO_LAUNCH", undefined, `no redo worker could be started: ${cause.message}`, {
    cause,
  });
}
