/** Staging and submitting: batches, what submits early, and who is executed at once. */
import { describe, expect, test } from "vitest";

import type { AioErrorCode } from "../src/errors.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { MethodName } from "../src/method.js";
import { createIoReturn } from "../src/result.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BlockFile, METHODS, World } from "./fixture.js";

const withCode = (code: AioErrorCode): Error => expect.objectContaining({ code }) as Error;
const QUEUING: readonly MethodName[] = [...METHODS.filter((method) => method !== "sync"), "manual"];

/** A world that notes the sizes of its submissions. */
function createWorld(method: MethodName, concurrency: number): { world: World; submits: number[] } {
  const submits: number[] = [];
  const probe = { onSubmit: (count: number) => void submits.push(count) };
  return { world: new World(method, { concurrency }, { probe }), submits };
}

describe.each([...METHODS, "manual" as const])("method %s", (method) => {
  test("batch mode cannot be entered twice, nor left without having been entered", async () => {
    await using world = new World(method);
    const { backend } = world;
    expect(() => backend.exitBatch()).toThrow(withCode("ERR_AIO_NOT_IN_BATCH"));
    backend.enterBatch();
    expect(() => backend.enterBatch()).toThrow(withCode("ERR_AIO_NESTED_BATCH"));
    expect(backend.isInBatch).toBe(true);
    backend.exitBatch();
    expect(() => backend.exitBatch()).toThrow(withCode("ERR_AIO_NOT_IN_BATCH"));
  });

  // Aim: a flagged I/O does not wait for its batch. Method: start one in a batch; it is over when the call returns.
  test("I/O flagged as synchronous is executed at once, also in a batch", async () => {
    await using world = new World(method);
    const { backend } = world;
    using scope = backend.openScope();
    backend.enterBatch();
    const slot = createIoReturn();
    const handle = backend.acquire(scope, slot).flag("synchronous");
    const ref = handle.ref();
    world.read(handle, 6, 0);
    expect(backend.table.generation(ref.handle)).toBe(ref.generation + 1);
    expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.idle);
    expect([slot.result.status, world.words(0)[0]]).toEqual(["ok", 6]);
    expect([backend.isInBatch, backend.stagedCount, backend.statistics().inline]).toEqual([true, 0, 1]);
    backend.exitBatch();
  });
});

describe.each(QUEUING)("method %s", (method) => {
  test("a scope that ends in its batch submits it, leaves batch mode and warns", async () => {
    const { world: made, submits } = createWorld(method, 8);
    await using world = made;
    const { backend } = world;
    backend.scope((scope) => {
      backend.enterBatch();
      for (let block = 0; block < 3; block++) world.read(backend.acquire(scope), block, block);
      expect([backend.stagedCount, backend.haveStaged, submits]).toEqual([3, true, []]);
    });
    expect(world.warnings).toEqual(["AIO_OPEN_BATCH"]);
    expect([submits, backend.isInBatch, backend.haveStaged]).toEqual([[3], false, false]);
  });

  // Aim: clean-up after an error may need I/O itself. Method: throw in a batch, with a hook that looks what is left of it.
  test("a scope that fails in its batch has submitted it silently before its clean-up begins", async () => {
    const { world: made, submits } = createWorld(method, 8);
    await using world = made;
    const { backend } = world;
    const seen: unknown[] = [];
    const failing = (): never =>
      backend.scope((scope) => {
        scope.onEnd((failed) => void seen.push(failed, backend.isInBatch, backend.stagedCount, [...submits]));
        backend.enterBatch();
        for (let block = 0; block < 2; block++) world.read(backend.acquire(scope), block, block);
        throw new Error("on purpose");
      });
    expect(failing).toThrow("on purpose");
    expect(seen).toEqual([true, false, 0, [2]]);
    expect(world.warnings).toEqual([]);
  });

  test("a scope inside a batch that is not its own submits what it staged and warns, and the batch goes on", async () => {
    const { world: made, submits } = createWorld(method, 8);
    await using world = made;
    const { backend } = world;
    backend.scope(() => {
      backend.enterBatch();
      backend.scope((inner) => world.read(backend.acquire(inner), 0, 0));
      expect([world.warnings, submits, backend.isInBatch]).toEqual([["AIO_NOT_SUBMITTED"], [1], true]);
      backend.exitBatch();
    });
    expect(world.warnings).toHaveLength(1);
  });

  // Aim: a batch is bounded. Method: 33 I/Os; the submission comes when the 33rd handle is taken, not before.
  test("a full batch is submitted when the next handle is acquired", async () => {
    const { world: made, submits } = createWorld(method, 64);
    await using world = made;
    const { backend } = world;
    using scope = backend.openScope();
    backend.enterBatch();
    for (let block = 0; block < 32; block++) world.read(backend.acquire(scope), block, block);
    expect([backend.stagedCount, submits]).toEqual([32, []]);
    const handle = backend.acquire(scope);
    expect([backend.stagedCount, submits]).toEqual([0, [32]]);
    world.read(handle, 32, 32);
    backend.exitBatch();
    expect(submits).toEqual([32, 1]);
    const { batches, submitted } = backend.statistics();
    expect([batches, submitted]).toEqual([2, 33]);
  });

  test("trying to acquire submits a full batch as well", async () => {
    const { world: made, submits } = createWorld(method, 64);
    await using world = made;
    const { backend } = world;
    using scope = backend.openScope();
    backend.enterBatch();
    for (let block = 0; block < 32; block++) world.read(backend.acquire(scope), block, block);
    backend.tryAcquire(scope)?.release();
    expect(submits).toEqual([32]);
    backend.exitBatch();
  });
});

// Aim: exhaustion cannot deadlock in a batch. Method: all handles staged, with methods that complete by themselves.
test.each(QUEUING.filter((method) => method !== "manual"))(
  "acquiring with all handles staged submits them and waits for one, with method %s",
  async (method) => {
    const { world: made, submits } = createWorld(method, 4);
    await using world = made;
    const { backend } = world;
    using scope = backend.openScope();
    backend.enterBatch();
    for (let block = 0; block < 4; block++) world.read(backend.acquire(scope), block, block);
    const handle = backend.acquire(scope);
    expect(submits).toEqual([4]);
    expect(backend.idleCount + backend.inFlightCount).toBe(3);
    handle.release();
    backend.exitBatch();
  },
);

// Aim: a descriptor is closed when its I/O is over, and not later. Method: a batch on two files, one of which is closed.
test("closing a file submits what is staged and waits for that file's I/O only", async () => {
  const { world: made, submits } = createWorld("manual", 8);
  await using world = made;
  using other = new BlockFile();
  const { backend } = world;
  using scope = backend.openScope();
  const otherLease = backend.openLease(other.fd);
  backend.enterBatch();
  const refs: WaitRef[] = [];
  for (const lease of [world.lease, otherLease, world.lease]) {
    const handle = backend.acquire(scope);
    refs.push(handle.ref());
    handle.setTarget(1, []).startTransfer(false, lease, 0, 0, 8192, 0);
  }
  let isClosed = false;
  const closing = backend.closingFileAsync(world.lease).then(() => void (isClosed = true));
  expect(submits).toEqual([3]);
  for (const index of [0, 2]) {
    await Promise.resolve();
    expect(isClosed).toBe(false);
    world.controller.complete((refs[index] as WaitRef).handle);
  }
  await closing;
  expect(backend.done(refs[1] as WaitRef)).toBe(false);
  expect(world.controller.submitted()).toEqual([(refs[1] as WaitRef).handle]);
  backend.exitBatch();
});
