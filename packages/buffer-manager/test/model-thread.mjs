// A thread of the model test: it reads, changes, scans, extends and evicts pages at random, and compares each page it sees
// with what the page has to be. It imports the built package, since Node and not vitest loads it.
//
// The model is one word a block: how often the block has been changed. It is written with the page locked exclusively and
// read with it locked at all, so that it is exact: a page that shows less has lost a write, one that shows more was not
// written by us. It also stands for the WAL: what it says has happened survives a crash.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager, segmentedFiles } from "../dist/index.js";
import { CONTROL, readVersion, writeVersion } from "./model-pages.mjs";

const { shared, directory, seed, thread, operations, blocks, table, own, model, control } = workerData;
const words = new Int32Array(model);
const signals = new Int32Array(control);
/** What may happen to an operation, and leaves everything as it was. */
const EXPECTED = new Set(["ERR_BUFFER_NO_UNPINNED", "ERR_BUFFER_WRITE", "ERR_BUFFER_LIMIT"]);

let state = (seed * 7919 + thread * 104_729 + 1) | 0;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const wal = {
  flush: (lsn) => {
    const position = Number(lsn);
    for (let seen = Atomics.load(signals, CONTROL.durable); seen < position;) {
      const before = Atomics.compareExchange(signals, CONTROL.durable, seen, position);
      if (before === seen) break;
      seen = before;
    }
  },
  isDurable: (lsn) => Number(lsn) <= Atomics.load(signals, CONTROL.durable),
};
let manager;
let rings = [];
/** Pages that stay pinned for a while. */
const held = [];
/** Blocks that this thread has added to its own relation. */
let added = 0;

function fail(what) {
  throw new Error(`seed ${seed}, thread ${thread}: ${what}`);
}

function withPage(block, ring, mode, body) {
  const buffer = manager.read(table, block, { ring });
  try {
    manager.lock(buffer, mode);
    try {
      const version = readVersion(manager.page(buffer), block);
      if (version !== words[block]) {
        fail(`block ${block} is of version ${version}, and was changed ${words[block]} times`);
      }
      body?.(buffer, version);
    } finally {
      manager.unlock(buffer);
    }
  } finally {
    manager.release(buffer);
  }
}

function change(block, ring) {
  withPage(block, ring, "exclusive", (buffer, version) => {
    const lsn = Atomics.add(signals, CONTROL.inserted, 1) + 1;
    writeVersion(manager.page(buffer), block, version + 1, lsn);
    manager.markDirty(buffer);
    Atomics.store(words, block, version + 1);
  });
}

const steps = {
  read: () => withPage(random(blocks), rings[random(3)], "shared"),
  change: () => change(random(blocks), rings[random(2) * random(4)]),
  scan: () => {
    const first = random(blocks);
    const ring = rings[1 + random(3)];
    for (let block = first; block < Math.min(blocks, first + 12); block++) {
      if (ring === rings[2]) change(block, ring);
      else withPage(block, ring, "shared");
    }
  },
  hold: () => {
    if (held.length < 3) held.push(manager.read(table, random(blocks)));
    else manager.release(held.shift());
  },
  extend: () => {
    const { first, buffers } = manager.extend(own, 1 + random(3), { ring: rings[random(2) * 3] });
    for (const [index, buffer] of buffers.entries()) {
      manager.lock(buffer, "exclusive");
      const lsn = Atomics.add(signals, CONTROL.inserted, 1) + 1;
      writeVersion(manager.page(buffer), first + index, 1, lsn);
      manager.markDirty(buffer);
      manager.unlock(buffer);
      manager.release(buffer);
    }
    added = first + buffers.length;
  },
  evict: () => {
    const buffer = manager.tryRead(table, random(blocks));
    if (buffer === 0) return;
    manager.release(buffer);
    manager.evict(buffer);
  },
  checkpoint: () => manager.checkpoint({ isImmediate: true }),
  flush: () => {
    const buffer = manager.read(table, random(blocks));
    try {
      manager.flush(buffer);
    } finally {
      manager.release(buffer);
    }
  },
};
/** How often each step comes. */
const WEIGHTS = { read: 30, change: 34, scan: 8, hold: 8, extend: 4, evict: 8, checkpoint: 1, flush: 7 };
const choices = Object.entries(WEIGHTS).flatMap(([step, weight]) =>
  Array.from({ length: weight }, () => step),
);

let outcome = "done";
try {
  // The pool may have stopped before this thread, which replaces one that died, comes to it.
  manager = BufferManager.attach(shared, { files: segmentedFiles({ directory }), wal });
  rings = [null, manager.ring("bulkread"), manager.ring("vacuum"), manager.ring("bulkwrite")];
  for (let operation = 0; operation < operations; operation++) {
    Atomics.add(signals, CONTROL.operations, 1);
    Atomics.notify(signals, CONTROL.operations);
    try {
      steps[choices[random(choices.length)]]();
    } catch (error) {
      if (error.code === "ERR_BUFFER_PANIC") throw error;
      if (!EXPECTED.has(error.code)) throw error;
      Atomics.add(signals, CONTROL.refused, 1);
    }
  }
  for (const buffer of held) manager.release(buffer);
  manager.detach();
} catch (error) {
  outcome = error.code === "ERR_BUFFER_PANIC" ? "panic" : `${error.code ?? ""} ${error.stack}`;
}
parentPort.postMessage({ outcome, added });
