// Another backend of a test of batches: told to, it reads a block, which joins the I/O that is under way for it, and says so when
// it goes to sleep for that and when it has the page. It runs from what was built, since Node and not vitest loads it.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "@millrace/buffer-manager";

const { shared, directory, relation, block, board, word } = workerData;

function say(at) {
  Atomics.store(board, at, 1);
  Atomics.notify(board, at);
}

const manager = BufferManager.attach(shared, {
  files: segmentedFiles({ directory }),
  aio: { probe: { onSleep: () => say(word.sleeps) } },
});
parentPort.postMessage("ready");
Atomics.wait(board, word.go, 0);
manager.release(manager.read(relation, block));
say(word.done);
manager.detach();
parentPort.close();
