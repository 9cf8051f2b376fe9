/** Owned buffers: what goes to the file without a copy, and what does not. */
import type { IoBuffer } from "@millrace/aligned-buffers";
import { expect, test } from "vitest";
import { errno, setUp, settle } from "./fake-file.js";
import type { Setup } from "./fake-file.js";

const OPTIONS = { capacity: 4096, alignment: 512 } as const;

function bytesOf(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed) & 255);
}

function owned({ arena }: Setup, length: number, skip = 0): IoBuffer {
  using buffer = arena.copyFrom(new Uint8Array([...new Uint8Array(skip), ...bytesOf(length, 3)])).freeze();
  return buffer.slice(skip);
}

// Aim: the aligned middle is not copied. Method: behind an aligned partial buffer, with a rest.
test("an aligned buffer goes to the file as it is", async () => {
  const set = setUp(OPTIONS);
  const { file, writer, arena } = set;
  await writer.write(bytesOf(512, 1));
  expect(await writer.writeOwned(owned(set, 8292))).toBe(512);
  await settle();
  expect(file.ops).toEqual(["W(0,512 bytes)", "W(512,8192 bytes)"]);
  expect(writer.stats).toMatchObject({ bytesBypassed: 8192, bytesCopied: 612, flushes: 2 });
  expect([writer.acknowledged, writer.submitted]).toEqual([8804, 8704]);
  expect(arena.stats.liveBuffers).toBe(2);
  expect((await writer.shutdown("padThenTruncate")).finalLength).toBe(8804);
  expect(file.ops.slice(2)).toEqual(["W(8704,512 bytes)", "L(8804)"]);
  expect(Buffer.from(file.content).equals(Buffer.concat([bytesOf(512, 1), bytesOf(8292, 3)]))).toBe(true);
  expect(arena.stats.liveBuffers).toBe(0);
});

test("a place in memory that does not fit the file is copied", async () => {
  const set = setUp(OPTIONS);
  const { file, writer, arena } = set;
  await writer.write(bytesOf(100, 1));
  expect(await writer.writeOwned(owned(set, 8292))).toBe(100);
  await settle();
  expect(file.ops).toEqual(["W(0,4096 bytes)", "W(4096,4096 bytes)"]);
  expect(writer.stats).toMatchObject({ bytesBypassed: 0, bytesCopied: 8392 });
  expect(writer.acknowledged - writer.submitted).toBe(200);
  await writer[Symbol.asyncDispose]();
  expect(arena.stats.liveBuffers).toBe(0);
});

// Aim: congruent is enough. Method: 100 bytes in the file, and a buffer that begins 100 bytes into a block.
test("a head is copied up to the next aligned offset", async () => {
  const set = setUp(OPTIONS);
  const { file, writer } = set;
  await writer.write(bytesOf(100, 1));
  await writer.writeOwned(owned(set, 6000, 100));
  expect(writer.stats).toMatchObject({ bytesBypassed: 5120, bytesCopied: 100 + 412 + 468 });
  await writer.shutdown("padThenTruncate");
  expect(file.ops).toEqual(["W(0,512 bytes)", "W(512,5120 bytes)", "W(5632,512 bytes)", "L(6100)"]);
  expect(Buffer.from(file.content).equals(Buffer.concat([bytesOf(100, 1), bytesOf(6000, 3)]))).toBe(true);
});

test("short buffers are copied, unless bypassMin says otherwise", async () => {
  const set = setUp(OPTIONS);
  await set.writer.writeOwned(owned(set, 4095));
  expect(set.writer.stats.bytesBypassed).toBe(0);
  await set.writer[Symbol.asyncDispose]();
  const eager = setUp({ ...OPTIONS, bypassMin: 0 });
  await eager.writer.writeOwned(owned(eager, 511));
  await eager.writer.writeOwned(owned(eager, 0));
  expect(eager.writer.stats.bytesBypassed).toBe(0);
  await eager.writer.writeOwned(owned(eager, 513, 511));
  expect(eager.writer.stats).toMatchObject({ bytesBypassed: 512, bytesCopied: 512 });
  expect((await eager.writer.shutdown("dropTail")).finalLength).toBe(1024);
});

// Aim: a share that others hold stays as it is. Method: keep one across the write, and after it.
test("a bypassed buffer is never filled again", async () => {
  const set = setUp(OPTIONS);
  const chunk = owned(set, 8192);
  using share = chunk.clone();
  await set.writer.writeOwned(chunk);
  for (let index = 0; index < 10; index++) await set.writer.write(bytesOf(4096, index));
  expect(share.equals(bytesOf(8192, 3))).toBe(true);
  expect(set.writer.stats.replacedBuffers).toBe(0);
  await set.writer[Symbol.asyncDispose]();
  expect(set.arena.stats.liveBuffers).toBe(1);
});

test("an owned buffer is given back whatever happens", async () => {
  const set = setUp(OPTIONS);
  set.file.plan(errno("EIO"));
  await set.writer.writeOwned(owned(set, 8192));
  await settle();
  await expect(set.writer.writeOwned(owned(set, 8192))).rejects.toMatchObject({
    code: "ERR_WRITER_POISONED",
  });
  await set.writer[Symbol.asyncDispose]();
  expect(set.arena.stats.liveBuffers).toBe(0);
});

// Aim: what was given is given, and what is no buffer any more changes nothing. Method: use a handle before and after.
test("a handle ends when its buffer is given", async () => {
  const set = setUp(OPTIONS);
  const chunk = owned(set, 100);
  const writing = set.writer.writeOwned(chunk);
  expect(() => chunk.length).toThrow(expect.objectContaining({ code: "ERR_BUFFER_MOVED" }));
  await writing;
  await expect(set.writer.writeOwned(chunk)).rejects.toMatchObject({ code: "ERR_BUFFER_MOVED" });
  expect([set.writer.state, await set.writer.write(bytesOf(1, 1))]).toEqual(["open", 100]);
  await set.writer[Symbol.asyncDispose]();
  expect(set.arena.stats.liveBuffers).toBe(0);
});
