/**
 * Threads that die where it hurts: each test stops one at a named point, ends it there, and looks at what is left.
 *
 * What has to hold after a recovery, everywhere: nobody waits for ever, no lock is held, no ring is open, the slot and
 * its handles can be used again.
 */
import { closeSync, openSync } from "node:fs";
import { constants } from "node:os";

import { orphanedRings } from "@millrace/io-uring";
import { afterEach, describe, expect, test } from "vitest";

import type { HoldPoint } from "../src/faults.js";
import { FILE_TARGET } from "../src/file-registry.js";
import type { FileLease } from "../src/file-table.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import { BACKEND, HANDLE, LOCK, QUEUE, WORKER, WORKER_QUEUE_SLOTS } from "../src/layout.js";
import type { MethodName } from "../src/method.js";
import { createIoReturn, packResult } from "../src/result.js";
import type { WaitRef } from "../src/wait-ref.js";
import { WORKER_ID_BASE } from "../src/worker-loop.js";
import { BackendThread } from "./driven-thread.js";
import { BLOCK_BYTES, BlockFile, METHODS, World } from "./fixture.js";

const hasUring = METHODS.includes("io_uring");

/** No lock of a system is held. */
function expectNoLock(world: World): void {
  const { words, layout } = world.backend.table;
  for (let backend = 0; backend < layout.backends; backend++) {
    const at = layout.backendsAt + backend * BACKEND.words + BACKEND.ringLock;
    expect(words[at + LOCK.state], `ring lock ${backend}`).toBe(0);
  }
  const holder = (words[layout.queueAt + QUEUE.lock + LOCK.state] as number) >> 1;
  // A worker that was woken to look may have it just now.
  expect(holder === 0 || holder >= WORKER_ID_BASE, `queue lock held by ${holder}`).toBe(true);
}

/** A backend's slot is free, and all its handles idle and blank. */
function expectFreeSlot(world: World, backend: number): void {
  const { table } = world.backend;
  const { words, layout } = table;
  expect(words[layout.backendsAt + backend * BACKEND.words + BACKEND.inUse]).toBe(0);
  expect(words[layout.backendsAt + backend * BACKEND.words + BACKEND.ring]).toBe(0);
  for (let at = backend * layout.concurrency; at < (backend + 1) * layout.concurrency; at++) {
    expect(table.state(at)).toBe(HANDLE_STATE.idle);
    for (const word of [HANDLE.meta, HANDLE.lengths]) {
      expect(table.get(at, word)).toBe(0);
    }
  }
}

afterEach(() => {
  if (hasUring) expect(orphanedRings()).toEqual([]);
});

describe.each(METHODS)("method %s", (method) => {
  const options = { backendsMax: 4, concurrency: 4, ioWorkers: 2 } as const;

  // Aim: what a thread holds in every state is given back. Method: one handle handed out, two staged, one in flight;
  // the thread is ended; the main thread waits for all of it.
  test("a thread that is ended with handles in every state leaves an empty slot", async () => {
    await using world = new World(method, options);
    await using thread = await BackendThread.start(world.system);
    const refs: WaitRef[] = [await thread.io("readv", world.lease, { offset: 8192 }, 0)];
    await thread.call("enterBatch");
    refs.push(await thread.io("readv", world.lease, { offset: 16_384, memory: 8192 }, 1));
    refs.push(await thread.io("readv", world.lease, { offset: 24_576, memory: 16_384 }, 2));
    refs.push((await thread.call("acquire", 3)) as WaitRef);
    await thread.kill();
    for (const ref of refs) await world.backend.waitAsync(ref);
    expectFreeSlot(world, thread.backend);
    expectNoLock(world);
    await using again = await BackendThread.start(world.system);
    expect(again.backend).toBe(thread.backend);
    await again.call("wait", await again.io("readv", world.lease, { offset: 5 * 8192 }));
    expect(world.words(0)[0]).toBe(5);
    await again.call("detach");
  });

  // Aim: somebody who sleeps for a dead thread's staged I/O moves on. Method: a second thread waits before the end.
  test("a waiter for staged I/O returns when its issuer dies", async () => {
    await using world = new World(method, options);
    if (method === "sync") return; // nothing is ever staged between two calls
    await using issuer = await BackendThread.start(world.system);
    await using other = await BackendThread.start(world.system);
    await issuer.call("enterBatch");
    const ref = await issuer.io("readv", world.lease, {});
    const waiting = other.call("wait", ref);
    await issuer.kill();
    await waiting;
    await other.call("detach");
  });

  // Aim: an I/O goes on without its issuer. Method: the issuer starts reads and exits; another thread waits for them.
  test("a thread that exits leaves its reads to others", async () => {
    await using world = new World(method, options);
    await using issuer = await BackendThread.start(world.system);
    const refs: WaitRef[] = [];
    for (let block = 0; block < 3; block++) {
      refs.push(await issuer.io("readv", world.lease, { offset: block * 8192, memory: block * 8192 }, block));
    }
    void issuer.call("exit");
    for (const ref of refs) await world.backend.waitAsync(ref);
    await issuer.recovered;
    for (let block = 0; block < 3; block++) expect(world.words(block)[7]).toBe(block);
    expectFreeSlot(world, issuer.backend);
  });

  // Aim: nobody needs the issuer's help. Method: the issuer sleeps on a word of its own after the start.
  test("a read of a thread that sleeps is completed by whoever waits", async () => {
    await using world = new World(method, options);
    await using issuer = await BackendThread.start(world.system);
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const ref = await issuer.io("readv", world.lease, { offset: 9 * 8192 });
    const asleep = issuer.call("sleep", gate);
    await world.backend.waitAsync(ref);
    expect(world.words(0)[3]).toBe(9);
    await using blocking = await BackendThread.start(world.system);
    await blocking.call("wait", ref);
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    await asleep;
    await issuer.call("wait", ref);
    expect(await issuer.call("result")).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    for (const thread of [issuer, blocking]) await thread.call("detach");
  });
});

/** Where an issuer can be stopped, and with which methods it comes by. */
const ISSUER_POINTS: readonly (readonly [HoldPoint, MethodName])[] = [
  ["submitted", "worker"],
  ["locked", "worker"],
  ["queued", "worker"],
  ["recorded", "sync"],
  ...(hasUring ? ([["submitted", "io_uring"]] as const) : []),
];

describe.each(ISSUER_POINTS)("an issuer that dies at %s with method %s", (point, method) => {
  // Aim: its I/O is done all the same, and whoever waits returns. Method: hold it there, let another thread wait, end it.
  test("loses no I/O", async () => {
    await using world = new World(method, { backendsMax: 4, concurrency: 4, ioWorkers: 1 });
    await using issuer = await BackendThread.start(world.system);
    await using other = await BackendThread.start(world.system);
    // One I/O first: the worker is known to have got as far as its loop.
    await other.call("wait", await other.io("readv", world.lease, {}));
    await other.call("acquire");
    await other.call("release");
    using hold = world.system.faults.arm({ point, threadId: issuer.threadId });
    const { table } = world.backend;
    const handle = issuer.backend * table.layout.concurrency + 0;
    const ref = { handle, generation: table.generation(handle) };
    void issuer.io("readv", world.lease, { offset: 11 * 8192 });
    await hold.arrived(1);
    const waiting = other.call("wait", ref);
    await issuer.kill();
    await waiting;
    expect(world.words(0)[9]).toBe(11);
    expectFreeSlot(world, issuer.backend);
    expectNoLock(world);
    await other.call("detach");
  });
});

describe.skipIf(!hasUring)("a thread that reaps for another and dies", () => {
  const options = { backendsMax: 4, concurrency: 4 } as const;

  // Aim: a result that the dead thread had recorded reaches its owner. Method: the reaper is stopped between recording
  // and callbacks, and ended there; the owner waits.
  test("leaves what it had recorded to the supervisor", async () => {
    await using world = new World("io_uring", options);
    await using owner = await BackendThread.start(world.system);
    await using reaper = await BackendThread.start(world.system);
    using hold = world.system.faults.arm({ point: "recorded", threadId: reaper.threadId });
    const ref = await owner.io("readv", world.lease, { offset: 4 * 8192 });
    void reaper.call("wait", ref);
    await hold.arrived(1);
    const waiting = owner.call("wait", ref);
    await reaper.kill();
    await waiting;
    expect(await owner.call("result")).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    // The completion is still in the ring: it must not be taken for the next use of the handle.
    const next = await owner.io("readv", world.lease, { offset: 5 * 8192 });
    expect(next.handle).toBe(ref.handle);
    await owner.call("wait", next);
    expect(world.words(0)[0]).toBe(5);
    await owner.call("detach");
    expectNoLock(world);
  });

  // Aim: only one thread runs the callbacks. Method: the owner dies while a living thread is between the two steps.
  test("is not mistaken for one that lives", async () => {
    await using world = new World("io_uring", options);
    await using owner = await BackendThread.start(world.system);
    await using reaper = await BackendThread.start(world.system);
    const hold = world.system.faults.arm({ point: "recorded", threadId: reaper.threadId });
    const ref = await owner.io("readv", world.lease, {});
    const waiting = reaper.call("wait", ref);
    await hold.arrived(1);
    await owner.worker.terminate();
    expect(world.backend.table.state(ref.handle)).toBe(HANDLE_STATE.completedIo);
    hold[Symbol.dispose]();
    await waiting;
    await owner.recovered;
    expectFreeSlot(world, owner.backend);
    await reaper.call("detach");
  });

  // Aim: one half of a linked write is not counted twice. Method: the reaper dies after the first half was noted and
  // before the kernel was told; the owner meets the same completion again.
  test("does not make the first half of a linked write pass for both", async () => {
    await using world = new World("io_uring", options);
    await using owner = await BackendThread.start(world.system);
    await using reaper = await BackendThread.start(world.system);
    using hold = world.system.faults.arm({ point: "part", threadId: reaper.threadId });
    const ref = await owner.io("writev", world.lease, { sync: "data" });
    void reaper.call("wait", ref);
    await hold.arrived(1);
    await reaper.kill();
    const table = world.backend.table;
    expect(table.state(ref.handle)).toBe(HANDLE_STATE.submitted);
    expect(table.get(ref.handle, HANDLE.partsLeft)).toBe(2);
    await owner.call("wait", ref);
    expect(table.get(ref.handle, HANDLE.partsLeft)).toBe(0);
    expect(await owner.call("result")).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    await owner.call("detach");
  });
});

const WORKER_POINTS: readonly HoldPoint[] = ["taken", "hold", "recorded"];

describe("an I/O worker that dies", () => {
  // Aim: what it had in its hands is done by another. Method: stopped at the point, ended there, the issuer waits.
  test.each(WORKER_POINTS)("at %s loses no I/O", async (point) => {
    await using world = new World("worker", { ioWorkers: 1, concurrency: 4 });
    const { backend, system } = world;
    using scope = backend.openScope();
    const hold = system.faults.arm({ point });
    // Changes nothing, and counts the results that are recorded.
    using recorded = system.faults.arm({ point: "afterwards", result: 2 * BLOCK_BYTES });
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    world.read(handle, 6, 0);
    await hold.arrived(1);
    await system.workers?.workerAt(0)?.terminate();
    if (point === "taken") {
      // Its successor gets as far, and no further: the I/O is in the queue once, not twice.
      await hold.arrived(2);
      const { words, layout } = backend.table;
      const [head = 0, tail = 0] = words.slice(layout.queueAt + QUEUE.head, layout.queueAt + QUEUE.tail + 1);
      expect((head - tail) & (WORKER_QUEUE_SLOTS - 1)).toBe(1);
    }
    hold[Symbol.dispose]();
    await backend.waitAsync(ref);
    expect(world.words(0)[1]).toBe(6);
    await system.workers?.settled();
    expectNoLock(world);
    // Nothing of it is left in the queue: the next one is the next that is executed.
    const next = backend.acquire(scope);
    const nextRef = next.ref();
    world.read(next, 7, 1);
    await backend.waitAsync(nextRef);
    expect(world.words(1)[1]).toBe(7);
    expect(recorded.hits).toBe(2);
  });

  // Aim: an I/O that is over is not done again in the handle's next life. Method: the worker is stopped after completing
  // one; the handle is used again and held in a second worker's hands; the first is ended.
  test("after it has completed one does not touch the handle's next use", async () => {
    await using world = new World("worker", { ioWorkers: 2, concurrency: 4 });
    const { backend, system } = world;
    using scope = backend.openScope();
    const completed = system.faults.arm({ point: "completed", times: 1 });
    const first = backend.acquire(scope);
    const firstRef = first.ref();
    world.read(first, 1, 0);
    await completed.arrived(1);
    backend.wait(firstRef);
    const stopped = [0, 1].find((slot) => {
      const { words, layout } = backend.table;
      return words[layout.workersAt + slot * WORKER.words + WORKER.current] === firstRef.handle + 1;
    });
    const hold = system.faults.arm({ point: "hold" });
    const second = backend.acquire(scope);
    const ref = second.ref();
    expect(ref.handle).toBe(firstRef.handle);
    world.read(second, 2, 0);
    await hold.arrived(1);
    await system.workers?.workerAt(stopped ?? -1)?.terminate();
    await system.workers?.settled();
    expect(hold.hits).toBe(1);
    const { layout } = backend.table;
    const ends = backend.table.words.slice(layout.queueAt + QUEUE.head, layout.queueAt + QUEUE.tail + 1);
    expect(ends[0], "nothing is queued again").toBe(ends[1]);
    hold[Symbol.dispose]();
    completed[Symbol.dispose]();
    await backend.waitAsync(ref);
    expect(world.words(0)[0]).toBe(2);
  });
});

// Aim: the main thread does not spin for ever on the lock of a thread that is gone. Method: an issuer is ended with the
// queue's lock; before its end is known here, the main thread submits.
test("a submission meets the lock of a dead thread and is executed by its issuer", async () => {
  await using world = new World("worker", { backendsMax: 2, ioWorkers: 1 }, { mayBlock: false });
  await using issuer = await BackendThread.start(world.system);
  using hold = world.system.faults.arm({ point: "locked", threadId: issuer.threadId });
  void issuer.io("readv", world.lease, {});
  await hold.arrived(1);
  using scope = world.backend.openScope();
  const handle = world.backend.acquire(scope);
  const ref = handle.ref();
  world.read(handle, 3, 1);
  expect(world.backend.done(ref)).toBe(true);
  expect(world.words(1)[0]).toBe(3);
  await issuer.kill();
  expectNoLock(world);
});

// Aim: a lock that others sleep for is broken and they go on. Method: the lock is marked as the victim's, with a sleeper;
// another thread submits; the victim is ended.
test("a recovery breaks the lock of a dead thread for those who sleep for it", async () => {
  await using world = new World("worker", { backendsMax: 4, ioWorkers: 1 });
  const { words, layout } = world.backend.table;
  await using victim = await BackendThread.start(world.system);
  await using sleeper = await BackendThread.start(world.system);
  const lockAt = layout.queueAt + QUEUE.lock + LOCK.state;
  const marked = 2 * (victim.backend + 1) + 1;
  Atomics.store(words, lockAt, marked);
  const reading = sleeper.io("readv", world.lease, { offset: 2 * 8192 });
  await victim.kill();
  await sleeper.call("wait", await reading);
  expect(world.words(0)[0]).toBe(2);
  await sleeper.call("detach");
  expectNoLock(world);
});

// Aim: a handle that was being given back when its owner died is blank for the next one. Method: words of a life that is
// over are left on an idle handle, as by a thread that died between publishing IDLE and clearing them.
test("a recovery clears handles that were being recycled", async () => {
  await using world = new World("sync", { backendsMax: 2, concurrency: 4 });
  await using thread = await BackendThread.start(world.system);
  const { table } = world.backend;
  const at = table.at(thread.backend * table.layout.concurrency);
  for (const word of [HANDLE.meta, HANDLE.lengths]) {
    table.words[at + word] = 1;
  }
  await thread.kill();
  expectFreeSlot(world, thread.backend);
});

// Aim: a wake-up that its sender did not live to send is made up for. Method: the state of an I/O that another thread
// sleeps for is changed without a notification, as by a completer that died there; a third thread's end is recovered.
test("a recovery wakes those who sleep on a handle", async () => {
  await using world = new World("manual", { backendsMax: 4, concurrency: 4 });
  await using sleeper = await BackendThread.start(world.system);
  await using victim = await BackendThread.start(world.system);
  const { backend } = world;
  const { table } = backend;
  using scope = backend.openScope();
  const handle = backend.acquire(scope);
  const ref = handle.ref();
  world.read(handle, 1, 0);
  const waiting = sleeper.call("wait", ref);
  const at = table.at(ref.handle);
  for (let seen = 0; seen === 0; seen = Atomics.load(table.words, at + HANDLE.waiters)) {
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }
  table.words[at + HANDLE.distilled] = packResult({ callback: 0, status: "ok", error: 0, result: 0 });
  const word = table.stateWord(ref.handle);
  Atomics.store(table.words, at, word - HANDLE_STATE.submitted + HANDLE_STATE.completedShared);
  await victim.kill();
  await waiting;
  expect(backend.done(ref)).toBe(true);
  await sleeper.call("detach");
});

// Aim: a descriptor that Node closed with its thread is not used under its old lease. Method: a thread opens a file and
// dies; another file gets the number; a read under the lease.
test.each(METHODS)("leases end with the thread that took them, with method %s", async (method) => {
  await using world = new World(method, { backendsMax: 2, ioWorkers: 1 });
  const { backend } = world;
  using stranger = new BlockFile(4);
  await using thread = await BackendThread.start(world.system);
  const lease = (await thread.call("open", world.file.path)) as FileLease;
  await thread.kill();
  // The dead thread's other descriptors are free too: the lowest number comes first.
  const opened: number[] = [];
  do opened.push(openSync(stranger.path, "r+"));
  while ((opened.at(-1) ?? 0) < lease.fd);
  expect(opened.at(-1), "the number is reused").toBe(lease.fd);
  world.words(0).fill(99);
  using scope = backend.openScope();
  const slot = createIoReturn();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  handle
    .setTarget(FILE_TARGET, [lease.fd, lease.slot])
    .startReadv(lease, [{ segment: 0, offsetBytes: 0, lengthBytes: BLOCK_BYTES }], 0);
  await backend.waitAsync(ref);
  expect(slot.result).toMatchObject({ status: "error", error: constants.errno.EBADF });
  expect(world.words(0)[0]).toBe(99);
  for (const fd of opened) closeSync(fd);
});
