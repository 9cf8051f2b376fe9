/** Sources: async iterables and streams of Node. */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { expect, test } from "vitest";
import { createWritable } from "../src/index.js";
import { errno, isPending, setUp, settle } from "./fake-file.js";

async function* chunks(count: number, failAt = Infinity): AsyncGenerator<Uint8Array> {
  for (let index = 0; index < count; index++) {
    if (index === failAt) throw new Error("the source has failed");
    yield await Promise.resolve(Buffer.from("abc"));
  }
}

test("a source is consumed", async () => {
  const { file, writer } = setUp();
  expect(await writer.consume(chunks(10))).toBe(30);
  await writer.shutdown("padThenTruncate");
  expect(Buffer.from(file.content).toString()).toBe("abc".repeat(10));
});

test("a source that fails leaves the writer usable", async () => {
  const { writer, write } = setUp();
  await expect(writer.consume(chunks(10, 4))).rejects.toThrow("the source has failed");
  expect(await write("x")).toBe(12);
  const aborting = new AbortController();
  aborting.abort("enough");
  let isLeft = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield await Promise.resolve(Buffer.from("abc"));
    } finally {
      isLeft = true;
    }
  }
  await expect(writer.consume(endless(), { signal: aborting.signal })).rejects.toBe("enough");
  expect([isLeft, await write("y")]).toEqual([true, 13]);
  await writer[Symbol.asyncDispose]();
});

// Aim: a stream passes on chunks, back-pressure and failures, and owns nothing. Method: pipelines into it.
test("a stream writes into a writer and leaves it to its owner", async () => {
  const { file, probe, writer } = setUp();
  probe.hold("started", ({ index }) => index === 1);
  const piping = pipeline(Readable.from(["abc", "def", "ghijklmnop", "q"]), createWritable(writer));
  expect(await isPending(piping)).toBe(true);
  expect(writer.submitted).toBe(12);
  probe.release(1);
  await piping;
  expect([writer.state, writer.acknowledged]).toEqual(["open", 17]);
  await writer.shutdown("padThenTruncate");
  expect(Buffer.from(file.content).toString()).toBe("abcdefghijklmnopq");
});

test("a stream fails as its writer does, and a failed source leaves the writer", async () => {
  const { writer, write } = setUp();
  await expect(pipeline(Readable.from(chunks(10, 2)), createWritable(writer))).rejects.toThrow(
    "the source has failed",
  );
  expect(await write("x")).toBe(6);
  await writer[Symbol.asyncDispose]();
  const failing = setUp();
  failing.file.plan(errno("EIO"));
  const piping = pipeline(Readable.from(chunks(10)), createWritable(failing.writer));
  await expect(piping).rejects.toMatchObject({ code: "ERR_WRITER_POISONED" });
  await settle();
  await failing.writer[Symbol.asyncDispose]();
});
