/** What is written where: full buffers, tails, offsets, order; back-pressure; ends. */
import { expect, test } from "vitest";
import { BufferedWriter } from "../src/index.js";
import type { BufferedWriterOptions, ShutdownMode } from "../src/index.js";
import { isPending, setUp, settle } from "./fake-file.js";

const FULL = ['W(0,"abcd")', 'W(4,"efgh")', 'W(8,"ijkl")'];

// Aim: full buffers are written, and the tail as the mode says. Method: 13 bytes in five writes, in every mode.
test.each<[number, ShutdownMode, string[], number]>([
  [4, "dropTail", [], 12],
  [2, { zeroPadTo: 2 }, ['W(12,"m\\0")'], 14],
  [4, { zeroPadTo: 8 }, ['W(12,"m\\0\\0\\0")'], 16],
  [4, "padThenTruncate", ['W(12,"m\\0\\0\\0")', "L(13)"], 13],
  [2, "padThenTruncate", ['W(12,"m\\0")', "L(13)"], 13],
])("alignment %d: the tail after %o", async (alignment, mode, tail, finalLength) => {
  const { file, writer, write, arena } = setUp({ alignment });
  for (const text of ["abc", "", "d", "efg", "hijklm"]) await write(text);
  await settle();
  expect(file.ops).toEqual(FULL);
  expect(writer.acknowledged).toBe(13);
  expect(await writer.shutdown(mode)).toEqual({ finalLength, file });
  expect(file.ops).toEqual([...FULL, ...tail]);
  expect([writer.state, arena.stats.liveBuffers]).toEqual(["closed", 0]);
});

// Aim: where nothing is left over, nothing is padded. Method: two full buffers, and no write at all.
test.each<ShutdownMode>(["dropTail", "padThenTruncate", { zeroPadTo: 4 }])("no tail, %o", async (mode) => {
  const full = setUp();
  await full.write("abc");
  await full.write("defgh");
  expect((await full.writer.shutdown(mode)).finalLength).toBe(8);
  expect(full.file.ops).toEqual(['W(0,"abcd")', 'W(4,"efgh")']);
  const empty = setUp();
  expect((await empty.writer.shutdown(mode)).finalLength).toBe(0);
  expect(empty.file.ops).toEqual([]);
});

// Aim: padding is to the absolute length, over as many buffers as it takes. Method: a start behind a header, and large units.
test.each<[number, ShutdownMode, string[], number]>([
  [8, "padThenTruncate", ['W(8,"abcd")', 'W(12,"e\\0\\0\\0")', "L(13)"], 13],
  [8, { zeroPadTo: 16 }, ['W(8,"abcd")', 'W(12,"e\\0\\0\\0")'], 16],
  [4, { zeroPadTo: 16 }, ['W(4,"abcd")', 'W(8,"e\\0\\0\\0")', 'W(12,"\\0\\0\\0\\0")'], 16],
])("started at %d, %o", async (startOffset, mode, ops, finalLength) => {
  const { file, writer, write } = setUp({ startOffset });
  expect(await write("abcde")).toBe(startOffset);
  expect((await writer.shutdown(mode)).finalLength).toBe(finalLength);
  expect(file.ops).toEqual(ops);
});

test("with nothing pending, zeros still go to the next multiple", async () => {
  const { file, writer, write } = setUp({ startOffset: 4 });
  await write("abcd");
  expect((await writer.shutdown({ zeroPadTo: 16 })).finalLength).toBe(16);
  expect(file.ops).toEqual(['W(4,"abcd")', 'W(8,"\\0\\0\\0\\0")', 'W(12,"\\0\\0\\0\\0")']);
});

test("a tail is padded to the alignment, not to the capacity", async () => {
  const { file, writer, write } = setUp({ capacity: 65_536, alignment: 512 }, 256 * 1024);
  await write("x");
  expect((await writer.shutdown("padThenTruncate")).finalLength).toBe(1);
  expect(file.ops).toEqual(["W(0,512 bytes)", "L(1)"]);
  expect(Buffer.from(file.content).toString()).toBe("x");
});

// Aim: offsets. Method: a write over several buffers, then others; empty ones say where they would begin.
test("a write says where it begins", async () => {
  const { file, writer, write } = setUp();
  expect(await write("0123456789")).toBe(0);
  expect(await write("")).toBe(10);
  expect(await write("ab")).toBe(10);
  expect(writer.tryWrite(new Uint8Array(0))).toBe(12);
  await settle();
  expect(file.ops).toEqual(['W(0,"0123")', 'W(4,"4567")', 'W(8,"89ab")']);
  expect([writer.acknowledged, writer.submitted, writer.confirmed]).toEqual([12, 12, 12]);
  await writer[Symbol.asyncDispose]();
});

// Aim: calls that are not awaited keep their order. Method: three at once, then a shutdown at once.
test("calls take turns in their order", async () => {
  const { file, writer, write } = setUp();
  const offsets = [write("aa"), write("bb"), write("cc"), write("dddddddddd"), write("e")];
  const ending = writer.shutdown("dropTail");
  expect(await Promise.all(offsets)).toEqual([0, 2, 4, 6, 16]);
  expect((await ending).finalLength).toBe(16);
  expect(file.ops).toEqual(['W(0,"aabb")', 'W(4,"ccdd")', 'W(8,"dddd")', 'W(12,"dddd")']);
});

// Aim: back-pressure. Method: the first flush is held; one buffer more may be filled, then a write waits for the first.
test("a write waits until one segment is on its way", async () => {
  const { file, probe, writer, write } = setUp();
  probe.hold("started");
  expect(await write("abcd")).toBe(0);
  expect(await write("efg")).toBe(4);
  const waiting = write("h");
  expect(await isPending(waiting)).toBe(true);
  expect([writer.acknowledged, writer.submitted]).toEqual([7, 8]);
  expect(writer.tryWrite(Buffer.from("i")), "nobody overtakes").toBeUndefined();
  probe.release(0);
  expect(await waiting).toBe(7);
  expect(file.ops).toEqual(['W(0,"abcd")']);
  expect([writer.confirmed, writer.acknowledged]).toEqual([4, 8]);
  probe.release(1);
  await writer[Symbol.asyncDispose]();
  expect(file.ops).toEqual(['W(0,"abcd")', 'W(4,"efgh")', "D"]);
});

// Aim: a deeper queue. Method: three segments may be on their way; the fourth makes its write wait.
test("queueDepth says how many segments may be on their way", async () => {
  const { probe, writer, write, arena } = setUp({ queueDepth: 3 });
  expect(arena.stats.liveBuffers).toBe(4);
  probe.hold("started", ({ index }) => index === 0);
  for (let index = 0; index < 3; index++) await write("abcd");
  const waiting = write("abcd");
  expect(await isPending(waiting)).toBe(true);
  expect(writer.submitted).toBe(16);
  probe.release(0);
  await waiting;
  await writer[Symbol.asyncDispose]();
});

// Aim: the way without promises takes all or nothing. Method: into a buffer, up to its end, beyond, while a segment is held.
test("tryWrite writes what needs no wait", async () => {
  const { file, probe, writer } = setUp();
  const text = (content: string): Uint8Array => Buffer.from(content);
  probe.hold("started");
  expect([writer.tryWrite(text("ab")), writer.tryWrite(text("c"))]).toEqual([0, 2]);
  expect(writer.tryWrite(text("dd")), "it does not fit").toBeUndefined();
  expect(writer.tryWrite(text("d"))).toBe(3);
  expect(writer.submitted).toBe(4);
  expect([writer.tryWrite(text("efg")), writer.acknowledged]).toEqual([4, 7]);
  expect(writer.tryWrite(text("h")), "it would wait for the first segment").toBeUndefined();
  expect([writer.acknowledged, writer.submitted]).toEqual([7, 4]);
  probe.release(0);
  probe.release(1);
  await settle();
  expect(writer.tryWrite(text("h"))).toBe(7);
  expect((await writer.shutdown("dropTail")).finalLength).toBe(8);
  expect(file.ops).toEqual(['W(0,"abcd")', 'W(4,"efgh")']);
});

// Aim: steady writing allocates no buffers. Method: a thousand times the capacity; the arena's peak.
test("two buffers are enough", async () => {
  const { arena, writer } = setUp({ capacity: 512, alignment: 512 });
  const chunk = new Uint8Array(700).fill(7);
  for (let written = 0; written < 512_000; written += chunk.length) await writer.write(chunk);
  expect(arena.stats.peak).toBe(2 * 512);
  expect(writer.stats).toMatchObject({ replacedBuffers: 0, bytesBypassed: 0, retries: 0 });
  expect(writer.stats.bytesCopied).toBe(writer.acknowledged);
  await writer[Symbol.asyncDispose]();
  expect(arena.stats.liveBuffers).toBe(0);
});

// Aim: a call that has not had its turn can be given up, one that has cannot. Method: abort both behind a held flush.
test("an aborted write was never made, unless its turn had come", async () => {
  const { file, probe, writer, write } = setUp();
  probe.hold("started");
  await write("abcd");
  const [first, second] = [new AbortController(), new AbortController()];
  const running = writer.write(Buffer.from("efghi"), { signal: first.signal });
  const queued = writer.write(Buffer.from("XXXX"), { signal: second.signal });
  const last = write("j");
  await settle();
  first.abort("too late");
  second.abort("in time");
  await expect(queued).rejects.toBe("in time");
  await expect(writer.write(Buffer.from("YYYY"), { signal: second.signal })).rejects.toBe("in time");
  probe.release(0);
  probe.release(1);
  expect([await running, await last]).toEqual([4, 9]);
  probe.release(2);
  expect((await writer.shutdown("padThenTruncate")).finalLength).toBe(10);
  expect(Buffer.from(file.content).toString()).toBe("abcdefghij");
});

// Aim: shutting down waits for what is on its way. Method: held, then released; nothing happens afterwards.
test("a shutdown waits for segments on their way", async () => {
  const { file, probe, writer, write } = setUp();
  probe.hold("started");
  await write("abcdef");
  const ending = writer.shutdown("dropTail");
  expect(writer.state).toBe("closing");
  expect(await isPending(ending)).toBe(true);
  expect(file.ops).toEqual([]);
  probe.release(0);
  expect(await ending).toEqual({ finalLength: 4, file });
  expect([writer.acknowledged, writer.state]).toEqual([4, "closed"]);
  await writer[Symbol.asyncDispose]();
  expect(file.ops, "the file is not the writer's any more").toEqual(['W(0,"abcd")']);
});

// Aim: the end is the end. Method: every call afterwards, and during.
test("calls after the end are refused", async () => {
  const { arena, writer, write } = setUp();
  await write("ab");
  const ending = writer.shutdown("padThenTruncate");
  const closed = { code: "ERR_WRITER_CLOSED", name: "WriterClosedError" };
  await expect(write("c")).rejects.toMatchObject(closed);
  await expect(writer.shutdown("dropTail")).rejects.toMatchObject(closed);
  await ending;
  expect(() => writer.tryWrite(new Uint8Array(1))).toThrow(expect.objectContaining(closed));
  await expect(write("c")).rejects.toMatchObject(closed);
  await expect(writer.writeOwned(arena.copyFrom(Buffer.from("c")).freeze())).rejects.toMatchObject(closed);
  await expect(writer.shutdown("dropTail")).rejects.toMatchObject(closed);
  await expect(writer.abandon()).rejects.toMatchObject(closed);
  expect(arena.stats.liveBuffers).toBe(0);
});

// Aim: a mode that does not fit changes nothing. Method: each, then a good one.
test.each([0, -4, 3, 6, 4.5, Number.NaN])("zeroPadTo %d is refused", async (zeroPadTo) => {
  const { writer, write } = setUp();
  await write("ab");
  await expect(writer.shutdown({ zeroPadTo })).rejects.toThrow(RangeError);
  await expect(writer.shutdown("other" as never)).rejects.toThrow(TypeError);
  expect([writer.state, await write("c")]).toEqual(["open", 2]);
  expect((await writer.shutdown("padThenTruncate")).finalLength).toBe(3);
});

// Aim: numbers that cannot be served are refused, with nothing taken. Method: around the legal ranges; no room.
test.each<Partial<BufferedWriterOptions>>([
  { alignment: 3 },
  { alignment: 0 },
  { capacity: 6 },
  { capacity: 0 },
  { startOffset: 2 },
  { startOffset: -4 },
  { queueDepth: 0 },
  { queueDepth: 1.5 },
  { queueDepth: 2000 },
  { bypassMin: -1 },
])("%o is refused", (options) => {
  expect(() => setUp(options)).toThrow(RangeError);
});

test("a writer without room for its buffers takes none", () => {
  const { arena, file, writer } = setUp({ capacity: 1024, alignment: 512 }, 3 * 1024);
  const make = (): unknown => new BufferedWriter(file, arena, { capacity: 1024, alignment: 512 });
  expect(make).toThrow(expect.objectContaining({ code: "ERR_ARENA_EXHAUSTED" }));
  expect(arena.stats.liveBuffers).toBe(2);
  expect(writer.state).toBe("open");
});
