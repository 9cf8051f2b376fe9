import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";
import { ReadStream, STREAM_FLAG } from "@millrace/read-stream";

const directory = await mkdtemp(join(tmpdir(), "stream-"));
await mkdir(join(directory, "base/5"), { recursive: true });
for (const [name, blocks] of Object.entries({ "16384": 10_000, "16385": 512 })) {
  await writeFile(join(directory, "base/5", name), "");
  await truncate(join(directory, "base/5", name), blocks * 8192); // pages of zeros are valid
}
const big = { tablespace: 1663, database: 5, relation: 16_384 };
const hot = { ...big, relation: 16_385 };

const pool = BufferPool.create({ buffers: 1024 });
const manager = BufferManager.attach(pool.shared, { files: segmentedFiles({ directory }) });
for (let block = 0; block < 512; block++) manager.release(await manager.readAsync(hot, block));

const stream = ReadStream.begin(manager, {
  relation: big,
  flags: STREAM_FLAG.sequential | STREAM_FLAG.useBatching,
  ring: manager.scanRing(10_000), // a few buffers of its own, as the relation is too big to be cached
  next: ReadStream.range(0, 10_000), // or any function that gives block numbers, and -1 at the end
});
let bytes = 0;
for await (const { buffer } of stream) {
  bytes += manager.page(buffer).byteLength;
  manager.release(buffer);
}
assert.equal(bytes, 10_000 * 8192);
for (let block = 0; block < 512; block++) {
  const buffer = manager.tryRead(hot, block);
  assert.notEqual(buffer, 0, "the scan has left every hot page where it was");
  manager.release(buffer);
}

await stream.endAsync();
await manager.detachAsync();
await pool.close();
await rm(directory, { recursive: true });
