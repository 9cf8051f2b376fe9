import assert from "node:assert/strict";
import { duplex } from "@millrace/duplex";

// Two buffers travel between a producer and a worker; when both are away, the producer waits.
const [producer, worker] = duplex<Buffer>(2);
for (const buffer of [Buffer.alloc(8), Buffer.alloc(8)]) worker.trySend(buffer);

const written: string[] = [];
const work = (async () => {
  for await (const buffer of worker) {
    written.push(buffer.toString("latin1", 0, 1));
    worker.trySend(buffer);
  }
})();

for (const letter of "mill") {
  const buffer = await producer.recv();
  assert(Buffer.isBuffer(buffer));
  buffer.write(letter);
  await producer.send(buffer);
}
producer.tx.close();
await work;
assert.equal(written.join(""), "mill");
