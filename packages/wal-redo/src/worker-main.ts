/**
 * Who replays for a redo manager: started as a worker thread, or as a process with the frames on stdin and stdout.
 *
 * Both run the same session. A process ends by itself when its stdin does, which it does when its parent is gone, and looks
 * after its parent besides, as a descriptor may have been inherited by somebody else. Not an entry of the package.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { RedoSession } from "./redo-session.js";
import type { RedoSessionOptions } from "./redo-session.js";
import type { RedoDialect } from "./wire.js";

/** How often a process asks whether its parent is still the same. */
const PARENT_CHECK_MS = 5000;
/** Ended because of a frame that is none, or in "neon" because of a record that cannot be replayed. */
const EXIT_FAILED = 1;

/** What a worker or process is told at its start. */
export interface WorkerOrder {
  readonly dialect: RedoDialect;
  readonly pgMajor: number;
  readonly hintLsn: boolean;
}

function sessionOf(order: WorkerOrder, reply: RedoSessionOptions["reply"]): RedoSession {
  return new RedoSession({ ...order, reply });
}

function runThread(): void {
  const port = parentPort;
  if (port === null) throw new Error("a worker without a port");
  const session = sessionOf(workerData as WorkerOrder, (bytes) => {
    const { buffer } = bytes;
    port.postMessage(
      bytes,
      buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength ? [buffer] : [],
    );
  });
  port.on("message", (bytes: Uint8Array) => session.feed(bytes));
}

function runProcess(): void {
  const session = sessionOf(JSON.parse(process.argv[2] ?? "") as WorkerOrder, (bytes) => {
    process.stdout.write(bytes);
  });
  process.stdin.on("data", (chunk: Buffer) => {
    try {
      session.feed(chunk);
    } catch (error) {
      process.stderr.write(`ERROR: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(EXIT_FAILED);
    }
  });
  process.stdin.on("end", () => process.exit(session.isMidRequest ? EXIT_FAILED : 0));
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(EXIT_FAILED);
  }, PARENT_CHECK_MS).unref();
}

if (isMainThread) runProcess();
else runThread();
