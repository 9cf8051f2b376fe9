import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";

const table = { tablespace: 1663, database: 5, relation: 16_384, persistence: "unlogged" };
const COUNTER_AT = 24;

if (isMainThread) {
  const directory = await mkdtemp(join(tmpdir(), "pool-"));
  await mkdir(join(directory, "base/5"), { recursive: true });
  const pool = BufferPool.create({ buffers: 64, backends: 5 });
  const files = segmentedFiles({ directory });
  const manager = BufferManager.attach(pool.shared, { files });
  const { buffers } = await manager.extendAsync(table, 1, { createFork: true });
  const options = { workerData: { shared: pool.shared, directory } };
  const workers = [1, 2, 3, 4].map(() => new Worker(new URL(import.meta.url), options));
  await Promise.all(workers.map((worker) => once(worker, "exit")));
  assert.equal(manager.page(buffers[0])[COUNTER_AT], 40);
  manager.release(buffers[0]);
  await manager.checkpointAsync({ pages: "all", isImmediate: true });
  await manager.detachAsync();
  await pool.close();
  await rm(directory, { recursive: true });
} else {
  const files = segmentedFiles({ directory: workerData.directory });
  const manager = BufferManager.attach(workerData.shared, { files });
  for (let round = 0; round < 10; round++) {
    const buffer = manager.read(table, 0); // pinned: it stays where it is
    manager.lock(buffer, "exclusive");
    manager.page(buffer)[COUNTER_AT] += 1;
    manager.markDirty(buffer); // written when its buffer is needed, or by a checkpoint
    manager.unlock(buffer);
    manager.release(buffer);
  }
  manager.detach();
}
