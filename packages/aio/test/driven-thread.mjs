// A thread with a backend that does what it is told, one message at a time. See driven-thread.ts.
import { openSync } from "node:fs";
import { parentPort, threadId, workerData } from "node:worker_threads";
import {
  attachBackend,
  createFileRegistry,
  createIoReturn,
  FILE_CALLBACK,
  FILE_TARGET,
} from "../dist/index.js";

const { shared, mayBlock = true } = workerData;
const backend = attachBackend(shared, createFileRegistry(), { mayBlock });
const scope = backend.openScope();
let handle;
const returns = [];

function define(slot) {
  returns[slot] ??= createIoReturn();
  handle = backend.acquire(scope, returns[slot]);
  return handle.ref();
}

function start(
  operation,
  lease,
  { memory = 0, length = 8192, pieces = 1, offset = 0, sync, buffered, synchronous } = {},
) {
  handle.setTarget(FILE_TARGET, [lease.fd, lease.slot]).addCallback(FILE_CALLBACK);
  if (buffered) handle.flag("buffered");
  if (synchronous) handle.flag("synchronous");
  const each = length / pieces;
  const vectors = Array.from({ length: pieces }, (_, index) => ({
    segment: 0,
    offsetBytes: memory + index * each,
    lengthBytes: each,
  }));
  if (operation === "readv") handle.startReadv(lease, vectors, offset);
  else if (operation === "writev")
    handle.startWritev(lease, vectors, offset, sync === undefined ? {} : { sync });
  else handle.startFsync(lease, operation === "fdatasync");
}

const commands = {
  hello: () => ({ backend: backend.id, threadId }),
  acquire: (slot = 0) => define(slot),
  tryAcquire: (slot = 0) => {
    returns[slot] ??= createIoReturn();
    const got = backend.tryAcquire(scope, returns[slot]);
    if (got === undefined) return undefined;
    handle = got;
    return handle.ref();
  },
  release: () => handle.release(),
  start: (operation, lease, io) => start(operation, lease, io),
  io: (operation, lease, io, slot = 0) => {
    const ref = define(slot);
    start(operation, lease, io);
    return ref;
  },
  enterBatch: () => backend.enterBatch(),
  exitBatch: () => backend.exitBatch(),
  submitStaged: () => backend.submitStaged(),
  wait: (ref) => backend.wait(ref),
  waitAsync: (ref) => backend.waitAsync(ref),
  done: (ref) => backend.done(ref),
  result: (slot = 0) => ({ ...returns[slot].result }),
  report: (slot = 0) => backend.report(returns[slot], "error"),
  counts: () => [backend.idleCount, backend.stagedCount, backend.inFlightCount],
  openLease: (fd) => backend.openLease(fd),
  open: (path) => backend.openLease(openSync(path, "r+")),
  closingFile: (lease) => backend.closingFile(lease),
  detach: () => backend.detach(),
  leave: () => {
    backend.detach();
    process.exit(0);
  },
  exit: () => process.exit(0),
  sleep: (words) => void Atomics.wait(words, 0, 0),
};

parentPort.on("message", async ({ command, args }) => {
  try {
    parentPort.postMessage({ value: await commands[command](...args) });
  } catch (error) {
    parentPort.postMessage({ code: error.code ?? error.name, message: error.message, errno: error.errno });
  }
});
