/** Reading what is not in the file yet: all unconfirmed segments and the tail, at any time, also after failures. */
import { expect, test } from "vitest";
import type { BufferedWriter } from "../src/index.js";
import type { FakeFile } from "./fake-file.js";
import { errno, isPending, latch, rejection, setUp, settle } from "./fake-file.js";

/** Everything that was acknowledged: the file's part and memory's. */
function readAll(writer: BufferedWriter<FakeFile>, file: FakeFile): string {
  const snapshot = writer.snapshot();
  const { acknowledged, fileUpTo } = snapshot;
  const target = new Uint8Array(acknowledged - fileUpTo);
  snapshot.copyInto(target, fileUpTo, acknowledged);
  return Buffer.concat([file.content.subarray(0, fileUpTo), target]).toString("latin1");
}

// Aim: no byte is unreadable at any stage. Method: three segments on their way; all ranges; each stage of the first one.
test("all that is unconfirmed can be read from memory", async () => {
  const { file, probe, writer, write } = setUp({ queueDepth: 3 });
  probe.hold("started");
  probe.hold("written", ({ index }) => index === 0);
  await write("abcdefghijklmn");
  const whole = "abcdefghijklmn";
  expect(readAll(writer, file)).toBe(whole);
  const snapshot = writer.snapshot();
  for (let from = 0; from <= 14; from++) {
    for (let to = from; to <= 14; to++) {
      const target = new Uint8Array(to - from);
      snapshot.copyInto(target, from, to);
      expect(Buffer.from(target).toString()).toBe(whole.slice(from, to));
    }
  }
  probe.release(0, "started");
  await settle();
  expect([file.ops.length, writer.snapshot().fileUpTo, readAll(writer, file)]).toEqual([1, 0, whole]);
  probe.release(0);
  await settle();
  expect([writer.snapshot().fileUpTo, readAll(writer, file)]).toEqual([4, whole]);
  for (const index of [1, 2]) probe.release(index);
  await settle();
  expect([writer.snapshot().fileUpTo, readAll(writer, file)]).toEqual([12, whole]);
  await writer[Symbol.asyncDispose]();
});

test("a write that has not returned is invisible, and readers do not wait for it", async () => {
  const { file, probe, writer, write } = setUp();
  probe.hold("started", ({ index }) => index === 2);
  probe.hold("started", ({ index }) => index === 3);
  await write("ab");
  const writing = write("cdefghijklmnopq");
  expect(await isPending(writing)).toBe(true);
  expect([writer.submitted, writer.confirmed, writer.acknowledged]).toEqual([16, 8, 2]);
  expect(writer.snapshot()).toMatchObject({ acknowledged: 2, fileUpTo: 2 });
  expect(readAll(writer, file)).toBe("ab");
  probe.release(2);
  probe.release(3);
  await writing;
  expect(readAll(writer, file)).toBe("abcdefghijklmnopq");
  await writer[Symbol.asyncDispose]();
});

test.each(["cancelled", "poisoned"])("everything stays readable when the writer is %s", async (state) => {
  const aborting = new AbortController();
  const { file, writer, write, arena } = setUp({ signal: aborting.signal, queueDepth: 2 });
  const held = latch();
  file.plan(held.done);
  await write("abcdefghij");
  const failing = write("klmn").catch(() => undefined);
  await settle();
  if (state === "cancelled") {
    aborting.abort();
    held.resolve();
  } else held.reject(errno("EIO"));
  await failing;
  await settle();
  expect(writer.state).toBe(state);
  expect(writer.snapshot().fileUpTo).toBe(state === "cancelled" ? 8 : 0);
  expect(readAll(writer, file)).toBe("abcdefghij");
  await writer[Symbol.asyncDispose]();
  expect(arena.stats.liveBuffers).toBe(0);
  const closed = writer.snapshot();
  expect(() => closed.copyInto(new Uint8Array(1), 9, 10)).toThrow(
    expect.objectContaining({ code: "ERR_WRITER_STALE_SNAPSHOT" }),
  );
});

test("a snapshot is good until something has moved, and only for its range", async () => {
  const { writer, write } = setUp();
  await write("ab");
  const snapshot = writer.snapshot();
  const target = new Uint8Array(9);
  for (const [from, to] of [
    [0, 3],
    [2, 1],
    [-1, 1],
    [Number.NaN, 2],
  ] as const)
    expect(() => snapshot.copyInto(target, from, to)).toThrow(RangeError);
  await write("c");
  snapshot.copyInto(target, 0, 2);
  await write("d");
  expect(() => snapshot.copyInto(target, 0, 2)).toThrow(
    expect.objectContaining({ code: "ERR_WRITER_STALE_SNAPSHOT" }),
  );
  await writer[Symbol.asyncDispose]();
});

// Aim: a reader's share stays intact, and does not stop the writer. Method: hold shares of many segments.
test("a buffer that a reader holds is replaced", async () => {
  const { arena, probe, writer, write } = setUp();
  expect(writer.lastSubmitted()).toBeUndefined();
  const shares = [];
  for (let index = 0; index < 5; index++) {
    probe.hold("started", (segment) => segment.index === index);
    await write(`${String(index)}bcd`);
    shares.push(writer.lastSubmitted());
    probe.release(index);
    await settle();
  }
  await write("x");
  expect(shares.map((share) => share?.at(0))).toEqual([0x30, 0x31, 0x32, 0x33, 0x34]);
  expect(writer.stats.replacedBuffers).toBe(5);
  expect(writer.lastSubmitted()).toBeUndefined();
  for (const share of shares) share?.[Symbol.dispose]();
  expect(arena.stats.liveBuffers).toBeLessThanOrEqual(2);
  await writer[Symbol.asyncDispose]();
  expect(arena.stats.liveBuffers).toBe(0);
});

test("where the arena is full, a writer waits for a buffer or for room, and fails at neither", async () => {
  const { arena, probe, writer, write } = setUp({ capacity: 512, alignment: 512 }, 1024);
  probe.hold("started");
  const block = "x".repeat(512);
  await write(block);
  const first = writer.lastSubmitted();
  probe.release(0);
  await settle();
  await write(block);
  const second = writer.lastSubmitted();
  const waiting = write("y");
  await settle();
  probe.release(1);
  expect(await isPending(waiting)).toBe(true);
  second?.[Symbol.dispose]();
  expect(await waiting).toBe(1024);
  expect(arena.stats.inUse).toBe(1024);
  first?.[Symbol.dispose]();
  await writer[Symbol.asyncDispose]();
});

// Aim: a write of which a part is in is not completed by the next one. Method: the arena goes away in the middle.
test("a write that fails in the middle ends the writer", async () => {
  const { arena, file, probe, writer, write } = setUp();
  probe.hold("started", ({ index }) => index === 1);
  await write("ab");
  const writing = rejection(write("cdefghijklmnop"));
  await probe.reached("submitted", 1);
  const share = writer.lastSubmitted();
  await settle();
  arena[Symbol.dispose]();
  probe.release(1);
  expect(await writing).toMatchObject({
    code: "ERR_WRITER_POISONED",
    cause: { code: "ERR_ARENA_DISPOSED" },
  });
  await expect(write("q")).rejects.toMatchObject({ code: "ERR_WRITER_POISONED" });
  expect(writer.acknowledged).toBe(2);
  expect(readAll(writer, file)).toBe("ab");
  share?.[Symbol.dispose]();
  await writer[Symbol.asyncDispose]();
});
