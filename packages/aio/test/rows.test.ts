/** The view of handles in use: what a row shows in which state, and that no row mixes two lives or two states. */
import { describe, expect, test } from "vitest";

import { FILE_CALLBACK, FILE_TARGET, fileCallbacks, fileTarget } from "../src/file-registry.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { MethodName } from "../src/method.js";
import { AioRegistry } from "../src/registry.js";
import type { AioRow } from "../src/rows.js";
import { BackendThread } from "./backend-thread.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

/** Full rows that the hammer must have been seen to produce, and looks at most. */
const [ROWS_SEEN, LOOKS_MAX] = [500, 1_000_000];

describe("a row", () => {
  // Aim: nothing is shown that is not known yet. Method: one I/O, looked at in each state that can be seen.
  test("shows in each state what is known then", async () => {
    await using world = new World("manual");
    const { backend, system } = world;
    using scope = backend.openScope();
    expect(system.rows()).toEqual([]);
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    const head = { threadId: expect.any(Number) as number, backend: 0, handle: ref.handle, generation: 1 };
    const nothing = {
      operation: null,
      offsetBytes: null,
      lengthBytes: null,
      target: null,
      targetDescription: null,
      dataLength: null,
      rawResult: null,
      result: null,
      isSynchronous: null,
      isLocalMemory: null,
      isBuffered: null,
    };
    handle.setTarget(FILE_TARGET, [world.lease.fd, world.lease.slot]).setData([1, 2, 3]).flag("buffered");
    expect(system.rows()).toEqual([{ ...head, state: "HANDED_OUT", ...nothing }]);
    backend.enterBatch();
    handle.addCallback(FILE_CALLBACK).startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 5 * BLOCK_BYTES);
    const known = {
      ...head,
      operation: "readv",
      offsetBytes: 5 * BLOCK_BYTES,
      lengthBytes: BLOCK_BYTES,
      target: "file",
      targetDescription: fileTarget.describe(Int32Array.of(world.lease.fd)),
      dataLength: 3,
      rawResult: null,
      result: null,
      isSynchronous: false,
      isLocalMemory: false,
      isBuffered: true,
    };
    expect(system.rows()).toEqual([{ ...known, state: "STAGED" }]);
    backend.exitBatch();
    expect(system.rows()).toEqual([{ ...known, state: "SUBMITTED" }]);
    world.controller.complete(ref.handle, -5);
    const result = { callback: FILE_CALLBACK, status: "error", error: 5, result: 0 };
    expect(system.rows()).toEqual([{ ...known, state: "COMPLETED_SHARED", rawResult: -5, result }]);
    backend.wait(ref);
    expect(system.rows()).toEqual([]);
  });

  test("of a sync has no length", async () => {
    await using world = new World("manual");
    using scope = world.backend.openScope();
    for (const dataOnly of [false, true]) {
      world.backend.acquire(scope).setTarget(FILE_TARGET, []).startFsync(world.lease, dataOnly);
    }
    const shown = world.system.rows().map(({ operation, lengthBytes }) => [operation, lengthBytes]);
    expect(shown).toEqual([
      ["fsync", null],
      ["fdatasync", null],
    ]);
  });
});

// Aim: memory of the issuer's own is touched by nobody else. Method: look at the row the moment it is submitted.
test.each(METHODS)(
  "I/O on local memory shows so, and with method worker its issuer executes it (%s)",
  async (method) => {
    await using world = new World(method);
    const { backend, system } = world;
    using scope = backend.openScope();
    const rows: AioRow[] = [];
    const threads: string[] = [];
    backend.table.onMove = (_handle, _from, to) => {
      threads.push(String(to));
      if (to === HANDLE_STATE.submitted) rows.push(...system.rows());
    };
    const handle = backend.acquire(scope).flag("referencesLocal");
    const ref = handle.ref();
    world.read(handle, 3, 0);
    const isInline = backend.statistics().inline === 1;
    expect(isInline).toBe(method !== "io_uring");
    // This thread's own moves end with the life of the handle: nobody else had a part in it.
    if (isInline) expect(threads.join("")).toBe("12345670");
    expect(rows.map(({ isLocalMemory, isSynchronous }) => [isLocalMemory, isSynchronous])).toEqual([
      [true, false],
    ]);
    backend.wait(ref);
    expect(world.words(0)[0]).toBe(3);
  },
);

describe("a row that changes while it is copied", () => {
  /** A world whose target's description does something once, in the middle of the copy of a row. */
  function createWorld(method: MethodName, meanwhile: (world: World) => void): World {
    let isDone = false;
    const describeOnce = (target: Int32Array): string => {
      if (!isDone) {
        isDone = true;
        meanwhile(world);
      }
      return `file ${target[0]}`;
    };
    const registry = new AioRegistry()
      .target(FILE_TARGET, { ...fileTarget, describe: describeOnce })
      .callback(FILE_CALLBACK, fileCallbacks);
    const world: World = new World(method, { registry });
    return world;
  }

  test("is dropped if the handle has another life", async () => {
    await using world = createWorld("manual", ({ backend, controller }) => {
      controller.completeAll();
      backend.poll();
    });
    using scope = world.backend.openScope();
    world.read(world.backend.acquire(scope), 0, 0);
    expect(world.system.rows()).toEqual([]);
  });

  test("is dropped also if that life has come as far", async () => {
    await using world = createWorld("manual", (self) => {
      self.controller.completeAll();
      self.backend.poll();
      self.read(self.backend.acquire(self.backend.openScope()), 9, 9);
    });
    using scope = world.backend.openScope();
    world.read(world.backend.acquire(scope), 0, 0);
    expect(world.system.rows()).toEqual([]);
    expect(world.system.rows().map(({ offsetBytes }) => offsetBytes)).toEqual([9 * BLOCK_BYTES]);
  });

  test("is copied again if only the state has changed", async () => {
    await using world = createWorld("manual", ({ controller }) => void controller.completeAll());
    using scope = world.backend.openScope();
    world.read(world.backend.acquire(scope), 0, 0);
    const [row] = world.system.rows();
    expect([row?.state, row?.rawResult]).toEqual(["COMPLETED_SHARED", BLOCK_BYTES]);
    expect(row?.result?.status).toBe("ok");
  });
});

// Aim: no row mixes two I/Os, however fast they follow each other. Method: a thread issues I/O whose length follows from
// its offset, and whose target says both, while this one looks.
test.each(["sync", "manual"] as const)(
  "rows are never torn while a thread issues I/O, with method %s",
  async (method) => {
    await using world = new World(method);
    await using thread = await BackendThread.start(world);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    // It goes on until it is told to stop: one that was done before enough was seen would leave nothing to look at.
    const roundsMax = Number.MAX_SAFE_INTEGER;
    const hammer = thread.order("hammer", { lease: world.lease, stop, roundsMax });
    await thread.slept();
    let seen = 0;
    const torn: AioRow[] = [];
    for (let look = 0; look < LOOKS_MAX && seen < ROWS_SEEN; look++) {
      for (const row of world.system.rows()) {
        if (row.offsetBytes === null || row.lengthBytes === null) continue;
        seen += 1;
        if (!isWhole(row)) torn.push(row);
      }
    }
    Atomics.store(stop, 0, 1);
    await hammer;
    expect(torn).toEqual([]);
    expect(seen).toBeGreaterThanOrEqual(ROWS_SEEN);
  },
);

/** Whether a row of the hammer's is one of the I/Os that it issues, in a state that has such a result. */
function isWhole(row: AioRow): boolean {
  const block = (row.offsetBytes ?? -1) / BLOCK_BYTES;
  const blocks = 1 + (block % 4);
  const isKnown = row.rawResult !== null;
  const isOver = row.state.startsWith("COMPLETED");
  return (
    row.lengthBytes === blocks * BLOCK_BYTES &&
    row.dataLength === blocks &&
    row.operation === "readv" &&
    isKnown === isOver &&
    (!isKnown || row.rawResult === row.lengthBytes) &&
    (row.result === null || (row.result.status === "ok" && row.result.result === row.lengthBytes))
  );
}
