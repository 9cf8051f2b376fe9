// A thread of the test of histories: counters in pages, counted up under the exclusive lock and looked at under the shared one,
// while pages are evicted and checkpoints run. What it finds wrong it says and stops. See histories.test.ts.
import { parentPort, workerData } from "node:worker_threads";
import { BufferManager, segmentedFiles } from "../dist/index.js";

const { shared, directory, seed, thread, operations, blocks, relation, log } = workerData;
const { end, durable, records, truth } = log;

const COUNTER_AT = 100;
const HEADER = { lower: 12, upper: 14, special: 16, sizeVersion: 18 };

let state = Math.imul(seed + 1, 0x9e37_79b1) ^ Math.imul(thread + 1, 0x85eb_ca6b);
/** A number from 0, below `below`. */
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const wal = {
  flush(lsn) {
    for (let seen = Atomics.load(durable, 0); seen < Number(lsn);) {
      const before = Atomics.compareExchange(durable, 0, seen, Number(lsn));
      if (before === seen) return;
      seen = before;
    }
  },
  isDurable: (lsn) => Atomics.load(durable, 0) >= Number(lsn),
};

const manager = BufferManager.attach(shared, { files: segmentedFiles({ directory }), wal, mayBlock: true });
const ring = manager.ring("bulkread", 32);
const views = new Map();
const lastSeen = new Int32Array(blocks);

function viewOf(buffer) {
  const page = manager.page(buffer);
  let view = views.get(page);
  if (view === undefined) {
    view = new DataView(page.buffer, page.byteOffset, page.byteLength);
    views.set(page, view);
  }
  return view;
}

function look(block) {
  const buffer = manager.read(relation, block, random(4) === 0 ? { ring } : {});
  manager.lock(buffer, "shared");
  const count = viewOf(buffer).getInt32(COUNTER_AT, true);
  const known = truth[block];
  manager.unlock(buffer);
  manager.release(buffer);
  if (count !== known) throw new Error(`block ${block} has ${count}, counted to ${known}`);
  if (count < lastSeen[block])
    throw new Error(`block ${block} went back from ${lastSeen[block]} to ${count}`);
  lastSeen[block] = count;
}

function increment(block) {
  const buffer = manager.read(relation, block);
  manager.lock(buffer, "exclusive");
  const view = viewOf(buffer);
  const count = view.getInt32(COUNTER_AT, true);
  if (count !== truth[block]) throw new Error(`block ${block} has ${count}, counted to ${truth[block]}`);
  view.setUint16(HEADER.lower, 28, true);
  view.setUint16(HEADER.upper, 8184, true);
  view.setUint16(HEADER.special, 8192, true);
  view.setUint16(HEADER.sizeVersion, 0x2004, true);
  view.setInt32(COUNTER_AT, count + 1, true);
  truth[block] = count + 1;
  const lsn = Atomics.add(end, 0, 1) + 1;
  records[lsn] = block + 1;
  view.setUint32(0, 0, true);
  view.setUint32(4, lsn, true);
  manager.markDirty(buffer);
  manager.unlock(buffer);
  manager.release(buffer);
}

try {
  for (let operation = 0; operation < operations; operation++) {
    const block = random(blocks);
    const what = random(100);
    if (what < 60) look(block);
    else if (what < 95) increment(block);
    else if (what < 99) manager.evict(1 + random(manager.buffersCount));
    else if (thread === 0) manager.checkpoint({ isImmediate: true });
    else wal.flush(Atomics.load(end, 0));
  }
  manager.detach();
  parentPort.postMessage("done");
} catch (error) {
  parentPort.postMessage(`seed ${seed}, thread ${thread}: ${error.stack}`);
}
