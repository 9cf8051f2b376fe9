import assert from "node:assert/strict";
import { openSync } from "node:fs";
import { addressOf, COMPLETION_WORDS, OPCODE, probeUring, Ring } from "@millrace/io-uring";

const target = new Uint8Array(new SharedArrayBuffer(8192));
const fd = openSync(process.execPath, "r");
if (probeUring().available) {
  using ring = Ring.create({ entries: 64 });
  ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), target.length, 0, 0, 42, 0);
  assert.equal(ring.submitAndWait(1), 1);
  const out = new Int32Array(64 * COMPLETION_WORDS);
  assert.equal(ring.reap(out, 64), 1);
  const [userLo, , bytes] = out;
  assert.deepEqual([userLo, bytes], [42, 8192]);
}
