import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";
import { ReadStream, STREAM_FLAG } from "@millrace/read-stream";

const directory = await mkdtemp(join(tmpdir(), "stream-"));
await mkdir(join(directory, "base/5"), { recursive: true });
await writeFile(join(directory, "base/5/16384"), Buffer.alloc(1000 * 8192)); // pages of zeros are valid

const pool = BufferPool.create();
const manager = BufferManager.attach(pool.shared, { files: segmentedFiles({ directory }) });
const stream = ReadStream.begin(manager, {
  relation: { tablespace: 1663, database: 5, relation: 16_384 },
  flags: STREAM_FLAG.sequential | STREAM_FLAG.useBatching,
  next: ReadStream.range(0, 1000), // or any function that gives block numbers, and -1 at the end
  statistics: true,
});
let bytes = 0;
for await (const { buffer } of stream) {
  bytes += manager.page(buffer).byteLength;
  manager.release(buffer);
}
assert.equal(bytes, 1000 * 8192);
assert.equal(stream.statistics?.blocksRead, 1000);

await stream.endAsync();
await manager.detachAsync();
await pool.close();
await rm(directory, { recursive: true });
