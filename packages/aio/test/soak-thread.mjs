// A thread that does I/O of every kind until it is ended, wherever that finds it. See thread-death-soak.test.ts.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import {
  attachBackend,
  createFileRegistry,
  createIoReturn,
  FILE_CALLBACK,
  FILE_TARGET,
} from "../dist/index.js";

const { shared, seed, index, threads, board, fd, lease, blocks } = workerData;
const BLOCK = 8192;
const REFS = 8; // published by each thread: handle plus one, and generation
const backend = attachBackend(shared, createFileRegistry(), { mayBlock: true });
const memory = shared.segments[0].buffer;
const area = index * 64 * BLOCK; // 64 blocks of memory for each thread

let state = seed;
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

/** Each of these has its own piece of memory, and writes what the file holds there already. */
const places = Array.from({ length: 16 }, (_, place) => ({
  place,
  slot: createIoReturn(),
  isOut: false,
  check: () => {},
}));

function publish(ref) {
  const at = 16 + (index * REFS + random(REFS)) * 2;
  Atomics.store(board, at, 0);
  Atomics.store(board, at + 1, ref.generation);
  Atomics.store(board, at, ref.handle + 1);
}

function startOne(scope, file) {
  const place = places.find(({ isOut }) => !isOut);
  if (place === undefined) return;
  const count = 1 + random(4);
  const first = random(blocks - count);
  const at = area + place.place * 4 * BLOCK;
  const vectors = [];
  for (let piece = 0; piece < count; piece++) {
    vectors.push({ segment: 0, offsetBytes: at + piece * BLOCK, lengthBytes: BLOCK });
  }
  const words = new Uint32Array(memory, at, (count * BLOCK) / 4);
  place.isOut = true;
  let expected = count * BLOCK;
  let isRead = false;
  place.slot.onReturn = ({ result }) => {
    place.isOut = false;
    assert.equal(result.status, "ok", JSON.stringify(result));
    assert.equal(result.result, expected);
    if (!isRead) return;
    for (let piece = 0; piece < count; piece++) {
      const word = (piece * BLOCK) / 4 + random(BLOCK / 4);
      assert.equal(words[word], first + piece, `block ${first + piece} holds ${words[word]}`);
    }
  };
  const handle = backend.acquire(scope, place.slot);
  handle.setTarget(FILE_TARGET, [file.fd, file.slot]).addCallback(FILE_CALLBACK);
  if (random(8) === 0) handle.flag("synchronous");
  if (random(3) === 0) handle.flag("buffered");
  if (random(4) !== 0) publish(handle.ref());
  const kind = random(10);
  if (kind < 6) {
    isRead = true;
    words.fill(0xffff_ffff);
    handle.startReadv(file, vectors, first * BLOCK);
  } else if (kind < 9) {
    for (let piece = 0; piece < count; piece++)
      words.fill(first + piece, (piece * BLOCK) / 4, ((piece + 1) * BLOCK) / 4);
    const options = kind === 8 ? { sync: random(2) === 0 ? "data" : "full" } : {};
    handle.startWritev(file, vectors, first * BLOCK, options);
  } else {
    expected = 0;
    handle.startFsync(file, random(2) === 0);
  }
}

/** Waits for something of somebody: it may be over, reused, or of a thread that has just died. */
function waitForSomebody() {
  const at = 16 + random(threads * REFS) * 2;
  const handle = Atomics.load(board, at) - 1;
  if (handle < 0) return;
  try {
    backend.wait({ handle, generation: Atomics.load(board, at + 1) });
  } catch (error) {
    if (error.code !== "ERR_AIO_BAD_STATE") throw error;
  }
}

function turn(scope) {
  const kind = random(8);
  if (kind === 0) {
    if (places.some(({ isOut }) => !isOut)) backend.acquire(scope).release();
  } else if (kind === 1) {
    const file = backend.openLease(fd);
    startOne(scope, file);
    backend.closingFile(file);
  } else if (kind === 2) {
    waitForSomebody();
  } else if (kind === 3) {
    backend.poll();
  } else {
    const isBatch = random(3) !== 0;
    if (isBatch) backend.enterBatch();
    for (let left = 1 + random(6); left > 0; left--) startOne(scope, lease);
    if (isBatch) backend.exitBatch();
    if (random(2) === 0) waitForSomebody();
  }
}

while (Atomics.load(board, 0) === 0) {
  const scope = backend.openScope();
  for (let turns = 1 + random(4); turns > 0; turns--) turn(scope);
  // The pieces of memory are in the kernel's hands until the I/O is back.
  while (places.some(({ isOut }) => isOut)) {
    backend.acquire(scope).release();
    backend.poll();
    waitForSomebody();
  }
  scope.end();
  Atomics.add(board, 1 + index, 1);
  Atomics.notify(board, 1 + index);
}
backend.detach();
parentPort.postMessage("left");
