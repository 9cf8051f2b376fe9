// A thread of the test of writing: it changes pages that others change too, or writes checkpoints until they are done.
// It imports the built package, since Node and not vitest loads it.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "../dist/index.js";

const { shared, directory, table, role, blocks, rounds } = workerData;
const VALUE_AT = 100;

const manager = BufferManager.attach(shared, { files: segmentedFiles({ directory }) });

function change(block) {
  const buffer = manager.tryRead(table, block);
  if (buffer === 0) throw new Error(`block ${block} is not in the pool`);
  manager.lock(buffer, "exclusive");
  const page = manager.page(buffer);
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  view.setUint32(VALUE_AT, view.getUint32(VALUE_AT, true) + 1, true);
  manager.markDirty(buffer);
  manager.unlock(buffer);
  if (block % 7 === 0) manager.flush(buffer);
  manager.release(buffer);
}

if (role === "change") for (let round = 0; round < rounds; round++) change((round * 13) % blocks);
else if (role === "background") {
  const writer = manager.createBackgroundWriter({ delayMs: 10_000 });
  parentPort.postMessage("made");
  writer.run();
} else for (let round = 0; round < 40; round++) manager.checkpoint({ isImmediate: true });
manager.detach();
