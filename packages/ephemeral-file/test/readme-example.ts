import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { IoEngine } from "@millrace/aio";
import { EphemeralFile } from "@millrace/ephemeral-file";
import { createFileEngine, FdCache } from "@millrace/virtual-file";

await using io = IoEngine.create(); // io_uring, or worker threads where it is not to be had
const environment = { engine: createFileEngine(io), arena: io.arena, descriptors: new FdCache(100) };
await using file = await EphemeralFile.create(tmpdir(), environment);

const index: { readonly offsetBytes: number; readonly lengthBytes: number }[] = [];
for (let key = 0; key < 10_000; key++) {
  const value = Buffer.from(`value of ${key}\n`);
  const offsetBytes = file.tryAppend(value) ?? (await file.append(value)); // a promise only where it must wait
  index.push({ offsetBytes, lengthBytes: value.length });
}

const wanted = [9999, 17, 4242].map((key) => index[key] ?? { offsetBytes: 0, lengthBytes: 0 });
const results = await file.readVectored(wanted); // from the disk, from buffers on their way there, and from the newest one
const texts = results.map((result) =>
  result.ok ? Buffer.from(result.bytes).toString() : String(result.error),
);
assert.deepEqual(texts, ["value of 9999\n", "value of 17\n", "value of 4242\n"]);
