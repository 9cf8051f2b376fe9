/** Several writes in flight: started in order, confirmed in order, whichever ends first and however. */
import { expect, test } from "vitest";
import { errno, isPending, latch, setUp, settle } from "./fake-file.js";

const FOUR = "abcdefghijklmnop";

test("as many writes as queueDepth are in flight, and no more", async () => {
  const { file, writer, write } = setUp({ queueDepth: 3 });
  const [first, second, third, fourth] = [latch(), latch(), latch(), latch()];
  file.plan(first.done, second.done, third.done, fourth.done);
  const writing = write(FOUR);
  await settle();
  expect(file.ops).toEqual(['W(0,"abcd")', 'W(4,"efgh")', 'W(8,"ijkl")']);
  first.resolve();
  await settle();
  expect(file.ops).toHaveLength(4);
  for (const held of [second, third, fourth]) held.resolve();
  await writing;
  await writer[Symbol.asyncDispose]();
});

// Aim: `confirmed` never counts a byte that is not in the file. Method: the writes end youngest first.
test("a write that ends before an older one is confirmed after it", async () => {
  const { file, writer, write } = setUp({ queueDepth: 3 });
  const [first, second, third] = [latch(), latch(), latch()];
  file.plan(first.done, second.done, third.done);
  await write("abcdefghijkl");
  for (const held of [third, second]) {
    held.resolve();
    await settle();
    expect([writer.confirmed, writer.stats.flushes]).toEqual([0, 0]);
  }
  first.resolve();
  await settle();
  expect([writer.confirmed, writer.stats.flushes]).toEqual([12, 3]);
  expect(Buffer.from(file.content).toString()).toBe("abcdefghijkl");
  await writer[Symbol.asyncDispose]();
});

test("a write that is repeated holds up the confirmation of younger ones, not their writes", async () => {
  const { clock, file, writer, write } = setUp({ queueDepth: 3 });
  const again = latch();
  file.plan(errno("ENOSPC"), again.done);
  await write("abcdefghijkl");
  await settle();
  expect(clock.sleeps).toEqual([2000]);
  expect([file.ops.length, writer.confirmed]).toEqual([4, 0]);
  again.resolve();
  await settle();
  expect([writer.confirmed, writer.stats.retries]).toEqual([12, 1]);
  await writer[Symbol.asyncDispose]();
});

test("behind a write that has failed for good nothing is confirmed, and its writes are waited for", async () => {
  const { arena, file, writer, write } = setUp({ queueDepth: 3 });
  const [first, second, third] = [latch(), latch(), latch()];
  file.plan(first.done, second.done, third.done);
  await write("abcdefghijkl");
  second.resolve();
  await settle();
  first.reject(errno("EIO"));
  await settle();
  expect([writer.state, writer.confirmed]).toEqual(["poisoned", 0]);
  const memory = new Uint8Array(12);
  writer.snapshot().copyInto(memory, 0, 12);
  expect(Buffer.from(memory).toString()).toBe("abcdefghijkl");
  const abandoning = writer.abandon();
  expect(await isPending(abandoning)).toBe(true);
  third.resolve();
  await abandoning;
  expect([file.ops.length, writer.confirmed, arena.stats.liveBuffers]).toEqual([3, 0, 0]);
});

test("a write in flight before one that has failed for good still counts", async () => {
  const { file, writer, write } = setUp({ queueDepth: 2 });
  const [first, second] = [latch(), latch()];
  file.plan(first.done, second.done);
  await write("abcdefgh");
  await settle();
  second.reject(errno("EIO"));
  await settle();
  expect([writer.state, writer.confirmed]).toEqual(["poisoned", 0]);
  first.resolve();
  await settle();
  expect(writer.confirmed).toBe(4);
  await writer[Symbol.asyncDispose]();
  expect(file.ops).toEqual(['W(0,"abcd")', 'W(4,"efgh")', "D"]);
});
