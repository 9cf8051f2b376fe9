// A thread of the test of pins under header locks: it pins pages that are there and lets go of them, and now and then flips
// the dirty flag of one as whoever holds the header lock may: by a plain store of the whole state word, which gives the lock back.
// What the flag has to be is in a shared table that the header lock guards; a flag that is not so has been lost.
import { parentPort, workerData } from "node:worker_threads";

import { BufferManager } from "../dist/index.js";

const { shared, thread, pins, table, state: states, flags, isDirty, line } = workerData;
const words = new Int32Array(shared.control.buffer);
const pause = new Int32Array(new SharedArrayBuffer(4));
/** Pins that a thread has at a time, some on the same page. */
const HELD = 4;
/** One flip of a flag for so many pins, and one look at every header. */
const FLIP_EVERY = 8;
const VIEW_EVERY = 20_000;
/** Looks at a locked header before the holder, who may not be running, gets a chance. */
const SPINS = 1000;

let random = Math.imul(thread + 1, 0x9e37_79b1);
function roll(below) {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % below;
}

function lockHeader(at) {
  for (let spin = 1; ; spin++) {
    const seen = Atomics.or(words, at, flags.locked);
    if ((seen & flags.locked) === 0) return seen;
    if (spin % SPINS === 0) Atomics.wait(pause, 0, 0, 1);
  }
}

let lost = 0;
function flip(buffer) {
  const at = states.first + buffer * states.stride;
  const seen = lockHeader(at);
  if (((seen & flags.dirty) !== 0) !== (isDirty[buffer] === 1)) lost += 1;
  isDirty[buffer] ^= 1;
  Atomics.store(words, at, seen ^ flags.dirty);
}

const manager = BufferManager.attach(shared, { files: () => ({ close() {} }) });
const held = Array.from({ length: HELD }, () => 0);
let strayed = 0;

// All threads begin together, when the test has heard of each.
parentPort.postMessage("ready");
Atomics.wait(line, 0, 0);

for (let done = 0; done < pins; done++) {
  const slot = done % HELD;
  if (held[slot] !== 0) manager.release(held[slot]);
  const block = roll(isDirty.length);
  held[slot] = manager.tryRead(table, block);
  if (held[slot] === 0) strayed += 1;
  if (done % FLIP_EVERY === 0) flip(roll(isDirty.length));
  if (done % VIEW_EVERY === 0) {
    if (manager.tag(held[slot]).block !== block) strayed += 1;
    // Locks every header in turn, and stores its state as it was.
    for (const { block: found } of manager.pages()) if (found === null) strayed += 1;
  }
}
for (const buffer of held) manager.release(buffer);
manager.detach();
parentPort.postMessage({ lost, strayed });
