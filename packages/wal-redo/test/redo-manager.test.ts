/**
 * The redo manager with every engine: answers, order, deaths, timeouts, the bounds of its queues, and its end.
 *
 * Processes that misbehave are fake-child.mjs; where nothing misbehaves, it is the program itself. Its code is the built one.
 */
import { spawn } from "node:child_process";
import { channel } from "node:diagnostics_channel";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { temporaryDirectory } from "@millrace/postgres-process";
import { afterEach, describe, expect, test } from "vitest";
import { RedoError, RedoManager } from "../src/index.js";
import type { RedoEngine, RedoManagerOptions, RedoProcessEvent, StderrLine } from "../src/index.js";
import { expectedPage, impossibleRequest, requestFor } from "./redo-requests.js";

const FAKE = fileURLToPath(new URL("./fake-child.mjs", import.meta.url));
const MAIN = fileURLToPath(new URL("../dist/worker-main.js", import.meta.url));

function fake(mode: string): RedoEngine {
  return { command: [process.execPath, FAKE, mode], dialect: "x1" };
}

const NEON: RedoEngine = {
  command: [process.execPath, MAIN, JSON.stringify({ dialect: "neon", pgMajor: 15, hintLsn: false })],
  dialect: "neon",
};

const engines: readonly (readonly [string, RedoEngine])[] = [
  ["thread", "thread"],
  ["process", "process"],
  ["neon", NEON],
];

const open: RedoManager[] = [];

async function manager(options: RedoManagerOptions): Promise<RedoManager> {
  const opened = await RedoManager.open(options);
  open.push(opened);
  return opened;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
});

function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error: unknown) => (error instanceof RedoError ? error.code : String(error)),
  );
}

async function expectRight(redo: RedoManager, block: number, count = 3): Promise<void> {
  const request = requestFor(block, count);
  expect(Buffer.compare(await redo.redo(request), await expectedPage(request))).toBe(0);
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${String(pid)}`);
}

async function until(holds: () => boolean, ms = 10_000): Promise<void> {
  const end = Date.now() + ms;
  while (!holds()) {
    if (Date.now() > end) throw new Error("it never came true");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe.each(engines)("the engine %s", (name, engine) => {
  // Aim: a manager is ready when it is open. Method: a worker alive before the first request, and none started for it.
  test("has a worker before the first request, and keeps it", async () => {
    const redo = await manager({ engine });
    expect(redo.status()).toMatchObject({ started: 1, workers: [{ state: "ready" }] });
    const pid = redo.status().workers[0]?.pid;
    for (let block = 0; block < 50; block += 1) await expectRight(redo, block);
    expect(redo.status()).toMatchObject({ started: 1, answered: 50, records: 150, workers: [{ pid }] });
    expect(isRunning(name === "thread" ? process.pid : (pid ?? 0))).toBe(true);
  });

  // Aim: the queue is bounded, and whoever is beyond the bound waits. Method: a thousand requests at once.
  test("answers a thousand requests at once within its bounds", async () => {
    const redo = await manager({ engine, queueDepthMax: 20 });
    const answers = Array.from({ length: 1000 }, (_, block) => expectRight(redo, block, 1));
    await Promise.resolve();
    const { queued, waiting, workers } = redo.status();
    expect(queued).toBeLessThanOrEqual(20);
    expect(workers[0]?.inFlight).toBeLessThanOrEqual(16);
    expect(waiting).toBeGreaterThanOrEqual(1000 - 20 - 16);
    await Promise.all(answers);
    expect(redo.status()).toMatchObject({ queued: 0, waiting: 0, answered: 1000 });
  });

  // Aim: what is only a matter of the record is not tried again, and kills nobody where an error is an answer. Method: a record
  // that fits no page among good ones.
  test("tells a record that does not fit from a worker that failed", async () => {
    const redo = await manager({ engine, retries: { read: 0 } });
    const pid = redo.status().workers[0]?.pid;
    const code = await codeOf(redo.redo(impossibleRequest(7)));
    expect(code).toBe(name === "neon" ? "ERR_REDO_PROCESS_DIED" : "ERR_REDO_INVARIANT");
    await expectRight(redo, 8);
    if (name !== "neon") expect(redo.status()).toMatchObject({ started: 1, retried: 0, workers: [{ pid }] });
  });

  test("stops one request without disturbing the others", async () => {
    const redo = await manager({ engine });
    const controller = new AbortController();
    const answers = Array.from({ length: 50 }, (_, block) =>
      block === 20 ? codeOf(redo.redo(requestFor(block), controller.signal)) : expectRight(redo, block),
    );
    controller.abort(new Error("not wanted"));
    expect((await Promise.all(answers))[20]).toBe("Error: not wanted");
    for (let block = 60; block < 70; block += 1) await expectRight(redo, block);
    expect(redo.status()).toMatchObject({ queued: 0, waiting: 0, workers: [{ inFlight: 0 }] });
  });

  // Aim: nothing is left when it is closed. Method: twenty requests under way; every promise settles, no process is left.
  test("ends with requests under way", async () => {
    const redo = await manager({ engine, workerCount: 2 });
    const codes = Array.from({ length: 20 }, (_, block) => codeOf(redo.redo(requestFor(block, 150))));
    await new Promise((resolve) => setImmediate(resolve));
    const pids = redo.status().workers.map(({ pid }) => pid);
    const [first, second] = await Promise.all([redo.close(), redo.close()]);
    expect([first, second, await redo.close()]).toEqual([true, false, false]);
    expect([...new Set(await Promise.all(codes))].filter((code) => code !== "none")).toEqual([
      "ERR_REDO_CLOSED",
    ]);
    if (name !== "thread") for (const pid of pids) expect(pid === undefined || !isRunning(pid)).toBe(true);
    expect(await codeOf(redo.redo(requestFor(1)))).toBe("ERR_REDO_CLOSED");
    expect(await codeOf(redo.ping())).toBe("ERR_REDO_CLOSED");
    const { started, killed } = redo.status();
    expect(Object.values(killed).reduce((sum, count) => sum + count, 0)).toBe(started);
  });

  test("is put to rest when idle, and starts again", async () => {
    const redo = await manager({ engine });
    const busy = redo.redo(requestFor(1, 150));
    expect(redo.tryQuiesce(0)).toBe(false);
    await busy;
    expect(redo.tryQuiesce(60_000)).toBe(false);
    expect(redo.tryQuiesce(0)).toBe(true);
    await until(() => redo.status().killed.quiesce === 1);
    expect(redo.status().workers).toMatchObject([{ state: "absent" }]);
    await expectRight(redo, 2);
    expect(redo.status().started).toBe(2);
  });

  test("survives thousands of mixed requests without a leak", async () => {
    const redo = await manager({ engine });
    const listeners = process.listenerCount("exit");
    for (let turn = 0; turn < 40; turn += 1) {
      const answers = Array.from({ length: 50 }, (_, index) =>
        index === 9 && name !== "neon"
          ? codeOf(redo.redo(impossibleRequest(index)))
          : expectRight(redo, index, 1 + (index % 4)),
      );
      await Promise.all(answers);
    }
    await redo.ping();
    expect(process.listenerCount("exit")).toBe(listeners);
    expect(redo.status()).toMatchObject({ queued: 0, waiting: 0, started: 1, workers: [{ inFlight: 0 }] });
  });
});

// Aim: pages and their histories do not mix when there are several workers. Method: four of them, the same pages over and over.
test("several workers give what one gives, and none shares a page", async () => {
  const redo = await manager({ engine: "thread", workerCount: 4 });
  const answers = Array.from({ length: 400 }, (_, index) => expectRight(redo, index % 10, 1 + (index % 7)));
  await Promise.all(answers);
  expect(redo.status().started).toBeLessThanOrEqual(4);
});

// Aim: changes without a record stand at their place between records. Method: a map's bits cleared before and after one.
test("changes that no record names are made in their order", async () => {
  const redo = await manager({ engine: "thread" });
  const base = requestFor(0).base?.bytes.fill(0xff, 24) ?? new Uint8Array(0);
  const effect = { kind: "clear", spc: 1663, db: 5, rel: 9, mapBlock: 0, heapBlock: 5, bits: 3 } as const;
  const lsn = requestFor(0).lsn;
  const page = await redo.redo(
    requestFor(0, 1, {
      base: { lsn, bytes: base },
      modifications: [{ kind: "effect", effect, endLsn: lsn }],
    }),
  );
  expect(page[25]).toBe(0b1111_0011);
  expect(base[25]).toBe(0xff);
});

// Aim: answers find their askers in any order. Method: a child that answers eight at a time, backwards.
test("answers out of order reach those who asked", async () => {
  const redo = await manager({ engine: fake("reverse") });
  const pages = await Promise.all(Array.from({ length: 32 }, (_, block) => redo.redo(requestFor(block))));
  expect(pages.map((page) => Buffer.from(page).readUInt32BE(100))).toEqual(pages.map((_, block) => block));
});

describe("a process that dies", () => {
  test("under way is replaced, and the request answered", async () => {
    const redo = await manager({ engine: "process" });
    const pid = redo.status().workers[0]?.pid ?? 0;
    const answer = expectRight(redo, 1, 150);
    process.kill(pid, "SIGKILL");
    await answer;
    await until(() => redo.status().killed.poison === 1);
    expect(redo.status().started).toBe(2);
  });

  test("while idle is noticed", async () => {
    const redo = await manager({ engine: "process" });
    process.kill(redo.status().workers[0]?.pid ?? 0, "SIGKILL");
    await until(() => redo.status().killed.poison === 1);
    await expectRight(redo, 1);
    expect(redo.status()).toMatchObject({ started: 2, retried: 0 });
  });

  test("again and again fails its request, and keeps the page away for a while", async () => {
    let now = 0;
    const clock = { monotonicMs: () => now, setTimer: () => ({ cancel: () => undefined }) };
    const redo = await manager({ engine: NEON, clock });
    const request = impossibleRequest(3);
    expect(await codeOf(redo.redo(request))).toBe("ERR_REDO_PROCESS_DIED");
    await until(() => redo.status().killed.poison === 3);
    expect(redo.status().retried).toBe(2);
    expect(await codeOf(redo.redo(request))).toBe("ERR_REDO_QUARANTINED");
    await expectRight(redo, 4);
    now = 30_001;
    expect(await codeOf(redo.redo({ ...request, purpose: "gc-compaction" }))).toBe("ERR_REDO_PROCESS_DIED");
    await until(() => redo.status().killed.poison === 4);
    expect(redo.status().retried).toBe(2);
  });

  test("fails all that it has, and the next one gets what comes after", async () => {
    const redo = await manager({ engine: fake("dies"), retries: { read: 20 } });
    const pages = await Promise.all(Array.from({ length: 12 }, (_, block) => redo.redo(requestFor(block))));
    expect(pages.map((page) => Buffer.from(page).readUInt32BE(100))).toEqual(pages.map((_, block) => block));
    expect(redo.status().started).toBeGreaterThan(3);
  });
});

test("a process that stands still is ended and replaced", async () => {
  const redo = await manager({ engine: "process", requestTimeoutMs: 500, retries: { read: 0 } });
  const pid = redo.status().workers[0]?.pid ?? 0;
  process.kill(pid, "SIGSTOP");
  expect(await codeOf(redo.redo(requestFor(1)))).toBe("ERR_REDO_TIMEOUT");
  await until(() => !isRunning(pid));
  await expectRight(redo, 2);
  process.kill(redo.status().workers[0]?.pid ?? 0, "SIGSTOP");
  expect(await codeOf(redo.ping(300))).toBe("ERR_REDO_TIMEOUT");
});

// Aim: a byte too many gives nobody a wrong page. Method: a child that writes one before its fifth answer.
test("a reply that is none fails all, and none gets a wrong page", async () => {
  const redo = await manager({ engine: fake("garbage"), retries: { read: 0 } });
  const answers = await Promise.allSettled(
    Array.from({ length: 16 }, (_, block) => redo.redo(requestFor(block))),
  );
  let failed = 0;
  for (const [block, answer] of answers.entries()) {
    if (answer.status === "fulfilled") expect(Buffer.from(answer.value).readUInt32BE(100)).toBe(block);
    else failed += 1;
  }
  expect(failed).toBeGreaterThanOrEqual(12);
  await until(() => redo.status().killed.poison > 0);
});

describe("stderr of a process", () => {
  async function collect(
    engine: RedoEngine,
    use: (redo: RedoManager) => Promise<void>,
  ): Promise<StderrLine[]> {
    const lines: StderrLine[] = [];
    const listener = (message: unknown): void => void lines.push(message as StderrLine);
    channel("wal-redo:stderr").subscribe(listener);
    try {
      await use(await manager({ engine }));
    } finally {
      channel("wal-redo:stderr").unsubscribe(listener);
    }
    return lines;
  }

  test("is passed on line by line", async () => {
    let pid: number | undefined;
    const lines = await collect(fake("lines"), async (redo) => {
      pid = redo.status().workers[0]?.pid;
      await until(() => redo.status().stderr.lines === 3);
    });
    expect(lines).toEqual([
      { pid, level: "debug", line: "LOG:  first" },
      { pid, level: "error", line: "second" },
      { pid, level: "error", line: "WARNING:  third" },
    ]);
  });

  // Aim: no pipe waits for another. Method: a child that blocks whenever its stderr is full, 64 MiB of it.
  test("that never ends does not keep answers back, and is cut", async () => {
    const lines = await collect(fake("flood"), async (redo) => {
      for (let block = 0; block < 200; block += 1) await redo.redo(requestFor(block));
      await until(() => redo.status().stderr.lines + redo.status().stderr.dropped > 6000, 30_000);
      expect(redo.status().stderr.dropped).toBeGreaterThan(0);
    });
    expect(lines.length).toBeLessThan(6000);
    expect(lines.every(({ line }) => line.length <= 8193)).toBe(true);
  }, 60_000);
});

// Aim: large requests to a slow reader stay within the bound. Method: a megabyte each, 64 at once.
test("large requests go one at a time to a child that reads slowly", async () => {
  const redo = await manager({ engine: fake("slow") });
  const [insertion] = requestFor(1, 1).modifications;
  if (insertion?.kind !== "record") throw new Error("no record");
  const modifications = Array.from({ length: 9000 }, () => insertion);
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, redo.status().workers[0]?.inFlight ?? 0);
  }, 1);
  await Promise.all(
    Array.from({ length: 64 }, (_, block) => redo.redo(requestFor(block, 1, { modifications }))),
  );
  clearInterval(watch);
  expect(most).toBe(1);
}, 60_000);

test("what cannot be started is told to everybody, and may be tried again", async () => {
  const missing: RedoEngine = { command: ["/nowhere/redo"], dialect: "x1" };
  expect(await codeOf(RedoManager.open({ engine: missing }))).toBe("ERR_REDO_LAUNCH");
  expect(await codeOf(RedoManager.open({ engine: { command: ["/bin/false"], dialect: "x1" } }))).toBe(
    "ERR_REDO_LAUNCH",
  );
  const silent = { command: ["/bin/sleep", "100"], dialect: "x1" } as const;
  expect(await codeOf(RedoManager.open({ engine: silent, launchTimeoutMs: 200 }))).toBe("ERR_REDO_LAUNCH");
});

// Aim: who comes while a worker is started shares its fate, once. Method: a program that is taken away while nothing runs, and
// put back.
test("a start that fails is one start for all who wait for it", async () => {
  await using directory = await temporaryDirectory();
  const program = join(directory.path, "child.mjs");
  copyFileSync(FAKE, program);
  const redo = await manager({ engine: { command: [process.execPath, program], dialect: "x1" } });
  expect(redo.tryQuiesce(0)).toBe(true);
  await until(() => redo.status().killed.quiesce === 1);
  rmSync(program);
  const codes = await Promise.all(
    Array.from({ length: 12 }, (_, block) => codeOf(redo.redo(requestFor(block)))),
  );
  expect([...new Set(codes)]).toEqual(["ERR_REDO_LAUNCH"]);
  await until(() => redo.status().killed.startup === 1);
  expect(redo.status()).toMatchObject({ started: 2, queued: 0 });
  copyFileSync(FAKE, program);
  expect(Buffer.from(await redo.redo(requestFor(7))).readUInt32BE(100)).toBe(7);
});

test.each([
  { workerCount: 0 },
  { workerCount: 65 },
  { workerCount: 1.5 },
  { queueDepthMax: 0 },
  { requestTimeoutMs: NaN },
])("a manager with %o is refused", async (options) => {
  await expect(RedoManager.open(options)).rejects.toThrow(RangeError);
});

test("a request that asks for nothing is refused", async () => {
  const redo = await manager({});
  await expect(redo.redo(requestFor(1, 0))).rejects.toThrow(RangeError);
  const bytes = new Uint8Array(100);
  await expect(redo.redo(requestFor(1, 1, { base: { lsn: requestFor(1).lsn, bytes } }))).rejects.toThrow(
    RangeError,
  );
});

test("workers that start and end are told on the channel", async () => {
  const events: RedoProcessEvent[] = [];
  const listener = (message: unknown): void => void events.push(message as RedoProcessEvent);
  channel("wal-redo:process").subscribe(listener);
  const redo = await manager({ engine: "process" });
  const pid = redo.status().workers[0]?.pid;
  await redo.close();
  channel("wal-redo:process").unsubscribe(listener);
  expect(events).toEqual([
    { event: "started", pid, cause: undefined },
    { event: "killed", pid, cause: "shutdown" },
  ]);
});

// Aim: no process outlives who started it. Method: a parent killed without a chance to clean up.
test("a process is gone when its parent is killed", async () => {
  const program = `
    import { RedoManager } from ${JSON.stringify(join(MAIN, "..", "index.js"))};
    const redo = await RedoManager.open({ engine: "process" });
    console.log(redo.status().workers[0].pid);
    setInterval(() => {}, 1000);
  `;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const pid = await new Promise<number>((resolve) => {
    parent.stdout.once("data", (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  expect(isRunning(pid)).toBe(true);
  parent.kill("SIGKILL");
  await until(() => !isRunning(pid), 6000);
});
