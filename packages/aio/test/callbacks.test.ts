/** Callbacks: which run where, in which order, with what, and whose verdict counts for whom. */
import { describe, expect, test } from "vitest";

import { attachBackend } from "../src/attach.js";
import { createBlockCallbacks } from "../src/block-callbacks.js";
import { fileTarget } from "../src/file-registry.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import { AioRegistry } from "../src/registry.js";
import type { Callbacks, IoView } from "../src/registry.js";
import { createIoReturn } from "../src/result.js";
import type { IoStatus } from "../src/result.js";
import { BackendThread } from "./backend-thread.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";
import { fillPagesRegistry, PAGES } from "./pages-registry.mjs";

const TARGET = 1;
const REGISTRY_MODULE = new URL("pages-registry.mjs", import.meta.url);

/** Callbacks that note every call in `calls`. */
function recording(name: string, calls: string[]): Callbacks {
  const note = (phase: string, io: IoView, data: number): void =>
    void calls.push(`${phase} ${name} ${data} ${io.isOwn ? "own" : "foreign"}`);
  return {
    name,
    stage: (io, data) => note("stage", io, data),
    completeShared: (io, prior, data) => (note("shared", io, data), prior),
    completeLocal: (io, prior, data) => (note("local", io, data), prior),
  };
}

function createWorld(registry: AioRegistry, method: "manual" | "sync" = "manual"): World {
  return new World(method, { registry: registry.target(TARGET, fileTarget) });
}

describe("the order", () => {
  // Aim: the upper layer registers first and sees the lower one's verdict. Method: three recorders, each with its byte.
  test.each(["manual", "sync"] as const)(
    "is last registered first in all three phases, with method %s",
    async (method) => {
      const calls: string[] = [];
      const registry = new AioRegistry();
      for (const [index, name] of ["x", "y", "z"].entries())
        registry.callback(index + 1, recording(name, calls));
      await using world = createWorld(registry, method);
      const { backend } = world;
      using scope = backend.openScope();
      const handle = backend.acquire(scope);
      const ref = handle.ref();
      handle.setTarget(TARGET, []).addCallback(1, 10).addCallback(2, 20).addCallback(3, 255);
      handle.startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 0);
      if (method === "manual") world.controller.completeAll();
      backend.wait(ref);
      const who = method === "manual" ? "foreign" : "own";
      expect(calls).toEqual([
        "stage z 255 own",
        "stage y 20 own",
        "stage x 10 own",
        `shared z 255 ${who}`,
        `shared y 20 ${who}`,
        `shared x 10 ${who}`,
        "local z 255 own",
        "local y 20 own",
        "local x 10 own",
      ]);
    },
  );

  test("leaves out phases that a callback has not, and allows the same callback twice", async () => {
    const calls: string[] = [];
    const { completeShared, completeLocal } = recording("a", calls) as Required<Callbacks>;
    const registry = new AioRegistry()
      .callback(1, { name: "shared only", completeShared })
      .callback(2, { name: "local only", completeLocal });
    await using world = createWorld(registry);
    using scope = world.backend.openScope();
    const handle = world.backend.acquire(scope);
    const ref = handle.ref();
    handle.setTarget(TARGET, []).addCallback(1, 1).addCallback(2, 2).addCallback(1, 3).addCallback(2, 4);
    handle.startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 0);
    world.controller.completeAll();
    world.backend.wait(ref);
    expect(calls).toEqual(["shared a 3 foreign", "shared a 1 foreign", "local a 4 own", "local a 2 own"]);
  });
});

// Aim: the example everybody will copy. Method: two layers above the file, data attached, a reference, work, a wait.
test.each([...METHODS, "manual" as const])(
  "a read under three callbacks with data gives its blocks to all of them, with method %s",
  async (method) => {
    const registry = fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
    await using world = new World(method, { registry, registryModule: REGISTRY_MODULE });
    const { backend } = world;
    const moves: number[] = [];
    backend.table.onMove = (_handle, from, to) => void moves.push(from, to);
    const slot = createIoReturn();
    using scope = backend.openScope();
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    handle
      .setTarget(PAGES.target, [world.lease.fd, world.lease.slot, 7, 1])
      .addCallback(PAGES.twist, 0)
      .addCallback(PAGES.verify)
      .addCallback(PAGES.blocks)
      .setData([42])
      .startReadv(world.lease, [{ segment: 0, offsetBytes: 0, lengthBytes: BLOCK_BYTES }], 7 * BLOCK_BYTES);
    if (method === "manual") world.controller.completeAll();
    backend.wait(ref);
    expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: 1 });
    expect([...slot.target.subarray(2, 4)]).toEqual([7, 1]);
    expect(new Set(world.words(0))).toEqual(new Set([7]));
    expect(backend.table.generation(ref.handle)).toBe(ref.generation + 1);
    // The states that this thread went through; those that another thread may have brought about are left out.
    const { submitted, completedShared } = HANDLE_STATE;
    expect(moves.slice(0, 8)).toEqual([0, 1, 1, 2, 2, 3, 3, submitted]);
    expect(moves.slice(-4)).toEqual([completedShared, 7, 7, 0]);
  },
);

describe("a local completion", () => {
  // Aim: what a local callback makes of a result is the issuer's alone. Method: look at row, stranger and return slot.
  test("changes what its issuer gets, and nothing for anybody else", async () => {
    const registry = fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
    await using world = new World("manual", { registry, registryModule: REGISTRY_MODULE });
    await using thread = await BackendThread.start(world, "pages");
    const { backend } = world;
    using scope = backend.openScope();
    const slot = createIoReturn();
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    handle.setTarget(PAGES.target, [0, 0, 3, 1]).addCallback(PAGES.twist, 100).addCallback(PAGES.blocks);
    handle.startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 3 * BLOCK_BYTES);
    const waited = thread.order("wait", ref);
    await thread.slept();
    world.controller.completeAll();
    await waited;
    const distilled = { callback: 0, status: "ok", error: 0, result: 1 };
    expect(world.system.rows().map(({ result }) => result)).toEqual([distilled]);
    backend.wait(ref);
    expect(slot.result).toEqual({ ...distilled, result: 101 });
  });
});

describe("what a callback sees", () => {
  // Aim: a callback in another thread can find everything. Method: look at the view in all phases.
  test("is the whole I/O", async () => {
    const seen: unknown[] = [];
    const look = (io: IoView): void => {
      seen.push({
        handle: io.handle,
        generation: io.generation,
        owner: io.owner,
        operation: io.operation,
        offsetBytes: io.offsetBytes,
        lengthBytes: io.lengthBytes,
        rawResult: io.rawResult,
        targetId: io.targetId,
        target: [...io.target],
        vectors: io.vectorCount,
        data: Array.from({ length: io.dataLength }, (_, index) => io.dataAt(index)),
        bytes: io.vectorAt(1).byteOffset,
      });
      expect(() => io.dataAt(2)).toThrow(RangeError);
      expect(() => io.vectorAt(2)).toThrow(RangeError);
    };
    const registry = new AioRegistry().callback(1, {
      name: "look",
      stage: look,
      completeShared: (io, prior) => (look(io), prior),
      completeLocal: (io, prior) => (look(io), prior),
    });
    await using world = createWorld(registry);
    using scope = world.backend.openScope();
    const handle = world.backend.acquire(scope);
    const ref = handle.ref();
    const piece = { segment: 0, lengthBytes: BLOCK_BYTES };
    handle.setTarget(TARGET, [1, -2, 3]).addCallback(1).setData([-7, 8]);
    const pieces = [
      { ...piece, offsetBytes: 0 },
      { ...piece, offsetBytes: 5 * BLOCK_BYTES },
    ];
    handle.startReadv(world.lease, pieces, BLOCK_BYTES);
    world.controller.completeAll();
    world.backend.wait(ref);
    const common = {
      ...ref,
      owner: 0,
      operation: "readv",
      offsetBytes: BLOCK_BYTES,
      lengthBytes: 2 * BLOCK_BYTES,
      targetId: TARGET,
      target: [1, -2, 3, 0, 0, 0, 0, 0],
      vectors: 2,
      data: [-7, 8],
      bytes: 5 * BLOCK_BYTES,
    };
    const after = { ...common, rawResult: 2 * BLOCK_BYTES };
    expect(seen).toEqual([{ ...common, rawResult: 0 }, after, after]);
  });
});

// Aim: no word of an earlier life's target is taken for this one's. Method: the same handle with ever fewer words, and more.
test("a target has the words it was given, and zeros", async () => {
  await using world = createWorld(new AioRegistry());
  using scope = world.backend.openScope();
  for (const words of [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10], [], [11, 12, 13], [14]]) {
    const slot = createIoReturn();
    const handle = world.backend.acquire(scope, slot);
    const ref = handle.ref();
    handle.setTarget(TARGET, words).startNop(world.lease);
    world.controller.complete(ref.handle, 0);
    world.backend.wait(ref);
    expect([...slot.target]).toEqual([...words, ...Array.from({ length: 8 - words.length }, () => 0)]);
    expect(ref.handle, "the same handle each time").toBe(0);
  }
});

describe("an exception out of a callback", () => {
  const throwing = (): never => {
    throw new Error("on purpose");
  };
  const unknown = (_io: IoView, prior: { status: IoStatus }): never => {
    prior.status = "unknown";
    return prior as never;
  };
  const fine: Callbacks = { name: "bad", completeShared: (_io, prior) => prior };

  // Aim: nothing stays half done in silence. Method: each phase fails; every later call of every backend says so.
  test.each<[string, Callbacks, "start" | "complete" | "wait"]>([
    ["in stage", { ...fine, stage: throwing }, "start"],
    ["in the shared completion", { name: "bad", completeShared: throwing }, "complete"],
    ["in the local completion", { ...fine, completeLocal: throwing }, "wait"],
    ["or an unknown status of the shared completion", { name: "bad", completeShared: unknown }, "complete"],
    ["or an unknown status of the local completion", { ...fine, completeLocal: unknown }, "wait"],
  ])("%s stops the whole system", async (_where, callbacks, station) => {
    const registry = new AioRegistry().callback(1, callbacks).target(TARGET, fileTarget);
    const world = new World("manual", { registry });
    const { backend, system } = world;
    const other = attachBackend(system.shared, registry, { mayBlock: true });
    const scope = backend.openScope();
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    handle.setTarget(TARGET, []).addCallback(1);
    const read = (): void => handle.startTransfer(false, world.lease, 0, 0, BLOCK_BYTES, 0);
    const failure = /on purpose|unknown status/;
    if (station === "start") expect(read).toThrow(failure);
    else read();
    if (station === "complete") expect(() => world.controller.complete(ref.handle)).toThrow(failure);
    if (station === "wait") {
      world.controller.complete(ref.handle);
      expect(() => backend.wait(ref)).toThrow(failure);
    }
    const stopped = expect.objectContaining({ code: "ERR_AIO_PANIC" }) as Error;
    for (const each of [backend, other]) {
      expect(() => each.openScope()).toThrow(stopped);
      expect(() => each.enterBatch()).toThrow(stopped);
      expect(() => each.openLease(0)).toThrow(stopped);
    }
    expect(() => backend.acquire(scope)).toThrow(stopped);
    expect(() => attachBackend(system.shared, registry)).toThrow(stopped);
    expect(() => world.controller.complete(ref.handle)).toThrow(stopped);
    world.file[Symbol.dispose]();
  });
});
