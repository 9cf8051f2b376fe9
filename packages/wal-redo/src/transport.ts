/**
 * A way to somebody who replays: a worker thread or a process. Bytes go one way, bytes come the other way, and the end is
 * told once.
 *
 * A process has three pipes, and all are served independently of each other: writing never waits for reading. Whoever writes
 * bounds what is unanswered, which bounds what waits in the pipe.
 */
import { spawn } from "node:child_process";
import type { ChildProcessByStdio } from "node:child_process";
import { existsSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { RedoClock } from "./clock.js";
import { StderrLines } from "./stderr-lines.js";
import type { WorkerOrder } from "./worker-main.js";

/** What a transport tells its owner. */
export interface TransportEvents {
  readonly onData: (chunk: Uint8Array) => void;
  /** The other side is gone, or cannot be talked to any more; told once. */
  readonly onEnd: (cause: Error) => void;
}

export interface Transport {
  /** The process, or the thread's number in this one. */
  readonly pid: number;
  /** @param bytes the transport's from now on */
  send(bytes: Buffer): void;
  /** Ends the other side and waits until nothing of it is left. May be called more than once. */
  kill(): Promise<void>;
  /** Lines of stderr that were passed on, and that were dropped. */
  readonly stderr: { readonly lines: number; readonly dropped: number };
}

function workerUrl(): URL {
  const beside = new URL("./worker-main.js", import.meta.url);
  return existsSync(fileURLToPath(beside)) ? beside : new URL("../dist/worker-main.js", import.meta.url);
}

/** Starts a worker thread. */
export function startThread(order: WorkerOrder, events: TransportEvents): Transport {
  const worker = new Worker(workerUrl(), { workerData: order, execArgv: [] });
  let ended = false;
  const end = (cause: Error): void => {
    if (ended) return;
    ended = true;
    events.onEnd(cause);
  };
  const exited = new Promise<void>((resolve) => {
    worker.once("exit", (code) => {
      end(new Error(`the worker thread ended with code ${String(code)}`));
      resolve();
    });
  });
  worker.on("error", end);
  worker.on("message", events.onData);
  return {
    pid: worker.threadId,
    send: (bytes) => {
      const { buffer } = bytes;
      const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength;
      worker.postMessage(bytes, isWhole ? [buffer] : []);
    },
    async kill() {
      await worker.terminate();
      await exited;
    },
    stderr: { lines: 0, dropped: 0 },
  };
}

/** Starts our own program as a process. */
export function startProcess(order: WorkerOrder, clock: RedoClock, events: TransportEvents): Transport {
  return startCommand([process.execPath, fileURLToPath(workerUrl()), JSON.stringify(order)], clock, events);
}

/** Processes that must not outlive this one. */
const living = new Set<ChildProcessByStdio<Writable, Readable, Readable>>();
let killsAtExit = false;

function killAll(): void {
  for (const child of living) child.kill("SIGKILL");
}

/** Starts any program that speaks the frames on stdin and stdout. It gets an empty environment, and no other descriptors. */
export function startCommand(
  command: readonly string[],
  clock: RedoClock,
  events: TransportEvents,
): Transport {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { cwd: "/", env: {}, stdio: ["pipe", "pipe", "pipe"] });
  if (!killsAtExit) {
    killsAtExit = true;
    process.on("exit", killAll);
  }
  living.add(child);
  const pid = child.pid ?? 0;
  const lines = new StderrLines(child.stderr, pid, clock);
  let ended = false;
  const end = (cause: Error): void => {
    if (ended) return;
    ended = true;
    events.onEnd(cause);
  };
  const closed = new Promise<void>((resolve) => {
    // A program that cannot be started has no exit, and one that has ended may leave its pipes open for a moment.
    child.once("error", (cause) => {
      end(cause);
      if (child.pid === undefined) resolve();
    });
    child.once("exit", (code, signal) => {
      living.delete(child);
      end(new Error(`process ${String(pid)} ended with ${signal ?? `code ${String(code)}`}`));
    });
    child.once("close", () => resolve());
  }).finally(() => living.delete(child));
  child.stdin.on("error", end);
  child.stdout.on("error", end);
  child.stdout.on("data", events.onData);
  return {
    pid,
    send: (bytes) => {
      if (!ended) child.stdin.write(bytes);
    },
    async kill() {
      child.kill("SIGKILL");
      await closed;
    },
    get stderr() {
      return lines.counts;
    },
  };
}
