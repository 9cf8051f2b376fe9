// A thread that takes a lock over and over, or holds it until it is told. See mutex.test.ts, which says where the lock's
// code is and what to do.
import { parentPort, workerData } from "node:worker_threads";

const { module, words, mode, holder, rounds } = workerData;
const { lock, unlock } = await import(module);
const [LOCK_AT, COUNT, GATE] = [0, 8, 9];

function count() {
  parentPort.postMessage("counting");
  for (let round = 0; round < rounds; round++) {
    lock(words, LOCK_AT, holder);
    // Not atomic: two threads inside at a time would lose counts.
    const before = words[COUNT];
    if (words[LOCK_AT] >> 1 !== holder) throw new Error("the lock says somebody else has it");
    words[COUNT] = before + 1;
    unlock(words, LOCK_AT);
  }
}

function hold() {
  lock(words, LOCK_AT, holder);
  parentPort.postMessage("held");
  Atomics.wait(words, GATE, 0);
  words[COUNT] += 1;
  unlock(words, LOCK_AT);
}

function take() {
  parentPort.postMessage("taking");
  lock(words, LOCK_AT, holder);
  parentPort.postMessage(`taken after ${words[COUNT]}`);
  unlock(words, LOCK_AT);
}

({ count, hold, take })[mode]();
