// A thread that uses a pool until it stops for good: at a control point, or when it has done what it was told.
// At its point it says so on the board, otherwise in a message. It never goes on; the test ends it there.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, READ_FLAG, segmentedFiles } from "../dist/index.js";

const { shared, directory, table, steps, point, skip, board } = workerData;
let left = skip;

const manager = BufferManager.attach(shared, {
  files: segmentedFiles({ directory }),
  hook(reached) {
    if (reached !== point || left-- !== 0) return;
    Atomics.store(board, 0, 1);
    Atomics.notify(board, 0);
    Atomics.wait(board, 1, 0);
  },
});
const pinned = new Map();
const bufferOf = (block) => {
  if (!pinned.has(block)) pinned.set(block, manager.tryRead(table, block));
  return pinned.get(block);
};
/** Reads neighbours in one I/O, which this thread completes itself whatever the method. */
function read(block, count) {
  const operation = manager.createReadOperation(table);
  const buffers = new Int32Array(count);
  const covered = manager.startRead(operation, buffers, 0, block, count, READ_FLAG.synchronously);
  if (covered !== count) throw new Error(`${covered} of ${count} blocks are read at a time`);
  if (operation.needWait) manager.waitRead(operation);
}
const commands = {
  read,
  pin: (block) => bufferOf(block),
  lock: (block, mode) => manager.lock(bufferOf(block), mode),
  cleanup: (block) => manager.lockForCleanup(bufferOf(block)),
  extend: (count) => manager.extend(table, count),
  checkpoint: () => manager.checkpoint({ isImmediate: true }),
  resize: (buffers) => manager.resize(buffers),
};
try {
  for (const [command, ...args] of steps) {
    parentPort.postMessage({ at: command });
    commands[command](...args);
  }
  parentPort.postMessage({ done: true });
  Atomics.wait(board, 1, 0);
} catch (error) {
  parentPort.postMessage({ code: error.code ?? error.name, message: error.message });
}
