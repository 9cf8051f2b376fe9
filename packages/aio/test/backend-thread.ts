/**
 * A backend in a thread of its own, which may sleep while the test goes on: what it is ordered to do, and when it sleeps.
 *
 * The thread runs from the built package, like an I/O worker. It tells of a sleep just before it begins; whether it
 * sleeps yet when the test acts makes no difference to what must happen.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { AioError } from "../src/errors.js";
import type { AioErrorCode } from "../src/errors.js";
import type { FileLease } from "../src/file-table.js";
import type { IoResult } from "../src/result.js";
import type { WaitRef } from "../src/wait-ref.js";
import type { World } from "./fixture.js";

/** A read as a thread is ordered to start it. */
export interface ReadOrder {
  readonly lease: FileLease;
  readonly block: number;
  readonly memoryBlock: number;
  readonly blocks?: number;
  readonly target?: number;
  readonly callbacks?: readonly (number | readonly [id: number, data: number])[];
  readonly flags?: readonly string[];
}

interface Orders {
  attach(): number;
  read(order: ReadOrder): WaitRef;
  acquire(): { readonly handle: number; readonly states: number[] };
  wait(ref: WaitRef): number;
  waitAndStop(what: { readonly ref: WaitRef; readonly bad: number }): void;
  done(ref: WaitRef): boolean;
  enterBatch(): void;
  exitBatch(): void;
  submitAndWait(ref: WaitRef): void;
  endScope(): void;
  closeFile(lease: FileLease): void;
  complete(what: { readonly handle: number; readonly result?: number }): void;
  detach(): void;
  hammer(what: { readonly lease: FileLease; readonly stop: Int32Array; readonly roundsMax: number }): number;
  events(): string[];
  results(): IoResult[];
  log(): string[];
}

type Message = { sleeping: number } | { value: unknown } | { code: AioErrorCode; message: string };

/** The thread. Disposing detaches its backend, unless it is still at an order (the test has failed then), and ends it. */
export class BackendThread implements AsyncDisposable {
  readonly worker: Worker;
  readonly #exited: Promise<unknown>;
  readonly #sleeps: number[] = [];
  #sleepWaiter: ((handle: number) => void) | undefined;
  #answer: ((message: Message) => void) | undefined;
  #isAttached = false;
  #isBusy = false;

  private constructor(world: World, registryName: string) {
    const { shared } = world.system;
    const { concurrency } = world.backend;
    this.worker = new Worker(new URL("backend-thread.mjs", import.meta.url), {
      workerData: { shared, registryName, concurrency },
      execArgv: [],
    });
    this.#exited = once(this.worker, "exit");
    this.worker.on("message", (message: Message) => this.#hear(message));
    this.worker.on("error", (error) => this.#answer?.({ code: "ERR_AIO_CLOSED", message: error.message }));
  }

  /** Starts a thread and attaches it. @throws {AioError} as attaching does */
  static async start(
    world: World,
    registryName: "file" | "pages" | "renamed" = "file",
  ): Promise<BackendThread> {
    const thread = new BackendThread(world, registryName);
    try {
      await thread.order("attach");
      thread.#isAttached = true;
      return thread;
    } catch (error) {
      await thread[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Has an order carried out. One at a time; it may take until the test wakes the thread. */
  async order<K extends keyof Orders>(
    order: K,
    ...argument: Parameters<Orders[K]>
  ): Promise<ReturnType<Orders[K]>> {
    const answer = new Promise<Message>((resolve) => {
      this.#answer = resolve;
    });
    this.worker.postMessage({ order, argument: argument[0] });
    this.#isBusy = true;
    const message = await answer;
    this.#isBusy = false;
    if ("code" in message) throw new AioError(message.code, message.message);
    return (message as { value: unknown }).value as ReturnType<Orders[K]>;
  }

  /** The handle that the thread is about to sleep on, once for each sleep. */
  async slept(): Promise<number> {
    const handle = this.#sleeps.shift();
    if (handle !== undefined) return handle;
    return new Promise((resolve) => {
      this.#sleepWaiter = resolve;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isAttached && !this.#isBusy) await this.order("detach").catch(() => undefined);
    await this.worker.terminate();
    await this.#exited;
  }

  #hear(message: Message): void {
    if ("sleeping" in message) {
      if (this.#sleepWaiter === undefined) this.#sleeps.push(message.sleeping);
      else this.#sleepWaiter(message.sleeping);
      this.#sleepWaiter = undefined;
    } else {
      this.#answer?.(message);
    }
  }
}
