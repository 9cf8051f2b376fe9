// A thread with a ring of its own, or one that waits for another thread's. See foreign-ring.test.ts.
import { parentPort, workerData } from "node:worker_threads";
import { addressOf, COMPLETION_WORDS, ForeignRing, OPCODE, Ring } from "../dist/index.js";

const { mode, fd } = workerData;

function nops(count) {
  const ring = Ring.create({ entries: 8 });
  for (let user = 0; user < count; user++) ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, user, 0);
  ring.submit();
  parentPort.postMessage(ring.id);
  parentPort.once("message", () => undefined); // stays until it is terminated
}

function read(memory) {
  const ring = Ring.create({ entries: 8 });
  ring.prepare(OPCODE.read, 0, fd, 0, addressOf(new Uint8Array(memory)), memory.byteLength, 0, 0, 77, 0);
  ring.submit();
  parentPort.postMessage(ring.id);
  parentPort.once("message", () => undefined);
}

function wait(id) {
  parentPort.postMessage(ForeignRing.attach(id).wait(1));
}

/** Reaps under the lock in word 0 until all are taken by one or the other; tells the sum of its user data. */
function share(id, shared, turns) {
  const foreign = ForeignRing.attach(id);
  const out = new Int32Array(5 * COMPLETION_WORDS);
  let sum = 0;
  while (Atomics.load(shared, 1) < turns) {
    if (Atomics.compareExchange(shared, 0, 0, 1) !== 0) continue;
    const count = foreign.reap(out, 5);
    Atomics.add(shared, 1, count);
    Atomics.store(shared, 0, 0);
    for (let index = 0; index < count; index++) sum += out[index * COMPLETION_WORDS];
  }
  parentPort.postMessage(sum);
}

/** Reads 4 KiB again and again, woken by the poll; with a limit the bytes are told and the thread just ends. */
function polled(limit) {
  const ring = Ring.create({ entries: 8 });
  const out = new Int32Array(8 * COMPLETION_WORDS);
  const target = new Uint8Array(new SharedArrayBuffer(4096));
  let started = 0;
  let bytes = 0;
  const next = () => {
    ring.prepare(OPCODE.read, 0, fd, 4096 * (started % 256), addressOf(target), 4096, 0, 0, started, 0);
    started += 1;
    ring.submit();
  };
  const poll = ring.onReadable(() => {
    const count = ring.reap(out, 8);
    for (let index = 0; index < count; index++) bytes += out[index * COMPLETION_WORDS + 2];
    if (started < limit) next();
    else if (bytes === limit * 4096) {
      parentPort.postMessage(bytes);
      poll.unref(); // and neither the poll nor the ring is ever closed
    }
  });
  parentPort.postMessage(ring.id);
  next();
}

if (mode === "nops") nops(workerData.count);
else if (mode === "read") read(workerData.memory);
else if (mode === "wait") wait(workerData.id);
else if (mode === "share") share(workerData.id, workerData.shared, workerData.turns);
else if (mode === "polled") polled(100);
else polled(Number.POSITIVE_INFINITY);
