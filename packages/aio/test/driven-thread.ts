/**
 * A thread with a backend of its own, driven by messages: what it does next is the test's decision, not the scheduler's.
 *
 * Every call is answered before the next is sent, unless it blocks: a thread that is held at a control point, or sleeps
 * in a wait, answers when it goes on, or never if it is ended there.
 */
import { Worker } from "node:worker_threads";

import type { FileLease } from "../src/file-table.js";
import type { AioSystem } from "../src/system.js";
import type { WaitRef } from "../src/wait-ref.js";

/** What an I/O is on, in bytes. */
export interface ThreadIo {
  readonly memory?: number;
  readonly length?: number;
  readonly pieces?: number;
  readonly offset?: number;
  readonly sync?: "data" | "full";
  readonly buffered?: boolean;
  readonly synchronous?: boolean;
}

interface Reply {
  readonly value?: unknown;
  readonly code?: string;
  readonly message?: string;
  readonly errno?: number;
}

/** An error that a call threw in the thread. */
export class ThreadError extends Error {
  readonly code: string;
  readonly errno: number | undefined;

  constructor({ code = "", message, errno }: Reply) {
    super(message);
    this.code = code;
    this.errno = errno;
  }
}

/** The thread. Disposing ends it, if it has not ended, and waits for its recovery. */
export class BackendThread implements AsyncDisposable {
  readonly worker: Worker;
  /** Resolves when the thread has ended and its backend has been recovered. */
  readonly recovered: Promise<void>;
  backend = -1;
  threadId = -1;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];

  private constructor(system: AioSystem, options: { readonly mayBlock?: boolean }) {
    const workerData = { shared: system.shared, ...options };
    this.worker = new Worker(new URL("driven-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    this.recovered = system.supervise(this.worker);
    this.worker.on("message", (reply: Reply) => {
      const call = this.#waiting.shift();
      if (reply.code === undefined) call?.resolve(reply.value);
      else call?.reject(new ThreadError(reply));
    });
    this.worker.on("error", (error) => {
      for (const call of this.#waiting.splice(0)) call.reject(error);
    });
  }

  /** Starts a thread and waits until it has attached. */
  static async start(
    system: AioSystem,
    options: { readonly mayBlock?: boolean } = {},
  ): Promise<BackendThread> {
    const thread = new BackendThread(system, options);
    const hello = (await thread.call("hello")) as { backend: number; threadId: number };
    thread.backend = hello.backend;
    thread.threadId = hello.threadId;
    return thread;
  }

  /** Has the thread do something. Never settles if the thread is ended first. */
  call(command: string, ...args: readonly unknown[]): Promise<unknown> {
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
    this.worker.postMessage({ command, args });
    return answer;
  }

  /** Acquires, starts and, outside batch mode, submits. */
  async io(operation: string, lease: FileLease, io: ThreadIo, slot = 0): Promise<WaitRef> {
    return (await this.call("io", operation, lease, io, slot)) as WaitRef;
  }

  /** Ends the thread wherever it is, and waits until what it left behind has been seen to. */
  async kill(): Promise<void> {
    await this.worker.terminate();
    await this.recovered;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
