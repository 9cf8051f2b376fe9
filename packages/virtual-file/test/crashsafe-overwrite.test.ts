/** Crash-safe replacement: its order, what each failure leaves behind, and its arguments. */
import { expect, test } from "vitest";
import { crashsafeOverwrite, FileError } from "../src/index.js";
import { createWorld } from "./fake-engine.js";
import type { Call } from "./fake-engine.js";

const FINAL = "/d/final";
const TEMPORARY = "/d/final.new";

// Aim: contents and order. Method: two replacements, with what a crash has left at the temporary path.
test("a file is replaced in the order that survives a crash", async () => {
  const { engine, environment } = createWorld();
  await crashsafeOverwrite(FINAL, TEMPORARY, Buffer.from("foo"), environment);
  expect([engine.text(FINAL), engine.text(TEMPORARY)]).toEqual(["foo", undefined]);
  engine.put(TEMPORARY, "left behind, and longer");
  engine.log.length = 0;
  await crashsafeOverwrite(FINAL, TEMPORARY, Buffer.from("bar"), environment);
  expect([engine.text(FINAL), engine.text(TEMPORARY)]).toEqual(["bar", undefined]);
  expect(engine.log).toEqual([
    `unlink ${TEMPORARY}`,
    `open ${TEMPORARY} O_WRONLY|O_CREAT|O_EXCL`,
    `write ${TEMPORARY} 0+3`,
    `fsync ${TEMPORARY}`,
    `close ${TEMPORARY}`,
    `rename ${TEMPORARY} ${FINAL}`,
    "open /d/ O_RDONLY|O_DIRECTORY",
    "fsync /d/",
    "close /d/",
  ]);
  expect(engine.openNow).toBe(0);
});

// Aim: no failure damages the old contents, and nothing stays open. Method: each call fails once.
test.each<[Call, number, string]>([
  ["unlink", 0, "old"],
  ["open", 0, "old"],
  ["write", 0, "old"],
  ["fsync", 0, "old"],
  ["close", 0, "old"],
  ["rename", 0, "old"],
  ["open", 1, "new"],
  ["fsync", 1, "new"],
  ["close", 1, "new"],
])("when %s number %d fails the contents are the %s ones", async (call, before, content) => {
  const { engine, arena, environment } = createWorld();
  engine.put(FINAL, "old");
  engine.plan(call, ...Array.from({ length: before }, () => Promise.resolve()), "EIO");
  const overwriting = crashsafeOverwrite(FINAL, TEMPORARY, Buffer.from("new"), environment);
  await expect(overwriting).rejects.toMatchObject({ code: "ERR_FILE_IO", errnoCode: "EIO" });
  expect(engine.text(FINAL)).toBe(content);
  expect([engine.openNow, arena.stats.liveBuffers]).toEqual([0, 0]);
});

// Aim: the first failure is the one that is told. Method: the write and the close after it fail.
test("a failed close does not hide a failed write", async () => {
  const { engine, environment } = createWorld();
  engine.plan("write", "ENOSPC");
  engine.plan("close", "EIO");
  const overwriting = crashsafeOverwrite(FINAL, TEMPORARY, Buffer.from("new"), environment);
  await expect(overwriting).rejects.toMatchObject({ errnoCode: "ENOSPC", path: TEMPORARY });
});

// Aim: a path without a directory is refused before anything happens. Method: a bare name.
test("a final path needs a directory part", async () => {
  const { engine, environment } = createWorld();
  const overwriting = crashsafeOverwrite("final", TEMPORARY, Buffer.from("new"), environment);
  await expect(overwriting).rejects.toMatchObject({ errnoCode: "EINVAL" });
  await expect(overwriting).rejects.toBeInstanceOf(FileError);
  expect(engine.log).toEqual([]);
});

// Aim: large and empty contents. Method: more than is copied at a time, with short writes, and nothing.
test("contents of any length are written", async () => {
  const { engine, environment } = createWorld();
  const large = Buffer.from(Array.from({ length: 600_000 }, (_, index) => index % 251));
  engine.plan("write", 1000);
  await crashsafeOverwrite(FINAL, TEMPORARY, large, environment);
  expect(Buffer.from(engine.text(FINAL) ?? "", "latin1").equals(large)).toBe(true);
  await crashsafeOverwrite(FINAL, TEMPORARY, new Uint8Array(0), environment);
  expect(engine.text(FINAL)).toBe("");
});
