// Prints which method "auto" becomes here, and that a read works. See without-native.test.ts.
import { openSync } from "node:fs";
import { createMemorySegment } from "@millrace/aligned-buffers";
import { AioSystem, createIoReturn, FILE_CALLBACK, FILE_TARGET } from "../dist/index.js";

const { memory } = createMemorySegment(65_536);
const system = AioSystem.create({ segments: [memory], ioWorkers: 1 });
const backend = system.attach();
const lease = backend.openLease(openSync(process.argv[2], "r"));
const scope = backend.openScope();
const slot = createIoReturn();
const handle = backend.acquire(scope, slot);
const ref = handle.ref();
handle
  .setTarget(FILE_TARGET, [lease.fd, lease.slot])
  .addCallback(FILE_CALLBACK)
  .startReadv(
    lease,
    [
      { segment: 0, offsetBytes: 0, lengthBytes: 4096 },
      { segment: 0, offsetBytes: 8192, lengthBytes: 4096 },
    ],
    5 * 8192,
  );
await backend.waitAsync(ref);
scope.end();
await system.close();
const words = new Uint32Array(memory.buffer);
process.stdout.write(
  JSON.stringify({ ...system.choice, result: slot.result, words: [words[0], words[2048]] }),
);
