// A process whose main thread waits in its ring, is hit by a signal there, and has to go on waiting.
//
// Its worker knows from /proc when the main thread sleeps in the ring, sends the signal, knows from the count of its
// sleeps when it sleeps there again, and only then gives the read what it waits for. See ring.fault.test.ts.
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { addressOf, COMPLETION_WORDS, OPCODE, Ring } from "../dist/index.js";

const IO_URING_ENTER = "426 ";
const SIGNAL_PATIENCE_MS = 10_000;

function main(path) {
  const fd = openSync(path, constants.O_RDWR);
  const done = new Int32Array(new SharedArrayBuffer(4));
  // A listener for a signal does not keep the process alive, and the signal may be told only after the worker has ended.
  const patience = setTimeout(() => undefined, SIGNAL_PATIENCE_MS);
  process.on("SIGUSR2", () => {
    writeSync(1, "signal\n");
    clearTimeout(patience);
  });
  const ring = Ring.create({ entries: 2 });
  const target = new Uint8Array(new SharedArrayBuffer(8));
  const worker = new Worker(new URL(import.meta.url), { workerData: { fd, done } });
  worker.once("online", () => {
    ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 1, 0);
    const submitted = ring.submitAndWait(1);
    Atomics.store(done, 0, 1);
    const reaped = ring.reap(new Int32Array(2 * COMPLETION_WORDS), 2);
    writeSync(1, `submitted ${submitted}, reaped ${reaped}\n`);
  });
  worker.once("exit", () => {
    ring.close();
    closeSync(fd);
  });
}

/** Goes on as soon as the main thread sleeps in its ring and has slept more than `sleeps` times, or is done. */
function mainSleepsAgain(done, sleeps) {
  const task = `/proc/self/task/${process.pid}`;
  while (Atomics.load(done, 0) === 0) {
    const count = Number(
      /^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`${task}/status`, "latin1"))?.[1],
    );
    if (count > sleeps && readFileSync(`${task}/syscall`, "latin1").startsWith(IO_URING_ENTER)) return count;
  }
  return 0;
}

if (isMainThread) main(process.argv[2]);
else {
  const { fd, done } = workerData;
  const sleeps = mainSleepsAgain(done, 0);
  process.kill(process.pid, "SIGUSR2");
  mainSleepsAgain(done, sleeps);
  writeSync(fd, "x");
}
