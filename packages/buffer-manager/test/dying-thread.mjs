// A thread that uses a pool until it stops for good: at a control point, or when it has done what it was told.
// It says on the board how far it is and never goes on; the test ends it there.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "../dist/index.js";

const { shared, directory, table, steps, point, skip, board } = workerData;
let left = skip;

function stop() {
  Atomics.store(board, 0, 1);
  Atomics.notify(board, 0);
  Atomics.wait(board, 1, 0);
}

const manager = BufferManager.attach(shared, {
  files: segmentedFiles({ directory }),
  hook(reached) {
    if (reached === point && left-- === 0) stop();
  },
});
const pinned = new Map();
const bufferOf = (block) => {
  if (!pinned.has(block)) pinned.set(block, manager.tryRead(table, block));
  return pinned.get(block);
};
const commands = {
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
  stop();
} catch (error) {
  parentPort.postMessage({ code: error.code, message: error.message });
}
