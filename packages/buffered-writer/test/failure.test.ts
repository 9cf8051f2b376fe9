/** Writes that fail for a while or for good, cancellation, abandonment, disposal. */
import { Gate } from "@millrace/duplex";
import { afterEach, expect, test, vi } from "vitest";
import { classifyError } from "../src/index.js";
import type { Classify } from "../src/index.js";
import { systemClock } from "../src/retry.js";
import { errno, isPending, latch, rejection, setUp, settle } from "./fake-file.js";

const rejections = vi.fn();
process.on("unhandledRejection", rejections);
afterEach(async () => {
  await settle();
  expect(rejections).not.toHaveBeenCalled();
});

// Aim: a full disk is waited for. Method: five failures, then success; times as a clock was asked for them.
test("what may pass is repeated, the whole segment, at growing distances", async () => {
  const { file, clock, writer, write } = setUp();
  file.plan(...Array.from({ length: 5 }, () => errno("ENOSPC")));
  await write("abcd");
  await settle();
  expect(file.ops).toEqual(Array.from({ length: 6 }, () => 'W(0,"abcd")'));
  expect(clock.sleeps).toEqual([2000, 4000, 8000, 10_000, 10_000]);
  expect([writer.stats.retries, writer.confirmed, writer.stats.flushes]).toEqual([5, 4, 1]);
  await writer[Symbol.asyncDispose]();
});

test("a change of length is repeated without the data", async () => {
  const { file, clock, writer, write } = setUp();
  await write("abcde");
  await settle();
  file.plan(Promise.resolve(), errno("EINTR"));
  expect((await writer.shutdown("padThenTruncate")).finalLength).toBe(5);
  expect(file.ops).toEqual(['W(0,"abcd")', 'W(4,"e\\0\\0\\0")', "L(5)", "L(5)"]);
  expect(clock.sleeps).toEqual([2000]);
});

test.each([
  ["ENOSPC", "retry"],
  ["EDQUOT", "retry"],
  ["EINTR", "retry"],
  ["EAGAIN", "retry"],
  ["ENOMEM", "retry"],
  ["ECANCELED", "retry"],
  ["ETIMEDOUT", "retry"],
  ["EBUSY", "retry"],
  ["ERR_FILE_WRITE_ZERO", "retry"],
  ["EIO", "fatal"],
  ["EINVAL", "fatal"],
  ["EBADF", "fatal"],
  ["ERR_FILE_POISONED", "fatal"],
])("%s is %s", (code, outcome) => {
  expect(classifyError({ code })).toBe(outcome);
  expect(classifyError({ code: "ERR_FILE_IO", errnoCode: code })).toBe(outcome);
  expect(classifyError(undefined)).toBe("fatal");
});

// Aim: what is final is told at once, to everybody, once. Method: EIO with nobody waiting, then calls.
test("a failure that is final poisons the writer", async () => {
  const onFatal = vi.fn();
  const { file, clock, writer, write } = setUp({ onFatal });
  file.plan(errno("EIO"));
  await write("abcd");
  await settle();
  expect(onFatal).toHaveBeenCalledTimes(1);
  expect(onFatal).toHaveBeenCalledWith(expect.objectContaining({ code: "ERR_WRITER_POISONED" }));
  const poisoned = { name: "WriterPoisonedError", code: "ERR_WRITER_POISONED", cause: { code: "EIO" } };
  await expect(write("e")).rejects.toMatchObject(poisoned);
  await expect(writer.shutdown("dropTail")).rejects.toMatchObject(poisoned);
  expect(() => writer.tryWrite(new Uint8Array(1))).toThrow("a write has failed for good");
  expect([writer.state, file.ops, clock.sleeps]).toEqual(["poisoned", ['W(0,"abcd")'], []]);
  await writer[Symbol.asyncDispose]();
  expect([file.ops.at(-1), writer.state, onFatal.mock.calls.length]).toEqual(["D", "closed", 1]);
});

// Aim: those who wait hear of it. Method: a write and a shutdown behind a flush that then fails.
test("a failure ends what waits", async () => {
  const { file, writer, write, arena } = setUp();
  const held = latch();
  file.plan(held.done);
  await write("abcd");
  const waiting = [write("efgh"), write("i"), writer.shutdown("dropTail")];
  const outcomes = Promise.allSettled(waiting);
  await settle();
  held.reject(errno("EROFS"));
  for (const outcome of await outcomes)
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_WRITER_POISONED" } });
  expect([writer.acknowledged, writer.submitted, writer.confirmed]).toEqual([4, 8, 0]);
  expect(await writer.abandon()).toBe(file);
  expect([file.ops, arena.stats.liveBuffers]).toEqual([['W(0,"abcd")'], 0]);
});

test("classify decides, and a change of length can fail for good", async () => {
  const classify = vi.fn<Classify>((_error, attempt) => (attempt < 3 ? "retry" : "fatal"));
  const { file, writer, write } = setUp({ classify });
  await write("a");
  file.plan(Promise.resolve(), errno("EPERM"), errno("EPERM"), errno("EPERM"));
  const cause = { code: "EPERM" };
  await expect(writer.shutdown("padThenTruncate")).rejects.toMatchObject({
    code: "ERR_WRITER_POISONED",
    cause,
  });
  expect(file.ops).toEqual(['W(0,"a\\0\\0\\0")', "L(1)", "L(1)", "L(1)"]);
  expect(classify.mock.calls.map(([, attempt]) => attempt)).toEqual([1, 2, 3]);
  expect(writer.state).toBe("poisoned");
  expect(await writer.abandon()).toBe(file);
});

// Aim: an abort ends a wait between attempts. Method: a clock that stands still.
test("cancelling ends the sleep, and those who wait", async () => {
  const aborting = new AbortController();
  const { file, clock, writer, write } = setUp({ signal: aborting.signal });
  clock.isStopped = true;
  file.plan(errno("ENOSPC"));
  await write("abcd");
  const waiting = rejection(write("efgh"));
  await settle();
  expect(clock.sleeps).toEqual([2000]);
  aborting.abort("enough");
  expect(await waiting).toMatchObject({
    name: "FlushCancelledError",
    code: "ERR_FLUSH_CANCELLED",
    cause: "enough",
  });
  await settle();
  expect([writer.state, file.ops]).toEqual(["cancelled", ['W(0,"abcd")']]);
  await writer[Symbol.asyncDispose]();
  expect(file.ops).toEqual(['W(0,"abcd")', "D"]);
});

test("the clock of the system is woken by an abort", async () => {
  const aborting = new AbortController();
  const sleeping = systemClock.sleep(2 ** 30, aborting.signal);
  aborting.abort();
  await expect(sleeping).rejects.toMatchObject({ code: "ABORT_ERR" });
  await systemClock.sleep(1, new AbortController().signal);
});

test("cancelling an idle writer refuses what comes", async () => {
  const aborting = new AbortController();
  const { file, writer, write } = setUp({ signal: aborting.signal });
  await write("abcde");
  await settle();
  aborting.abort("enough");
  await expect(write("f")).rejects.toMatchObject({ code: "ERR_FLUSH_CANCELLED" });
  await expect(writer.shutdown("padThenTruncate")).rejects.toMatchObject({
    code: "ERR_FLUSH_CANCELLED",
    cause: "enough",
  });
  expect(file.ops).toEqual(['W(0,"abcd")']);
  expect(await writer.abandon()).toBe(file);
  expect(file.ops).toEqual(['W(0,"abcd")']);
  await writer[Symbol.asyncDispose]();
  expect(file.ops, "abandoning has handed it back").toEqual(['W(0,"abcd")']);
  const late = setUp({ signal: AbortSignal.abort("before") });
  await expect(late.write("a")).rejects.toMatchObject({ code: "ERR_FLUSH_CANCELLED", cause: "before" });
  await late.writer[Symbol.asyncDispose]();
});

// Aim: memory in the kernel's hands stays there. Method: abort while a write is in flight, then dispose.
test("a write in flight is waited for, and still counts", async () => {
  const aborting = new AbortController();
  const { file, arena, writer, write } = setUp({ signal: aborting.signal });
  const held = latch();
  file.plan(held.done);
  await write("abcdef");
  await settle();
  aborting.abort();
  const disposing = writer[Symbol.asyncDispose]();
  expect(await isPending(disposing)).toBe(true);
  expect([writer.confirmed, arena.stats.liveBuffers]).toEqual([0, 2]);
  held.resolve();
  await disposing;
  expect([writer.confirmed, arena.stats.liveBuffers, file.ops]).toEqual([4, 0, ['W(0,"abcd")', "D"]]);
});

test("a write in flight that fails after a cancellation is told, and changes nothing else", async () => {
  const aborting = new AbortController();
  const onFatal = vi.fn();
  const { file, writer, write } = setUp({ signal: aborting.signal, onFatal });
  const held = latch();
  file.plan(held.done);
  await write("abcd");
  await settle();
  aborting.abort();
  held.reject(errno("EIO"));
  await settle();
  expect(onFatal).toHaveBeenCalledTimes(1);
  expect(writer.state).toBe("cancelled");
  await expect(write("e")).rejects.toMatchObject({ code: "ERR_FLUSH_CANCELLED" });
  await writer[Symbol.asyncDispose]();
});

test("a shutdown that is cancelled hands nothing back", async () => {
  const aborting = new AbortController();
  const { file, writer, write } = setUp({ signal: aborting.signal });
  const held = latch();
  await write("abcde");
  await settle();
  file.plan(Promise.resolve(), held.done);
  const ending = rejection(writer.shutdown("padThenTruncate"));
  await settle();
  expect(file.ops.at(-1)).toBe("L(5)");
  aborting.abort();
  held.resolve();
  expect(await ending).toMatchObject({ code: "ERR_FLUSH_CANCELLED" });
  expect(await writer.abandon()).toBe(file);
});

test("abandoning an open writer drops what is not on its way", async () => {
  const { file, probe, writer, write, arena } = setUp();
  const held = latch();
  file.plan(held.done);
  await write("abcd");
  const waiting = rejection(write("efghijkl"));
  await probe.reached("started", 0);
  await settle();
  const abandoning = writer.abandon();
  await expect(writer.abandon()).rejects.toMatchObject({ code: "ERR_WRITER_CLOSED" });
  expect(await isPending(abandoning)).toBe(true);
  held.resolve();
  expect(await abandoning).toBe(file);
  expect(await waiting).toMatchObject({ code: "ERR_WRITER_CLOSED" });
  expect([file.ops, writer.confirmed, arena.stats.liveBuffers]).toEqual([['W(0,"abcd")'], 4, 0]);
});

// Aim: the gate opens last. Method: shut down one, dispose of another with a held flush.
test("the guard of a gate is released with the file", async () => {
  const gate = new Gate();
  const first = setUp({ gate: gate.enter() });
  const second = setUp({ gate: gate.enter() });
  second.probe.hold("started");
  await second.write("abcdef");
  const closing = gate.close();
  await first.writer.shutdown("dropTail");
  expect(await isPending(closing)).toBe(true);
  expect(gate.holders).toBe(1);
  const disposing = second.writer[Symbol.asyncDispose]();
  await expect(second.write("g")).rejects.toMatchObject({ code: "ERR_WRITER_CLOSED" });
  expect(await isPending(disposing)).toBe(true);
  second.probe.release(0);
  await disposing;
  await closing;
  expect(second.file.ops).toEqual(['W(0,"abcd")', "D"]);
  await second.writer[Symbol.asyncDispose]();
});

test("bytes that change on their way poison the writer", async () => {
  const { file, writer, write } = setUp();
  const held = latch();
  file.plan(held.done);
  await write("abcd");
  using share = writer.lastSubmitted();
  await settle();
  share?.unsafeView().set([0], 0);
  held.resolve();
  await settle();
  await expect(write("e")).rejects.toMatchObject({
    code: "ERR_WRITER_POISONED",
    cause: { code: "ERR_BUFFER_TAMPERED" },
  });
  await writer[Symbol.asyncDispose]();
});

// Aim: however much fails, it is told once. Method: no memory for a write, and then the write in flight.
test("the first of several failures is told", async () => {
  const onFatal = vi.fn();
  const { arena, file, probe, writer, write } = setUp({ onFatal });
  probe.hold("started", ({ index }) => index === 0);
  await write("abcd");
  using share = writer.lastSubmitted();
  probe.release(0);
  await probe.reached("confirmed", 0);
  const held = latch();
  file.plan(held.done);
  await write("efgh");
  const chunk = arena.copyFrom(Buffer.from("i")).freeze();
  arena[Symbol.dispose]();
  const error = await rejection(writer.writeOwned(chunk));
  expect(error).toMatchObject({ code: "ERR_WRITER_POISONED", cause: { code: "ERR_ARENA_DISPOSED" } });
  held.reject(errno("EIO"));
  await settle();
  expect(onFatal.mock.calls).toEqual([[error]]);
  expect(share?.at(0)).toBe(0x61);
  await writer[Symbol.asyncDispose]();
});
