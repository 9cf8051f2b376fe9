// A thread that does everything that can be done with a pool until it is ended, wherever that finds it. It compares each page
// that it reads with the block it asked for. See thread-death-soak.test.ts.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "../dist/index.js";

const { shared, directory, seed, index, board, table, own, blocks, buffers, mayLockExclusively } = workerData;
const BLOCK_AT = 24;
const COMBINE = 8;
/** What may happen to a call, and leaves everything as it was. */
const EXPECTED = new Set(["ERR_BUFFER_NO_UNPINNED", "ERR_BUFFER_RESIZE_BUSY"]);

let state = seed;
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

const manager = BufferManager.attach(shared, { files: segmentedFiles({ directory }) });
const writer = index === 0 ? manager.createBackgroundWriter({ multiplier: 10 }) : undefined;
const rings = [null, null, manager.ring("bulkread", 64), manager.ring("vacuum", 128)];
const operation = manager.createReadOperation(table);
const several = new Int32Array(COMBINE);
/** Pages that stay pinned for a while. */
const held = [];

function check(buffer, block) {
  const page = manager.page(buffer);
  const found = new DataView(page.buffer, page.byteOffset).getUint32(BLOCK_AT, true);
  assert.equal(found, block, `buffer ${buffer} holds block ${found} for ${block}`);
}

/** Pins a block; what `body` throws, or that the thread dies, finds it pinned. */
function withPage(block, body) {
  const buffer = manager.read(table, block, { ring: rings[random(rings.length)] });
  try {
    check(buffer, block);
    body(buffer);
  } finally {
    manager.release(buffer);
  }
}

function withLock(block, mode, body) {
  withPage(block, (buffer) => {
    manager.lock(buffer, mode);
    try {
      body(buffer);
    } finally {
      manager.unlock(buffer);
    }
  });
}

function readSeveral() {
  const first = random(blocks - COMBINE);
  const isBatch = random(2) === 0;
  operation.ring = rings[random(rings.length)];
  if (isBatch) manager.enterBatch();
  let count = 0;
  try {
    count = manager.startRead(operation, several, 0, first, COMBINE);
  } finally {
    if (isBatch) manager.exitBatch();
  }
  if (operation.needWait) manager.waitRead(operation);
  for (let at = 0; at < COMBINE; at++) {
    if (at < count) check(several[at], first + at);
    if (several[at] !== 0) manager.release(several[at]);
    several[at] = 0;
  }
}

const quiet = {
  read: () => withPage(random(blocks), () => {}),
  readSeveral,
  look: () => withLock(random(blocks), "shared", () => {}),
  hint: () => withLock(random(blocks), "shared", (buffer) => manager.markDirtyHint(buffer)),
  flush: () => withPage(random(blocks), (buffer) => manager.flush(buffer)),
  hold: () => {
    if (held.length < 2) held.push(manager.read(table, random(blocks)));
    else manager.release(held.shift());
  },
  evict: () => manager.evict(1 + random(manager.buffersCount)),
  extend: () => {
    for (const buffer of manager.extend(own, 1 + random(3)).buffers) manager.release(buffer);
  },
  drop: () => manager.dropRelations([own]),
  checkpoint: () => manager.checkpoint({ isImmediate: true }),
  clean: () => writer?.cycle(),
  resize: () => {
    // A page may stay pinned, by this thread too.
    manager.resize(buffers / 2 + random(buffers / 2 + 1), { onPinned: "rollback", timeoutMs: 20 });
  },
};
/** What stops the pool if a thread dies of it: a page may be half changed. */
const loud = {
  ...quiet,
  change: () => withLock(random(blocks), "exclusive", (buffer) => manager.markDirty(buffer)),
  cleanup: () => {
    withPage(random(blocks), (buffer) => {
      if (manager.tryLockForCleanup(buffer)) manager.unlock(buffer);
    });
  },
  zero: () => {
    const buffer = manager.read(own, 0, { mode: "zeroAndLock" });
    manager.unlock(buffer);
    manager.release(buffer);
  },
};
const steps = Object.values(mayLockExclusively ? loud : quiet);

let outcome = "left";
try {
  while (Atomics.load(board, 0) === 0) {
    for (let turns = 1 + random(8); turns > 0; turns--) {
      try {
        steps[random(steps.length)]();
      } catch (error) {
        if (!EXPECTED.has(error.code)) throw error;
      }
    }
    Atomics.add(board, 1 + index, 1);
    Atomics.notify(board, 1 + index);
  }
  for (const buffer of held) manager.release(buffer);
  manager.detach();
} catch (error) {
  if (error.code !== "ERR_BUFFER_PANIC") throw error;
  outcome = "stopped";
}
// Whoever waits for another turn has waited long enough.
Atomics.add(board, 1 + index, 1 << 20);
Atomics.notify(board, 1 + index);
parentPort.postMessage(outcome);
