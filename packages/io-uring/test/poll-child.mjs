// A process with one ring and one poll: lives on or not, as its first argument says. See ring-poll.test.ts.
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { addressOf, COMPLETION_WORDS, OPCODE, Ring } from "../dist/index.js";

const [mode, path] = process.argv.slice(2);
const ring = Ring.create({ entries: 2 });
const out = new Int32Array(2 * COMPLETION_WORDS);

if (mode === "throw") {
  process.once("uncaughtException", (error) => {
    writeSync(1, `caught: ${error.message}\n`);
    ring.close();
  });
  ring.onReadable(() => {
    ring.reap(out, 2);
    throw new Error("from the callback");
  });
  ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 1, 0);
  ring.submit();
} else {
  const fd = openSync(path, constants.O_RDWR);
  const target = new Uint8Array(new SharedArrayBuffer(8));
  ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 1, 0);
  ring.submit();
  const poll = ring.onReadable(() => {
    ring.reap(out, 2);
    writeSync(1, "woken\n");
    ring.close();
    closeSync(fd);
  });
  if (mode !== "ref") poll.unref();
  if (mode === "ref-again") poll.ref();
  // Fires if the loop lives for another reason, however long after; never in a loop that ends.
  setTimeout(() => writeSync(fd, "x"), 1).unref();
}
