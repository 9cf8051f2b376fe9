/** Temporary files: they go, unless disarmed; their names do not come back; their guards are let go last. */
import { expect, test } from "vitest";
import { createTempFile } from "../src/index.js";
import { createWorld } from "./fake-engine.js";
import type { FakeEngine } from "./fake-engine.js";

function guardOf(engine: FakeEngine): { release(): void } {
  return { release: () => void engine.log.push("release") };
}

const calls = (engine: FakeEngine): string[] => engine.log.map((line) => line.split(" ")[0] ?? "");

// Aim: disposing removes the file and lets the guard go last. Method: dispose twice.
test("a temporary file is gone when it is disposed of", async () => {
  const { engine, environment } = createWorld();
  const temporary = await createTempFile("/d", "tmp-", environment, guardOf(engine));
  expect(temporary.file.path).toMatch(/^\/d\/tmp-/);
  expect([...engine.files.keys()]).toEqual([temporary.file.path]);
  await temporary[Symbol.asyncDispose]();
  await temporary[Symbol.asyncDispose]();
  expect([...engine.files.keys()]).toEqual([]);
  expect(calls(engine)).toEqual(["open", "close", "unlink", "release"]);
  await expect(temporary.file.size()).rejects.toMatchObject({ code: "ERR_FILE_CLOSED" });
});

// Aim: disarming keeps it. Method: disarm, then dispose; the file goes on to be usable.
test("a disarmed temporary file stays", async () => {
  const { engine, environment } = createWorld();
  const temporary = await createTempFile("/d", "tmp-", environment, guardOf(engine));
  const file = temporary.disarm();
  await temporary[Symbol.asyncDispose]();
  await file.setLength(3);
  await file.close();
  expect(engine.text(file.path)).toBe("\0\0\0");
  expect(calls(engine)).toEqual(["open", "release", "truncate", "close"]);
});

// Aim: a name that has gone already is fine, one that cannot be removed is told. Method: unlink it first; fail the unlink.
test("a missing name is no error, and one that stays is", async () => {
  const { engine, environment } = createWorld();
  const missing = await createTempFile("/d", "tmp-", environment);
  engine.files.clear();
  await missing[Symbol.asyncDispose]();
  const staying = await createTempFile("/d", "tmp-", environment, guardOf(engine));
  engine.plan("unlink", "EROFS");
  await expect(staying[Symbol.asyncDispose]()).rejects.toMatchObject({
    errnoCode: "EROFS",
    syscall: "unlink",
  });
  expect(engine.log.at(-1)).toBe("release");
  const unclosed = await createTempFile("/d", "tmp-", environment);
  engine.plan("close", "EIO");
  await expect(unclosed[Symbol.asyncDispose]()).rejects.toMatchObject({ syscall: "close" });
  expect(engine.files.has(unclosed.file.path)).toBe(false);
});

// Aim: names are never used again, and what others left is passed over. Method: make, remove and make; occupy the next name.
test("a name is never used twice", async () => {
  const { engine, environment } = createWorld();
  const names = new Set<string>();
  for (let round = 0; round < 5; round++) {
    await using temporary = await createTempFile("/d", "tmp-", environment);
    names.add(temporary.file.path);
  }
  expect(names.size).toBe(5);
  const last = [...names].at(-1) ?? "";
  const number = Number(/\d+$/.exec(last)?.[0]);
  const next = (step: number): string => last.replace(/\d+$/, String(number + step));
  engine.put(next(1), "of another process");
  await using temporary = await createTempFile("/d", "tmp-", environment);
  expect(temporary.file.path).toBe(next(2));
  expect(engine.text(next(1))).toBe("of another process");
});

// Aim: a file that cannot be made keeps no guard. Method: the engine refuses, for good and for every name.
test("a temporary file that cannot be made lets its guard go", async () => {
  const { engine, environment } = createWorld();
  engine.plan("open", "EACCES");
  const making = createTempFile("/d", "tmp-", environment, guardOf(engine));
  await expect(making).rejects.toMatchObject({ errnoCode: "EACCES" });
  expect(engine.log.at(-1)).toBe("release");
  engine.log.length = 0;
  engine.plan("open", ...Array.from({ length: 100 }, () => "EEXIST"));
  await expect(createTempFile("/d", "tmp-", environment)).rejects.toMatchObject({ errnoCode: "EEXIST" });
  expect(engine.log).toHaveLength(100);
});
