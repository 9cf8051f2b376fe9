/**
 * Keeps all threads busy that libuv runs file calls on: a call that needs one of them cannot end before they are let go.
 *
 * Each of them opens a FIFO for reading, which waits for a writer. Whoever blocks the event loop instead of using such a thread
 * is done while they are busy.
 */
import { execFileSync } from "node:child_process";
import { close, closeSync, constants, mkdtempSync, open, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";

const openLater = promisify(open);
const closeLater = promisify(close);
/** Of libuv, unless the environment says otherwise. */
const THREADS_DEFAULT = 4;

/** Busy from the start until `release`, or its disposal. */
export class BusyThreads implements AsyncDisposable {
  readonly #directory: string = mkdtempSync(join(tmpdir(), "millrace-busy-"));
  readonly #fifo: string = join(this.#directory, "fifo");
  readonly #opening: readonly Promise<number>[];
  #isBusy = true;

  constructor() {
    execFileSync("mkfifo", [this.#fifo]);
    const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? THREADS_DEFAULT);
    this.#opening = Array.from({ length: threads }, () => openLater(this.#fifo, "r"));
  }

  /** Lets the threads go. Resolves once they are free. */
  async release(): Promise<void> {
    if (!this.#isBusy) return;
    this.#isBusy = false;
    const writer = openSync(this.#fifo, constants.O_RDWR | constants.O_NONBLOCK);
    for (const opening of this.#opening) await closeLater(await opening);
    closeSync(writer);
    rmSync(this.#directory, { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/** Lets the event loop turn a few times. */
export async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await setImmediate();
}
