/** The lock in shared memory: one at a time, also with a thread that must not sleep, and what becomes of a dead holder's. */
import { on, once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { ModuleKind, ScriptTarget, transpileModule } from "typescript";
import { afterAll, describe, expect, test } from "vitest";

import { breakLock, isLockedBy, lock, spinLock, tryLock, unlock } from "../src/mutex.js";

const [AT, COUNT, GATE] = [0, 8, 9];
/** Nobody has it, nobody sleeps. */
const FREE = [0, false];
const directory = mkdtempSync(join(tmpdir(), "millrace-mutex-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The lock's own code for another thread: it is inside of the package, so the threads get it without its types. */
function compile(): string {
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 };
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  for (const name of ["mutex", "layout", "errors"]) {
    const source = readFileSync(new URL(`../src/${name}.ts`, import.meta.url), "utf8");
    writeFileSync(join(directory, `${name}.js`), transpileModule(source, { compilerOptions }).outputText);
  }
  return pathToFileURL(join(directory, "mutex.js")).href;
}

const module = compile();

interface Thread {
  /** The next thing it tells. */
  readonly told: () => Promise<string>;
  readonly ended: Promise<unknown>;
}

function start(words: Int32Array, mode: string, holder: number, rounds = 0): Thread {
  const worker = new Worker(new URL("mutex-thread.mjs", import.meta.url), {
    workerData: { module, words, mode, holder, rounds },
    execArgv: [],
  });
  const messages = on(worker, "message");
  return {
    told: async () => ((await messages.next()).value as [string])[0],
    ended: once(worker, "exit"),
  };
}

function createWords(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(64));
}

/** Who has the lock, and whether somebody sleeps for it. */
function stateOf(words: Int32Array): [holder: number, sleepers: boolean] {
  const word = Atomics.load(words, AT);
  return [word >> 1, (word & 1) !== 0];
}

describe("the lock", () => {
  test("is taken, refused while it is held, and given back", () => {
    const words = createWords();
    expect(tryLock(words, AT, 7)).toBe(true);
    expect(stateOf(words)).toEqual([7, false]);
    expect([isLockedBy(words, AT, 7), isLockedBy(words, AT, 8)]).toEqual([true, false]);
    expect(tryLock(words, AT, 8)).toBe(false);
    expect(stateOf(words), "a refusal changes nothing").toEqual([7, false]);
    unlock(words, AT);
    expect(stateOf(words)).toEqual(FREE);
    lock(words, AT, 9);
    expect(stateOf(words)).toEqual([9, false]);
    unlock(words, AT);
    expect(spinLock(words, AT, 10)).toBe(true);
    expect(stateOf(words)).toEqual([10, false]);
  });

  test("is given up by a thread that must not sleep if it stays taken", () => {
    const words = createWords();
    lock(words, AT, 1);
    expect(spinLock(words, AT, 2)).toBe(false);
    expect(stateOf(words)).toEqual([1, false]);
  });

  // Aim: one at a time. Method: two threads that sleep and this one, which spins first, add to a plain word under it.
  test("lets one thread in at a time", async () => {
    const words = createWords();
    const rounds = 20_000;
    const threads = [1, 2].map((holder) => start(words, "count", holder, rounds));
    for (const { told } of threads) expect(await told()).toBe("counting");
    for (let round = 0; round < rounds; round++) {
      if (round % 2 === 0 || !spinLock(words, AT, 3)) lock(words, AT, 3);
      words[COUNT] = (words[COUNT] as number) + 1;
      unlock(words, AT);
    }
    for (const { ended } of threads) await ended;
    expect(words[COUNT]).toBe(3 * rounds);
    expect(stateOf(words)).toEqual(FREE);
  });

  // Aim: a wake-up is not lost. Method: two threads want the lock while a third has it; it is given back.
  test("is passed on to all who sleep for it", async () => {
    const words = createWords();
    const holding = start(words, "hold", 1);
    expect(await holding.told()).toBe("held");
    const takers = [2, 3].map((holder) => start(words, "take", holder));
    for (const { told } of takers) expect(await told()).toBe("taking");
    Atomics.store(words, GATE, 1);
    Atomics.notify(words, GATE);
    for (const { told } of takers) expect(await told()).toBe("taken after 1");
    for (const { ended } of [holding, ...takers]) await ended;
    expect(stateOf(words)).toEqual(FREE);
  });
});

describe("the lock of a thread that is gone", () => {
  test("is broken if it had it, and left alone if somebody else has it", () => {
    const words = createWords();
    lock(words, AT, 5);
    expect(breakLock(words, AT, 6)).toBe(false);
    expect(stateOf(words)).toEqual([5, false]);
    expect(breakLock(words, AT, 5)).toBe(true);
    expect(stateOf(words)).toEqual(FREE);
    expect(breakLock(words, AT, 5)).toBe(false);
  });

  test("is passed on to a thread that sleeps for it", async () => {
    const words = createWords();
    lock(words, AT, 5);
    const taker = start(words, "take", 2);
    expect(await taker.told()).toBe("taking");
    expect(breakLock(words, AT, 5)).toBe(true);
    expect(await taker.told()).toBe("taken after 0");
    await taker.ended;
  });
});
