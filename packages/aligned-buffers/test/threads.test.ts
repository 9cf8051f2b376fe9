/** Arenas and pools in several threads. Workers run the built package: Node loads them, not the test runner. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, onTestFinished, test } from "vitest";
import { AlignedArena, createPoolMemory } from "../src/index.js";
import { bytes, text } from "./noise.js";

const BUILT = new URL("../dist/index.js", import.meta.url).href;

function startWorker(body: string): Worker {
  const code = `
    const { parentPort } = require("node:worker_threads");
    import(${JSON.stringify(BUILT)}).then((buffers) => {
      parentPort.on("message", (message) => { parentPort.postMessage((${body})(buffers, message)); });
    });`;
  const worker = new Worker(code, { eval: true });
  onTestFinished(async () => void (await worker.terminate()));
  return worker;
}

async function ask(worker: Worker, message: unknown): Promise<unknown> {
  worker.postMessage(message);
  const [answer] = (await once(worker, "message")) as [unknown];
  return answer;
}

// Aim: a buffer can be lent to another thread. Method: the worker turns letters upside down where the lease points.
test("bytes that a worker writes into a lent buffer are the owner's afterwards", async () => {
  const arena = new AlignedArena({ bytes: 2 ** 20, alignment: 512 });
  using other = arena.copyFrom(bytes("untouched"));
  const worker = startWorker(`({ attachArena, isIoMemory }, { arena, lease }) => {
    const bytes = attachArena(arena).open(lease);
    const read = Buffer.from(bytes).toString("latin1", 0, 3);
    bytes.reverse();
    return { read, direct: isIoMemory(bytes, 512), length: bytes.length };
  }`);
  const source = arena.alloc(5);
  source.append(bytes("abc"));
  const loan = source.lend();
  const answer = await ask(worker, { arena: arena.handle, lease: loan.lease });
  expect(answer).toEqual({ read: "abc", direct: true, length: 5 });
  using buffer = loan.takeBack(5);
  expect(text(buffer.view())).toBe("\0\0cba");
  expect(text(other.view())).toBe("untouched");
});

test("a worker reads a frozen slice by its lease", async () => {
  const arena = new AlignedArena({ bytes: 4096, alignment: 512 });
  const worker = startWorker(`({ attachArena }, { arena, lease }) =>
    Buffer.from(attachArena(arena).open(lease)).toString("latin1")`);
  using frozen = arena.copyFrom(bytes("0123456789")).freeze();
  using slice = frozen.slice(2, 5);
  expect(await ask(worker, { arena: arena.handle, lease: slice.lease })).toBe("234");
});

test("a lease of another arena is refused", async () => {
  const [small, large] = [new AlignedArena({ bytes: 4096 }), new AlignedArena({ bytes: 65_536 })];
  const worker = startWorker(`({ attachArena }, { arena, lease }) => {
    try { return attachArena(arena).open(lease).length; } catch (error) { return error.name; }
  }`);
  using first = large.alloc(4096);
  const loan = large.alloc(4096).lend();
  expect(await ask(worker, { arena: small.handle, lease: loan.lease })).toBe("RangeError");
  expect(await ask(worker, { arena: large.handle, lease: loan.lease })).toBe(4096);
  using back = loan.takeBack();
  expect(back.byteOffset - first.byteOffset).toBe(4096);
});

test("threads see the same frames of a pool", async () => {
  const pool = createPoolMemory({ frameCount: 5, frameBytes: 4096, segmentBytes: 8192 });
  pool.view(4).set(bytes("frame 4"));
  const worker = startWorker(`({ attachPoolMemory }, handle) => {
    const pool = attachPoolMemory(handle);
    pool.copyFrame(1, 4);
    pool.zero(4);
    return [pool.frameCount, pool.runFramesMax(2), pool.runFramesMax(4)];
  }`);
  expect(await ask(worker, pool.handle)).toEqual([5, 2, 1]);
  expect(text(pool.view(1).subarray(0, 7))).toBe("frame 4");
  expect(pool.view(4).some((byte) => byte !== 0)).toBe(false);
});
