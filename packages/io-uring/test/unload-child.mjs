// Makes a worker leave a ring behind and end, and only then loads the addon itself. See foreign-ring.test.ts.
import { once } from "node:events";
import { writeSync } from "node:fs";
import { Worker } from "node:worker_threads";

const worker = new Worker(new URL("ring-worker.mjs", import.meta.url), {
  workerData: { mode: "nops", count: 2 },
});
const [id] = await once(worker, "message");
await worker.terminate();
const { COMPLETION_WORDS, ForeignRing, orphanedRings } = await import("../dist/index.js");
const foreign = ForeignRing.attach(id);
const reaped = foreign.reap(new Int32Array(8 * COMPLETION_WORDS), 8);
if (reaped === 2 && orphanedRings().length === 1 && foreign.closeOrphan() === 0)
  writeSync(1, "found and closed\n");
