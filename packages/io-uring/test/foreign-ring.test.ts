/** Rings of other threads: reaped while they live, after they died, from eight threads at once. */
import { spawnSync } from "node:child_process";
import { on, once } from "node:events";
import { constants, existsSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import {
  addressOf,
  COMPLETION_WORDS,
  errno,
  ForeignRing,
  OPCODE,
  orphanedRings,
  Ring,
  UringError,
} from "@millrace/io-uring";
import { Files, prepareNop, reap, whyNoUring } from "./fixtures.js";

const THREADS = 8;

const hasTaskFiles = existsSync("/proc/self/syscall");

/** Whether some thread of this process is in io_uring_enter, system call 426 everywhere. */
function isAnyThreadInRing(): boolean {
  return readdirSync("/proc/self/task").some((id) =>
    readFileSync(`/proc/self/task/${id}/syscall`, "latin1").startsWith("426 "),
  );
}

interface Started extends AsyncDisposable {
  readonly worker: Worker;
  readonly id: number;
  /** The next number the thread tells. */
  readonly told: () => Promise<number>;
  /** Its end. Listened for from the start: it may come before anybody asks. */
  readonly exited: Promise<unknown>;
}

/** A thread with a ring; see ring-worker.mjs for what the modes do. */
async function start(mode: string, data: Record<string, unknown> = {}): Promise<Started> {
  const worker = new Worker(new URL("ring-worker.mjs", import.meta.url), { workerData: { mode, ...data } });
  const exited = once(worker, "exit");
  const messages = on(worker, "message");
  const told = async (): Promise<number> => ((await messages.next()).value as [number])[0];
  return {
    worker,
    id: await told(),
    told,
    exited,
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  };
}

describe.skipIf(whyNoUring !== undefined)(`a ring of another thread ${whyNoUring ?? ""}`, () => {
  test("is reaped and waited for here", async () => {
    await using started = await start("nops", { count: 3 });
    const foreign = ForeignRing.attach(started.id);
    expect(foreign.wait(3)).toBe(0);
    expect([foreign.ready, foreign.isOrphan, foreign.isClosed]).toEqual([3, false, false]);
    expect(reap(foreign, 2).map(({ user }) => user)).toEqual([0, 1]);
    expect(reap(foreign, 2).map(({ user }) => user)).toEqual([2]);
    expect(reap(foreign, 2)).toEqual([]);
    expect(foreign.closeOrphan()).toBe(errno("EBUSY"));
  });

  // Aim: another thread can note completions before it takes them, and knows what the kernel still has.
  test("can be peeked at and advanced from here", async () => {
    await using started = await start("nops", { count: 3 });
    const foreign = ForeignRing.attach(started.id);
    expect(foreign.wait(3)).toBe(0);
    const out = new Int32Array(4 * COMPLETION_WORDS);
    expect([foreign.inKernel, foreign.peek(out, 2), foreign.peek(out, 4), out[0]]).toEqual([0, 2, 3, 0]);
    expect([foreign.advance(4), foreign.advance(2), foreign.ready]).toEqual([errno("EINVAL"), 0, 1]);
    expect([foreign.peek(out, 4), out[0]]).toEqual([1, 2]);
    expect(() => foreign.advance(-1)).toThrow(RangeError);
  });

  // Aim: owner and foreign thread may take turns. Method: the same thread plays both roles on one small ring, so
  // that each must see the other's head at once, over many turns of the queue and through overflow.
  test("owner and others see each other's progress", () => {
    using ring = Ring.create({ entries: 2 });
    const foreign = ForeignRing.attach(ring.id);
    const seen: number[] = [];
    for (let user = 0; user < 60; user++) {
      prepareNop(ring, user);
      ring.submit();
      if (user % 7 === 3) seen.push(...reap(ring, 2).map((completion) => completion.user));
      if (user % 7 === 6) seen.push(...reap(foreign, 64).map((completion) => completion.user));
      expect(foreign.ready).toBe(ring.ready);
    }
    seen.push(...reap(foreign, 64).map((completion) => completion.user));
    expect(seen).toEqual(Array.from({ length: 60 }, (_, user) => user));
  });

  test("answers -EBADF once its owner has closed it, and cannot be found any more", () => {
    const ring = Ring.create({ entries: 2 });
    const foreign = ForeignRing.attach(ring.id);
    ring.close();
    const bad = errno("EBADF");
    expect(foreign.isClosed).toBe(true);
    expect([
      foreign.ready,
      foreign.wait(0),
      foreign.reap(new Int32Array(4), 1),
      foreign.closeOrphan(),
    ]).toEqual([bad, bad, bad, bad]);
    for (const id of [ring.id, -1, 1.5, 2 ** 31 - 1])
      expect(() => ForeignRing.attach(id)).toThrow(
        expect.objectContaining({ code: "ERR_URING_NOT_FOUND" }) as Error,
      );
    using next = Ring.create({ entries: 2 });
    expect(next.id).not.toBe(ring.id);
    expect(() => ForeignRing.attach(next.id).reap(new Int32Array(3), 1)).toThrow(RangeError);
    expect(() => ForeignRing.attach(next.id).wait(-1)).toThrow(RangeError);
  });

  // Aim: I/O in flight outlives its thread. Method: the thread is terminated while its read of a FIFO waits; then the
  // read is given something. The kernel may have cancelled it with the thread: both answers are right.
  test("can be drained and closed after its thread was terminated", async () => {
    using files = new Files();
    const { fd } = files.fifo();
    const memory = new SharedArrayBuffer(8);
    const { worker, id } = await start("read", { fd, memory });
    expect(orphanedRings()).not.toContain(id);
    await worker.terminate();
    expect(orphanedRings()).toContain(id);
    const foreign = ForeignRing.attach(id);
    expect(foreign.isOrphan).toBe(true);
    writeSync(fd, "x");
    expect(foreign.wait(1)).toBe(0);
    const [completion] = reap(foreign);
    expect(completion?.user).toBe(77);
    expect([1, errno("ECANCELED")]).toContain(completion?.result);
    expect(foreign.closeOrphan()).toBe(0);
    expect(foreign.isClosed).toBe(true);
    expect(orphanedRings()).not.toContain(id);
  });

  // Aim: each completion is delivered once, whichever thread takes it, while the kernel fills a queue of eight. Method:
  // the owner submits and reaps, a second thread reaps; both take the lock that every user of a ring has to have. Both
  // add up the user data they get, and what is delivered twice or overwritten shows in sum or count.
  test("every completion goes to one of two reaping threads, once", async () => {
    const TURNS = 20_000;
    using ring = Ring.create({ entries: 4 });
    const shared = new Int32Array(new SharedArrayBuffer(8)); // lock, completions taken
    const worker = new Worker(new URL("ring-worker.mjs", import.meta.url), {
      workerData: { mode: "share", id: ring.id, shared, turns: TURNS },
    });
    const told = once(worker, "message") as Promise<[number]>;
    await once(worker, "online");
    let sum = 0;
    for (let user = 0; user < TURNS;) {
      if (prepareNop(ring, user)) user += 1;
      else expect(ring.submit()).toBeGreaterThan(0);
      if (user % 5 !== 0 || Atomics.compareExchange(shared, 0, 0, 1) !== 0) continue;
      const taken = reap(ring, 3);
      Atomics.add(shared, 1, taken.length);
      Atomics.store(shared, 0, 0);
      for (const completion of taken) sum += completion.user;
    }
    expect(ring.submit()).toBeGreaterThanOrEqual(0);
    const [others] = await told;
    expect(sum + others).toBe((TURNS * (TURNS - 1)) / 2);
    expect([shared[1], ring.ready]).toEqual([TURNS, 0]);
    await worker.terminate();
  });

  // Aim: the last one out frees. Method: a thread blocks in wait on a ring of this thread, which /proc tells; the ring
  // is closed under it, and only then the read it waits for is given something. The wait has to end as any other.
  test.skipIf(!hasTaskFiles)("may be closed while another thread waits in it", async () => {
    using files = new Files();
    const { fd } = files.fifo();
    const target = new Uint8Array(new SharedArrayBuffer(8));
    const ring = Ring.create({ entries: 2 });
    ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 9, 0);
    ring.submit();
    const worker = new Worker(new URL("ring-worker.mjs", import.meta.url), {
      workerData: { mode: "wait", id: ring.id },
    });
    const told = once(worker, "message") as Promise<[number]>;
    while (!isAnyThreadInRing()) await setImmediate();
    ring.close();
    expect(() => ForeignRing.attach(ring.id)).toThrow(UringError);
    writeSync(fd, "x");
    expect(await told).toEqual([0]);
    expect(target[0]).toBe("x".charCodeAt(0));
    await worker.terminate();
  });

  test("eight threads load the addon, run rings and polls at once and end without closing them", async () => {
    using files = new Files();
    const { path } = files.file(new Uint8Array(1 << 20).fill(3));
    const fd = files.open(path, constants.O_RDONLY);
    const started = await Promise.all(Array.from({ length: THREADS }, async () => start("polled", { fd })));
    const results = await Promise.all(started.map(async ({ told }) => told()));
    expect(results).toEqual(Array.from({ length: THREADS }, () => 100 * 4096));
    await Promise.all(started.map(async ({ exited }) => exited));
    const ids = started.map(({ id }) => id);
    expect(new Set(ids).size).toBe(THREADS);
    expect(orphanedRings()).toEqual(expect.arrayContaining(ids));
    for (const id of ids) expect(ForeignRing.attach(id).closeOrphan()).toBe(0);
    for (const id of ids) expect(orphanedRings()).not.toContain(id);
  });

  // Aim: the process's rings outlive the last thread that has loaded the addon; Node would unload it. Method: a process
  // whose main thread loads it only after its worker, the only one with a ring, has ended.
  test("an orphan is there although nobody has the addon loaded any more", () => {
    const child = fileURLToPath(new URL("unload-child.mjs", import.meta.url));
    const done = spawnSync(process.execPath, [child], { encoding: "utf8" });
    expect(done).toMatchObject({ status: 0, stdout: "found and closed\n", stderr: "" });
  });

  test("a thread with a poll may be terminated in the middle of its work", async () => {
    using files = new Files();
    const { path } = files.file(new Uint8Array(1 << 20));
    const fd = files.open(path, constants.O_RDONLY);
    const started = await start("polled-forever", { fd });
    await started.worker.terminate();
    const foreign = ForeignRing.attach(started.id);
    expect(foreign.isOrphan).toBe(true);
    expect(foreign.closeOrphan()).toBe(0);
  });
});
