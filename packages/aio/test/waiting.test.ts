/** Waiting: what wakes a thread that sleeps for an I/O, what does not, and who takes the outcome. */
import { afterEach, describe, expect, test } from "vitest";

import { attachBackend } from "../src/attach.js";
import type { AioErrorCode } from "../src/errors.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { MethodName } from "../src/method.js";
import { createIoReturn } from "../src/result.js";
import { NO_WAIT_REF } from "../src/wait-ref.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BackendThread } from "./backend-thread.js";
import { BlockFile, METHODS, World } from "./fixture.js";

const withCode = (code: AioErrorCode): Error => expect.objectContaining({ code }) as Error;
const { submitted, completedShared } = HANDLE_STATE;
const QUEUING: readonly MethodName[] = METHODS.filter((method) => method !== "sync");

/** Starts a read of this thread's backend. */
function start(world: World, block: number): WaitRef {
  const handle = world.backend.acquire(world.backend.openScope());
  const ref = handle.ref();
  world.read(handle, block, block);
  return ref;
}

describe("a thread without an idle handle", () => {
  // Aim: it waits for its oldest I/O, not for any. Method: complete the third, then the first, and see which one it got
  // and that the third still stood there; that one is taken the next time, without a sleep.
  test("sleeps until its oldest I/O is over, and takes what else is over the next time", async () => {
    await using world = new World("manual", { concurrency: 4 });
    await using thread = await BackendThread.start(world);
    const { lease, controller } = world;
    const refs: WaitRef[] = [];
    for (let block = 0; block < 4; block++) {
      refs.push(await thread.order("read", { lease, block, memoryBlock: block }));
    }
    const [first, second, third, fourth] = refs.map(({ handle }) => handle) as [
      number,
      number,
      number,
      number,
    ];
    await thread.order("events");
    const acquired = thread.order("acquire");
    expect(await thread.slept()).toBe(first);
    controller.complete(third);
    controller.complete(first);
    expect(await acquired).toEqual({ handle: first, states: [1, submitted, completedShared, submitted] });
    expect(await thread.order("events")).toEqual([`sleep ${first}`]);
    await thread.order("read", { lease, block: 5, memoryBlock: 5 });
    const again = await thread.order("acquire");
    expect(again.handle).toBe(third);
    expect(await thread.order("events"), "no sleep").toEqual(["submit 1"]);
    for (const handle of [second, fourth, first]) controller.complete(handle);
  });

  test("submits a batch that took all handles before it sleeps", async () => {
    await using world = new World("manual", { concurrency: 4 });
    await using thread = await BackendThread.start(world);
    await thread.order("enterBatch");
    for (let block = 0; block < 4; block++) {
      await thread.order("read", { lease: world.lease, block, memoryBlock: block });
    }
    expect(await thread.order("events")).toEqual([]);
    const acquired = thread.order("acquire");
    const handle = await thread.slept();
    expect(world.controller.submitted()).toHaveLength(4);
    world.controller.complete(handle);
    expect((await acquired).handle).toBe(handle);
    expect(await thread.order("events")).toEqual(["submit 4", `sleep ${handle}`]);
    await thread.order("exitBatch");
    world.controller.completeAll();
  });
});

describe("an I/O that is only staged", () => {
  test.each([...QUEUING, "manual" as const])(
    "cannot be waited for by its own thread, with method %s",
    async (method) => {
      await using world = new World(method);
      world.backend.enterBatch();
      const ref = start(world, 3);
      expect(() => world.backend.wait(ref)).toThrow(withCode("ERR_AIO_WAIT_OWN_UNSUBMITTED"));
      await expect(world.backend.waitAsync(ref)).rejects.toThrow(withCode("ERR_AIO_WAIT_OWN_UNSUBMITTED"));
      expect(world.backend.done(ref)).toBe(false);
      world.backend.exitBatch();
    },
  );

  // Aim: a stranger's wait gets through all stations. Method: it sleeps while the I/O is staged; then submit.
  test.each(QUEUING)(
    "lets another thread sleep until it is submitted and over, with method %s",
    async (method) => {
      await using world = new World(method);
      await using thread = await BackendThread.start(world);
      world.backend.enterBatch();
      const ref = start(world, 3);
      const waited = thread.order("wait", ref);
      expect(await thread.slept()).toBe(ref.handle);
      world.backend.exitBatch();
      await waited;
      expect(world.words(3)[0], "without any help of its issuer").toBe(3);
      expect(world.backend.done(ref)).toBe(true);
    },
  );

  test("wakes another thread at its submission, which goes on waiting for its end, with method manual", async () => {
    await using world = new World("manual");
    await using thread = await BackendThread.start(world);
    world.backend.enterBatch();
    const ref = start(world, 3);
    const waited = thread.order("wait", ref);
    expect(await thread.slept()).toBe(ref.handle);
    world.backend.exitBatch();
    expect(await thread.slept(), "once more").toBe(ref.handle);
    world.controller.complete(ref.handle);
    expect(await waited, "a stranger leaves it where it is").toBe(completedShared);
    expect(world.backend.table.state(ref.handle)).toBe(completedShared);
  });
});

describe("a reference", () => {
  // Aim: a stale one means done. Method: reuse the handle and keep the new I/O in flight.
  test("to an earlier use of a handle is done for everybody, though the handle is busy again", async () => {
    await using world = new World("manual", { concurrency: 1 });
    await using thread = await BackendThread.start(world);
    const old = start(world, 1);
    world.controller.completeAll();
    world.backend.wait(old);
    const now = start(world, 2);
    expect(now).toEqual({ handle: old.handle, generation: old.generation + 1 });
    expect([world.backend.done(old), world.backend.done(now)]).toEqual([true, false]);
    world.backend.wait(old);
    await world.backend.waitAsync(old);
    expect(await thread.order("done", old)).toBe(true);
    expect(await thread.order("done", now)).toBe(false);
    expect(await thread.order("wait", old)).toBe(submitted);
    expect(await thread.order("events")).toEqual([]);
  });

  test("to nothing is done, and one to no handle of the system is refused", async () => {
    await using world = new World("manual");
    const { backend } = world;
    expect(backend.done(NO_WAIT_REF)).toBe(true);
    backend.wait(NO_WAIT_REF);
    await backend.waitAsync(NO_WAIT_REF);
    for (const handle of [-1, backend.table.count, 0.5]) {
      const ref = { handle, generation: 1 };
      expect(() => backend.done(ref)).toThrow(withCode("ERR_AIO_BAD_STATE"));
      expect(() => backend.wait(ref)).toThrow(withCode("ERR_AIO_BAD_STATE"));
    }
  });

  test("to a handle that is only handed out is an error for another thread", async () => {
    await using world = new World("manual");
    await using thread = await BackendThread.start(world);
    const handle = world.backend.acquire(world.backend.openScope());
    await expect(thread.order("wait", handle.ref())).rejects.toThrow(withCode("ERR_AIO_BAD_STATE"));
    handle.release();
  });
});

describe("an I/O that a stranger completed", () => {
  // Aim: the issuer's outcome waits for it. Method: look as a stranger, many times, then as the owner.
  test("stays with its result until its owner looks", async () => {
    await using world = new World("manual");
    await using thread = await BackendThread.start(world);
    const { backend } = world;
    using scope = backend.openScope();
    const slot = createIoReturn();
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    world.read(handle, 4, 4);
    const waited = thread.order("wait", ref);
    expect(await thread.slept()).toBe(ref.handle);
    const waitEvents = (): (string | null)[] => world.system.backends().map(({ waitEvent }) => waitEvent);
    expect(waitEvents()).toEqual([null, "AioIoCompletion"]);
    world.controller.complete(ref.handle, 4711);
    expect(await waited).toBe(completedShared);
    expect(waitEvents()).toEqual([null, null]);
    expect(await thread.order("done", ref)).toBe(true);
    expect(await thread.order("wait", ref)).toBe(completedShared);
    expect([backend.table.state(ref.handle), slot.result.status]).toEqual([completedShared, "unknown"]);
    expect(backend.done(ref)).toBe(true);
    expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.idle);
    expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: 4711 });
    expect(backend.statistics().foreignCompletions).toBe(1);
  });

  // Aim: a wait that begins when all is over returns at once. Method: two backends in one thread, no sleeps.
  test("need not be waited for by anybody", async () => {
    await using world = new World("manual");
    const events: string[] = [];
    const other = attachBackend(world.system.shared, world.system.registry, {
      mayBlock: true,
      probe: { onSleep: () => void events.push("sleep") },
    });
    const ref = start(world, 1);
    world.controller.completeAll();
    other.wait(ref);
    await other.waitAsync(ref);
    expect(world.backend.table.state(ref.handle)).toBe(completedShared);
    world.backend.wait(ref);
    expect([events, world.backend.statistics().waits]).toEqual([[], 0]);
    other.detach();
  });

  // Aim: another thread may also complete. Method: the thread completes this one's I/O; event loop and sleep hear of it.
  test("is noticed by its owner on the event loop", async () => {
    await using world = new World("manual", {}, { mayBlock: false });
    await using thread = await BackendThread.start(world);
    const ref = start(world, 8);
    const waited = world.backend.waitAsync(ref);
    await thread.order("complete", { handle: ref.handle });
    await waited;
    expect(world.words(8)[0]).toBe(8);
  });
});

describe("leaving", () => {
  test("waits for all I/O in flight, the oldest first, and leaves nothing behind", async () => {
    await using world = new World("manual");
    await using thread = await BackendThread.start(world);
    const refs: WaitRef[] = [];
    for (let block = 0; block < 3; block++) {
      refs.push(await thread.order("read", { lease: world.lease, block, memoryBlock: block }));
    }
    const [first, second, third] = refs.map(({ handle }) => handle) as [number, number, number];
    const detached = thread.order("detach");
    expect(await thread.slept()).toBe(first);
    world.controller.complete(second);
    world.controller.complete(first);
    expect(await thread.slept(), "the second was over already").toBe(third);
    expect(world.system.backends()).toHaveLength(2);
    world.controller.complete(third);
    await detached;
    expect([world.system.backends().length, world.system.rows()]).toEqual([1, []]);
  });

  test.each([...METHODS, "manual" as const])("submits a batch first, with method %s", async (method) => {
    await using world = new World(method, {}, { mayBlock: true });
    const { backend } = world;
    const scope = backend.openScope();
    backend.enterBatch();
    for (let block = 0; block < 3; block++) world.read(backend.acquire(scope), block, block);
    const leaving = backend.detachAsync();
    if (method === "manual") world.controller.completeAll();
    await leaving;
    backend.detach();
    expect([0, 1, 2].map((block) => world.words(block)[0])).toEqual([0, 1, 2]);
    expect([backend.idleCount, scope.isOpen]).toEqual([backend.concurrency, false]);
    expect(() => backend.openScope()).toThrow(withCode("ERR_AIO_CLOSED"));
  });
});

describe("closing a file", () => {
  let other: BlockFile | undefined;
  afterEach(() => other?.[Symbol.dispose]());

  test("sleeps for that file's I/O only", async () => {
    await using world = new World("manual");
    other = new BlockFile();
    const otherLease = world.backend.openLease(other.fd);
    await using thread = await BackendThread.start(world);
    await thread.order("enterBatch");
    const refs: WaitRef[] = [];
    for (const lease of [world.lease, otherLease, world.lease]) {
      refs.push(await thread.order("read", { lease, block: 0, memoryBlock: 0 }));
    }
    const closed = thread.order("closeFile", world.lease);
    const [first, stays, last] = refs.map(({ handle }) => handle) as [number, number, number];
    expect(await thread.slept()).toBe(first);
    expect(world.controller.submitted(), "submitted first").toHaveLength(3);
    world.controller.complete(first);
    expect(await thread.slept()).toBe(last);
    world.controller.complete(last);
    await closed;
    expect(world.controller.submitted()).toEqual([stays]);
    expect(await thread.order("events")).toEqual(["submit 3", `sleep ${first}`, `sleep ${last}`]);
    world.controller.complete(stays);
  });
});

// Aim: two threads that need each other's I/O do not wait for ever. Method: each stages, then follows the rule to submit
// before it waits for the other's.
test.each([...METHODS, "manual" as const])(
  "two threads in batches that need each other's block both get it, with method %s",
  async (method) => {
    await using world = new World(method);
    await using one = await BackendThread.start(world);
    await using two = await BackendThread.start(world);
    for (const thread of [one, two]) await thread.order("enterBatch");
    const first = await one.order("read", { lease: world.lease, block: 1, memoryBlock: 1 });
    const second = await two.order("read", { lease: world.lease, block: 2, memoryBlock: 2 });
    const waits = [one.order("submitAndWait", second), two.order("submitAndWait", first)];
    if (method === "manual") {
      // Each has submitted its own before it sleeps for the other's.
      await Promise.all([one.slept(), two.slept()]);
      expect(world.controller.completeAll()).toBe(2);
    }
    await Promise.all(waits);
    expect([world.words(1)[0], world.words(2)[0]]).toEqual([1, 2]);
    for (const thread of [one, two]) await thread.order("exitBatch");
  },
);

describe("a thread whose callbacks are not the system's", () => {
  test("is refused, and its place is free for another", async () => {
    await using world = new World("manual", { backendsMax: 2 });
    await expect(BackendThread.start(world, "renamed")).rejects.toThrow(
      withCode("ERR_AIO_REGISTRY_MISMATCH"),
    );
    await using thread = await BackendThread.start(world, "file");
    expect(await thread.order("events")).toEqual([]);
    await expect(BackendThread.start(world)).rejects.toThrow(withCode("ERR_AIO_LIMIT"));
  });
});
