/** A system that has stopped: everybody who sleeps is woken to it, and it can still be taken down. */
import { describe, expect, test } from "vitest";

import type { AioErrorCode } from "../src/errors.js";
import { createBlockCallbacks } from "../src/block-callbacks.js";
import type { MethodName } from "../src/method.js";
import { AioRegistry } from "../src/registry.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BackendThread } from "./backend-thread.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";
import { fillPagesRegistry, PAGES } from "./pages-registry.mjs";

const withCode = (code: AioErrorCode): Error => expect.objectContaining({ code }) as Error;
const STOPPED = withCode("ERR_AIO_PANIC");

function createWorld(method: MethodName, mayBlock = true): World {
  const registry = fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
  const registryModule = new URL("pages-registry.mjs", import.meta.url);
  return new World(method, { registry, registryModule }, { mayBlock });
}

/** Starts a read whose completion throws if `callback` says so. */
function start(world: World, callback: number): WaitRef {
  const handle = world.backend.acquire(world.backend.openScope());
  const ref = handle.ref();
  handle.setTarget(PAGES.target, [world.lease.fd, world.lease.slot, 0, 1]).addCallback(callback);
  handle.startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 0);
  return ref;
}

describe("a completion that throws", () => {
  // Aim: nobody sleeps for ever. Method: one thread asleep for each of two I/Os, one of which stops the system.
  test("wakes threads that sleep, for whatever I/O", async () => {
    const world = createWorld("manual");
    await using one = await BackendThread.start(world, "pages");
    await using two = await BackendThread.start(world, "pages");
    const [bad, other] = [start(world, PAGES.fail), start(world, PAGES.blocks)];
    const waits = [one.order("wait", bad), two.order("wait", other)];
    const failed = waits.map((wait) => expect(wait).rejects.toThrow(STOPPED));
    await Promise.all([one.slept(), two.slept()]);
    expect(() => world.controller.complete(bad.handle)).toThrow("on purpose");
    await Promise.all(failed);
    await expect(two.order("wait", other)).rejects.toThrow(STOPPED);
    await expect(one.order("read", { lease: world.lease, block: 0, memoryBlock: 0 })).rejects.toThrow(
      STOPPED,
    );
    await world.system.close();
    world.file[Symbol.dispose]();
  });

  // Aim: the stop may come when a thread has looked and is just about to sleep. Method: it
  // stops the system itself there, by another I/O than the one it waits for.
  test("wakes a thread that is about to sleep", async () => {
    const world = createWorld("manual");
    await using thread = await BackendThread.start(world, "pages");
    const [bad, ref] = [start(world, PAGES.fail), start(world, PAGES.blocks)];
    await expect(thread.order("waitAndStop", { ref, bad: bad.handle })).rejects.toThrow(STOPPED);
    expect(await thread.order("events")).toEqual([`sleep ${ref.handle}`]);
    await world.system.close();
    world.file[Symbol.dispose]();
  });

  test("is the cause of every later error in its thread", async () => {
    const world = createWorld("manual");
    const bad = start(world, PAGES.fail);
    expect(() => world.controller.complete(bad.handle)).toThrow("on purpose");
    const stopped = expect.objectContaining({
      code: "ERR_AIO_PANIC",
      cause: expect.objectContaining({ message: "on purpose" }) as Error,
    }) as Error;
    expect(() => world.backend.wait(bad)).toThrow(stopped);
    await expect(world.backend.waitAsync(bad)).rejects.toThrow(stopped);
    await world.system.close();
    world.file[Symbol.dispose]();
  });

  test("wakes those who wait on the event loop, for own and for foreign I/O", async () => {
    const world = createWorld("manual", false);
    const other = world.system.attach({ mayBlock: false });
    const [bad, own] = [start(world, PAGES.fail), start(world, PAGES.blocks)];
    const waits = [world.backend.waitAsync(own), other.waitAsync(own), other.waitAsync(bad)];
    const failed = waits.map((wait) => expect(wait).rejects.toThrow(STOPPED));
    expect(() => world.controller.complete(bad.handle)).toThrow("on purpose");
    await Promise.all(failed);
    await world.system.close();
    world.file[Symbol.dispose]();
  });
});

// Aim: a process can end after a panic: no thread, ring or timer is left. Method: stop each method's system, close it.
test.each([...METHODS, "manual" as const])("a stopped system of method %s can be closed", async (method) => {
  const world = createWorld(method, false);
  const { backend, system } = world;
  const started = (): WaitRef => start(world, PAGES.fail);
  const kinds: Record<MethodName, () => Promise<unknown>> = {
    sync: () => Promise.resolve(expect(started).toThrow("on purpose")),
    manual: () => {
      const ref = started();
      return Promise.resolve(expect(() => world.controller.complete(ref.handle)).toThrow("on purpose"));
    },
    worker: () => expect(backend.waitAsync(started())).rejects.toThrow(STOPPED),
    io_uring: () => expect(backend.waitAsync(started())).rejects.toThrow(STOPPED),
  };
  await kinds[method]();
  await system.close();
  await system.close();
  expect(system.backends()).toEqual([]);
  expect(system.workers?.slots ?? []).toEqual([]);
  world.file[Symbol.dispose]();
});
