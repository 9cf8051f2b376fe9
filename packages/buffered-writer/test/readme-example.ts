import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { IoEngine } from "@millrace/aio";
import { BufferedWriter } from "@millrace/buffered-writer";
import { createFileEngine, createTempFile, FdCache } from "@millrace/virtual-file";

await using io = IoEngine.create();
const environment = { engine: createFileEngine(io), arena: io.arena, descriptors: new FdCache(100) };
await using temporary = await createTempFile(tmpdir(), "log-", environment);

const writer = new BufferedWriter(temporary.file, io.arena, { capacity: 65_536, alignment: 4096 });
for (let line = 1; line <= 10_000; line++) {
  const bytes = Buffer.from(`line ${line}\n`);
  if (writer.tryWrite(bytes) === undefined) await writer.write(bytes); // a promise only where it must wait
}

const { finalLength, file } = await writer.shutdown("padThenTruncate");
await file.sync(); // only now is it durable
assert.equal(await file.size(), finalLength);
assert.equal(finalLength, 98_894);
