// A thread of the tests of reading: it reads blocks as it is told, from a common start, and says what it found.
// It imports the built package, since Node and not vitest loads it.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "../dist/index.js";

const { shared, directory, relation, line, first, blocks, combine, rounds } = workerData;
const BLOCK_AT = 24;

const manager = BufferManager.attach(shared, { files: segmentedFiles({ directory }) });
const operation = manager.createReadOperation(relation, 0, manager.ring("bulkread"));
const buffers = new Int32Array(combine);
let wrong = 0;

function readFrom(block, count) {
  const covered = manager.startRead(operation, buffers, 0, block, count);
  if (operation.needWait) manager.waitRead(operation);
  for (let index = 0; index < covered; index++) {
    const page = manager.page(buffers[index]);
    if (new DataView(page.buffer, page.byteOffset).getUint32(BLOCK_AT, true) !== block + index) wrong += 1;
    manager.release(buffers[index]);
    buffers[index] = 0;
  }
  for (let index = covered; index < count; index++) {
    if (buffers[index] !== 0) manager.release(buffers[index]);
    buffers[index] = 0;
  }
  return covered;
}

// All threads begin together, when the test has heard of each.
parentPort.postMessage("ready");
Atomics.wait(line, 0, 0);

for (let round = 0; round < rounds; round++) {
  for (let done = 0; done < blocks;)
    done += readFrom((first + done) % blocks, Math.min(combine, blocks - ((first + done) % blocks)));
}
manager.detach();
parentPort.postMessage({ wrong });
