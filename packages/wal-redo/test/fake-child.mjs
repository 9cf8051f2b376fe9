/**
 * A process that speaks the dialect "x1" and replays nothing: its pages say which request they answer. What it does wrong is
 * its first argument.
 */
import { writeSync } from "node:fs";

const [, , mode = "echo"] = process.argv;
const FLOOD_BYTES = 64 * 1024 * 1024;

let pending = Buffer.alloc(0);
let request;
const held = [];
let answered = 0;

function frame(type, payload) {
  const bytes = Buffer.alloc(5 + payload.byteLength);
  bytes.writeUInt8(type.charCodeAt(0), 0);
  bytes.writeUInt32BE(4 + payload.byteLength, 1);
  payload.copy(bytes, 5);
  return bytes;
}

/** A page whose block number is that of the request. */
function pageOf({ id, block }) {
  const payload = Buffer.alloc(4 + 8192);
  payload.writeUInt32BE(id, 0);
  payload.writeUInt32BE(block, 4 + 100);
  return frame("K", payload);
}

function answer(each) {
  answered += 1;
  if (mode === "garbage" && answered === 5) process.stdout.write(Buffer.from([0x99]));
  process.stdout.write(pageOf(each));
  if (mode === "dies" && answered === 3) process.exit(3);
}

function take(type, payload) {
  if (type === "H") {
    process.stdout.write(frame("Z", Buffer.alloc(0)));
    if (mode === "lines") process.stderr.write("LOG:  first\nsecond\nWARNING:  third\n");
  } else if (type === "B") request = { id: payload.readUInt32BE(17), block: payload.readUInt32BE(13) };
  else if (type === "G" && mode !== "silent") {
    if (mode !== "reverse") answer(request);
    else {
      held.push(request);
      if (held.length === 8) for (const each of held.splice(0).reverse()) answer(each);
    }
  }
}

process.stdin.on("data", (chunk) => {
  pending = Buffer.concat([pending, chunk]);
  for (;;) {
    if (pending.byteLength < 5) break;
    const length = pending.readUInt32BE(1);
    if (pending.byteLength < 1 + length) break;
    take(String.fromCharCode(pending[0]), pending.subarray(5, 1 + length));
    pending = pending.subarray(1 + length);
  }
  if (mode === "slow") {
    process.stdin.pause();
    setTimeout(() => process.stdin.resume(), 2);
  }
});
process.stdin.on("end", () => process.exit(0));

if (mode === "flood") {
  // Blocks in this call whenever the pipe is full: a parent that does not read never gets an answer.
  const line = Buffer.from(`${"x".repeat(9999)}\n`);
  let left = FLOOD_BYTES;
  const step = () => {
    for (let count = 0; count < 20 && left > 0; count += 1) {
      writeSync(2, line);
      left -= line.byteLength;
    }
    if (left > 0) setImmediate(step);
  };
  step();
}
