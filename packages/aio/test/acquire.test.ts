/** Taking a handle and giving it back: one at a time, last used first, and what happens if a scope ends without that. */
import { describe, expect, test } from "vitest";

import type { AioBackend } from "../src/backend.js";
import type { AioErrorCode } from "../src/errors.js";
import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { IoHandle } from "../src/io-handle.js";
import { createIoReturn } from "../src/result.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

const withCode = (code: AioErrorCode): Error => expect.objectContaining({ code }) as Error;

function lifeOf(backend: AioBackend, handle: number): [state: number, generation: number] {
  return [backend.table.state(handle), backend.table.generation(handle)];
}

describe.each([...METHODS, "manual" as const])("method %s", (method) => {
  // Aim: a handle that is neither used nor released is taken back with the scope, audibly. Method: end a scope so.
  test("a scope that ends normally with a handle takes it back and warns", async () => {
    await using world = new World(method);
    const { backend } = world;
    const id = backend.scope((scope) => backend.acquire(scope).id);
    expect(world.warnings).toEqual(["AIO_LEAKED_HANDLE"]);
    expect(lifeOf(backend, id)).toEqual([HANDLE_STATE.idle, 2]);
    backend.scope((scope) => {
      const again = backend.acquire(scope);
      expect(again.id).toBe(id);
      again.release();
    });
    expect(world.warnings).toHaveLength(1);
  });

  test("a handle cannot be released after its scope has ended", async () => {
    await using world = new World(method);
    const handle = world.backend.scope((scope) => world.backend.acquire(scope));
    expect(() => handle.release()).toThrow(withCode("ERR_AIO_BAD_RELEASE"));
    expect(lifeOf(world.backend, handle.id)).toEqual([HANDLE_STATE.idle, 2]);
  });

  test("a released handle is idle again, of the next generation, without a warning", async () => {
    await using world = new World(method);
    const { backend } = world;
    backend.scope((scope) => {
      const handle = backend.acquire(scope);
      expect(backend.idleCount).toBe(backend.concurrency - 1);
      expect(lifeOf(backend, handle.id)).toEqual([HANDLE_STATE.handedOut, 1]);
      handle.release();
      expect(lifeOf(backend, handle.id)).toEqual([HANDLE_STATE.idle, 2]);
      expect(() => handle.release()).toThrow(withCode("ERR_AIO_BAD_RELEASE"));
    });
    expect(backend.idleCount).toBe(backend.concurrency);
    expect(world.warnings).toEqual([]);
  });

  test("a second handle is refused while one is out, and the first stays good", async () => {
    await using world = new World(method);
    const { backend } = world;
    backend.scope((scope) => {
      const handle = backend.acquire(scope);
      const ref = handle.ref();
      expect(() => backend.acquire(scope)).toThrow(withCode("ERR_AIO_HANDLE_ALREADY_OUT"));
      expect(() => backend.tryAcquire(scope)).toThrow(withCode("ERR_AIO_HANDLE_ALREADY_OUT"));
      world.read(handle, 5, 0);
      if (method === "manual") world.controller.completeAll();
      backend.wait(ref);
    });
    expect(world.words(0)[0]).toBe(5);
  });

  // Aim: after an error, cleaning up is ordinary. Method: throw with a handle out, also out of a scope in a scope.
  test("a scope that fails takes its handle back without a warning, an outer one goes on", async () => {
    await using world = new World(method);
    const { backend } = world;
    const failing = (): never =>
      backend.scope((scope) => {
        backend.acquire(scope);
        throw new Error("on purpose");
      });
    expect(failing).toThrow("on purpose");
    backend.scope((outer) => {
      expect(failing).toThrow("on purpose");
      backend.acquire(outer).release();
    });
    expect(world.warnings).toEqual([]);
    expect(backend.idleCount).toBe(backend.concurrency);
  });

  // Aim: what a scope's end must not touch. Method: end an inner scope while the outer one's handle is out.
  test("a scope that ends leaves another scope's handle alone", async () => {
    await using world = new World(method);
    const { backend } = world;
    backend.scope((outer) => {
      const handle = backend.acquire(outer);
      backend.scope(() => undefined);
      expect(lifeOf(backend, handle.id)).toEqual([HANDLE_STATE.handedOut, 1]);
      handle.release();
    });
    expect(world.warnings).toEqual([]);
  });

  test("nothing can be acquired in a scope that has ended", async () => {
    await using world = new World(method);
    const scope = world.backend.openScope();
    scope.end();
    scope.end();
    expect(() => world.backend.acquire(scope)).toThrow(withCode("ERR_AIO_CLOSED"));
  });

  test("the next handle is the one used last", async () => {
    await using world = new World(method, { concurrency: 4 });
    const { backend } = world;
    using scope = backend.openScope();
    for (let round = 0; round < 3; round++) {
      const handle = backend.acquire(scope);
      expect(handle.id).toBe(0);
      handle.release();
    }
  });
});

describe("reuse", () => {
  // Aim: the idle list is a stack, whatever the order of completions. Method: three in flight, reclaimed 1 then 0.
  test("takes the handle that was reclaimed last", async () => {
    await using world = new World("manual", { concurrency: 4 });
    const { backend } = world;
    using scope = backend.openScope();
    const refs: WaitRef[] = [];
    for (let block = 0; block < 3; block++) {
      const handle = backend.acquire(scope);
      refs.push(handle.ref());
      world.read(handle, block, block);
    }
    expect(refs.map(({ handle }) => handle)).toEqual([0, 1, 2]);
    world.controller.complete(1);
    world.controller.complete(0);
    backend.wait(refs[1] as WaitRef);
    backend.wait(refs[0] as WaitRef);
    const ids: number[] = [];
    for (const block of [3, 4, 5]) {
      const handle = backend.acquire(scope);
      ids.push(handle.id);
      world.read(handle, block, block);
    }
    expect(ids).toEqual([0, 1, 3]);
  });

  test("trying to acquire with none idle gives nothing, submits nothing and waits for nothing", async () => {
    const events: string[] = [];
    const probe = {
      onSubmit: (count: number) => void events.push(`submit ${count}`),
      onSleep: () => void events.push("sleep"),
    };
    await using world = new World("manual", { concurrency: 2 }, { probe });
    const { backend } = world;
    using scope = backend.openScope();
    backend.enterBatch();
    for (const block of [0, 1]) world.read(backend.acquire(scope), block, block);
    expect(backend.tryAcquire(scope)).toBeUndefined();
    expect([backend.stagedCount, events]).toEqual([2, []]);
    backend.exitBatch();
    expect(backend.tryAcquire(scope)).toBeUndefined();
    expect(events).toEqual(["submit 2"]);
  });

  // Aim: exhaustion takes back what others have completed, all of it, before it waits or submits anything.
  test("acquiring with none idle takes back everything that a stranger completed, without waiting", async () => {
    const events: string[] = [];
    const probe = {
      onSubmit: (count: number) => void events.push(`submit ${count}`),
      onSleep: () => void events.push("sleep"),
    };
    await using world = new World("manual", { concurrency: 4 }, { probe });
    const { backend } = world;
    using scope = backend.openScope();
    const returned: string[] = [];
    const slot = createIoReturn(({ result }) => void returned.push(`returned ${result.result}`));
    for (let block = 0; block < 3; block++) world.read(backend.acquire(scope, slot), block, block);
    backend.enterBatch();
    world.read(backend.acquire(scope), 3, 3);
    events.length = 0;
    for (const handle of [2, 0, 1]) world.controller.complete(handle);
    const handle = backend.acquire(scope);
    expect(events).toEqual([]);
    expect([backend.idleCount, backend.inFlightCount, backend.stagedCount]).toEqual([2, 0, 1]);
    expect(backend.statistics().foreignCompletions).toBe(3);
    expect(returned, "outcomes are handed over at once").toHaveLength(3);
    handle.release();
    backend.exitBatch();
  });
});

describe("what is said about an I/O", () => {
  type Saying = [
    what: string,
    code: AioErrorCode | undefined,
    say: (world: World, handle: IoHandle) => unknown,
  ];
  const start = (world: World, handle: IoHandle): void =>
    handle.startReadv(world.lease, [{ segment: 0, offsetBytes: 0, lengthBytes: BLOCK_BYTES }], 0);

  // Aim: a wrong call is refused and changes nothing. Method: each one on a handle that is then released or used.
  test.each<Saying>([
    ["a start without a target", "ERR_AIO_BAD_STATE", start],
    [
      "a second target",
      "ERR_AIO_BAD_STATE",
      (_world, handle) => handle.setTarget(FILE_TARGET, []).setTarget(FILE_TARGET, []),
    ],
    ["a target from nowhere", "ERR_AIO_BAD_STATE", (_world, handle) => handle.setTarget(9, [])],
    [
      "a target of nine words",
      "ERR_AIO_BAD_STATE",
      (_world, handle) => handle.setTarget(FILE_TARGET, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
    ["a callback from nowhere", "ERR_AIO_BAD_CALLBACK", (_world, handle) => handle.addCallback(9)],
    ["no callback at all", "ERR_AIO_BAD_CALLBACK", (_world, handle) => handle.addCallback(0)],
    [
      "a fifth callback",
      "ERR_AIO_TOO_MANY_CALLBACKS",
      (_world, handle) => {
        for (let count = 0; count < 5; count++) handle.addCallback(FILE_CALLBACK);
      },
    ],
    [
      "a callback's data beyond a byte",
      undefined,
      (_world, handle) => handle.addCallback(FILE_CALLBACK, 256),
    ],
    ["data twice", "ERR_AIO_BAD_STATE", (_world, handle) => handle.setData([1]).setData([1])],
    ["no data", "ERR_AIO_BAD_STATE", (_world, handle) => handle.setData([])],
    [
      "more data than blocks",
      "ERR_AIO_BAD_STATE",
      (_world, handle) => handle.setData(Array.from({ length: 17 }, () => 1)),
    ],
    [
      "no pieces of memory",
      "ERR_AIO_BAD_STATE",
      (world, handle) => handle.setTarget(FILE_TARGET, []).startReadv(world.lease, [], 0),
    ],
    [
      "more pieces than blocks",
      "ERR_AIO_BAD_STATE",
      (world, handle) => {
        const piece = { segment: 0, offsetBytes: 0, lengthBytes: 1 };
        const pieces = Array.from({ length: 17 }, () => piece);
        handle.setTarget(FILE_TARGET, []).startReadv(world.lease, pieces, 0);
      },
    ],
    [
      "a position below zero",
      undefined,
      (world, handle) => {
        const piece = { segment: 0, offsetBytes: 0, lengthBytes: 1 };
        handle.setTarget(FILE_TARGET, []).startReadv(world.lease, [piece], -1);
      },
    ],
  ])("%s is refused and leaves the handle as it was", async (_what, code, say) => {
    await using world = new World("manual");
    const { backend } = world;
    backend.scope((scope) => {
      const handle = backend.acquire(scope);
      expect(() => say(world, handle)).toThrow(code === undefined ? RangeError : withCode(code));
      expect(lifeOf(backend, handle.id)).toEqual([HANDLE_STATE.handedOut, 1]);
      handle.release();
    });
    expect(world.warnings).toEqual([]);
  });

  test("comes too late once the I/O has been started", async () => {
    await using world = new World("manual");
    const { backend } = world;
    using scope = backend.openScope();
    const handle = backend.acquire(scope);
    world.read(handle, 0, 0);
    const late = [
      () => handle.flag("synchronous"),
      () => handle.setTarget(FILE_TARGET, []),
      () => handle.addCallback(FILE_CALLBACK),
      () => handle.setData([1]),
      () => handle.ref(),
      () => start(world, handle),
    ];
    for (const call of late) expect(call).toThrow(withCode("ERR_AIO_BAD_STATE"));
    expect(() => handle.release()).toThrow(withCode("ERR_AIO_BAD_RELEASE"));
    expect(lifeOf(backend, handle.id)).toEqual([HANDLE_STATE.submitted, 1]);
  });
});

// Aim: a return slot may be gone with its scope. Method: end the scope in flight, complete, and look at slot and counts.
test("an I/O whose scope has ended goes on, but its return slot is never written", async () => {
  await using world = new World("manual");
  const { backend } = world;
  let calls = 0;
  const slot = createIoReturn(() => void (calls += 1));
  const ref = backend.scope((scope) => {
    const handle = backend.acquire(scope, slot);
    const taken = handle.ref();
    world.read(handle, 9, 0);
    return taken;
  });
  slot.result.result = 4711;
  slot.target.fill(-1);
  world.controller.completeAll();
  backend.wait(ref);
  expect(slot.result).toEqual({ callback: 0, status: "unknown", error: 0, result: 4711 });
  expect([...slot.target]).toEqual(Array.from({ length: 8 }, () => -1));
  expect(calls).toBe(0);
  expect(world.words(0)[0], "the I/O was done all the same").toBe(9);
  expect([backend.idleCount, world.warnings]).toEqual([backend.concurrency, []]);
});
