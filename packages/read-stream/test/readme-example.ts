import assert from "node:assert/strict";
import { ReadStream, STREAM_FLAG } from "@millrace/read-stream";
import { ModelPool } from "./model-pool.js"; // any StreamPool: in production a backend's buffer manager

const pool = new ModelPool({ pinLimit: 94 });
const stream = ReadStream.begin(pool, {
  relation: { tablespace: 1663, database: 5, relation: 16_384 },
  flags: STREAM_FLAG.sequential | STREAM_FLAG.useBatching,
  next: ReadStream.range(0, 1000), // or any function that gives block numbers, and -1 at the end
});
let blocks = 0;
for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
  blocks += 1; // here the page is looked at
  pool.release(buffer);
}
stream.end();
assert.equal(blocks, 1000);
assert.deepEqual(pool.log.slice(0, 6), ["R0+1", "R1+2", "R3+4", "R7+8", "R15+16", "R31+16"]);
