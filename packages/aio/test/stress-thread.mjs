// Reads random ranges and checks every block's number. See stress.test.ts.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import {
  attachBackend,
  createFileRegistry,
  createIoReturn,
  FILE_CALLBACK,
  FILE_TARGET,
} from "../dist/index.js";

const { shared, index, reads, blocks, blockBytes, lease, seed } = workerData;
const DEPTH = 8;
const RANGE = 16;
const backend = attachBackend(shared, createFileRegistry(), { mayBlock: true });
const words = new Uint32Array(shared.segments[0].buffer);
let state = seed;
const random = (below) => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  return ((state >>> 8) * below) >>> 24;
};

let started = 0;
let checked = 0;
const scope = backend.openScope();
const buffers = Array.from({ length: DEPTH }, (_, at) => {
  const offsetBytes = (index * DEPTH + at) * RANGE * blockBytes;
  return { offsetBytes, first: 0, count: 0, ref: undefined, slot: createIoReturn() };
});

function start(buffer) {
  buffer.count = 1 + random(RANGE);
  buffer.first = random(blocks - buffer.count);
  for (let block = 0; block < buffer.count; block++)
    words[(buffer.offsetBytes + block * blockBytes) / 4] = 0xffff_ffff;
  const handle = backend.acquire(scope, buffer.slot);
  buffer.ref = handle.ref();
  handle
    .setTarget(FILE_TARGET, [lease.fd, lease.slot])
    .addCallback(FILE_CALLBACK)
    .startReadv(
      lease,
      [{ segment: 0, offsetBytes: buffer.offsetBytes, lengthBytes: buffer.count * blockBytes }],
      buffer.first * blockBytes,
    );
  started += 1;
}

function check(buffer) {
  backend.wait(buffer.ref);
  assert.equal(buffer.slot.result.status, "ok");
  assert.equal(buffer.slot.result.result, buffer.count * blockBytes);
  for (let block = 0; block < buffer.count; block++) {
    const at = (buffer.offsetBytes + block * blockBytes) / 4;
    assert.equal(words[at], buffer.first + block);
    assert.equal(words[at + blockBytes / 4 - 1], buffer.first + block);
  }
  checked += 1;
}

for (let round = 0; started < reads; round++) {
  backend.enterBatch();
  for (const buffer of buffers) start(buffer);
  backend.exitBatch();
  for (const buffer of round % 2 === 0 ? buffers : [...buffers].reverse()) check(buffer);
}
scope.end();
backend.detach();
parentPort.postMessage(checked);
