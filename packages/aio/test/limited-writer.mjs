// Writes twice to a file whose size is limited, and prints what came of it. See kernel-errors.test.ts.
import { openSync } from "node:fs";
import { createMemorySegment } from "@millrace/aligned-buffers";
import { AioSystem, createIoReturn, FILE_CALLBACK, FILE_TARGET } from "../dist/index.js";

const [method, path] = process.argv.slice(2);
const { memory } = createMemorySegment(65_536);
const system = AioSystem.create({ method, required: true, segments: [memory], ioWorkers: 1 });
const backend = system.attach();
const lease = backend.openLease(openSync(path, "r+"));
const scope = backend.openScope();
const results = [];
for (const offset of [0, 8192]) {
  const slot = createIoReturn();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  handle
    .setTarget(FILE_TARGET, [lease.fd, lease.slot])
    .addCallback(FILE_CALLBACK)
    .startWritev(lease, [{ segment: 0, offsetBytes: 0, lengthBytes: 16_384 }], offset);
  await backend.waitAsync(ref);
  results.push(slot.result);
}
scope.end();
await system.close();
process.stdout.write(JSON.stringify(results));
