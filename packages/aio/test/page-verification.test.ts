/**
 * An upper layer that looks at the pages it gets, as a buffer manager does: who hears of a bad page, in which words, and
 * how many can be counted. The callbacks are in pages-registry.mjs.
 */
import { writeSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { createBlockCallbacks } from "../src/block-callbacks.js";
import { COMBINE_MAX } from "../src/layout.js";
import type { MethodName } from "../src/method.js";
import { AioRegistry } from "../src/registry.js";
import { createIoReturn } from "../src/result.js";
import type { IoReturn } from "../src/result.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BackendThread } from "./backend-thread.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";
import { BAD_PAGES_MAX, fillPagesRegistry, PAGES, pageLog, ZERO_ON_ERROR } from "./pages-registry.mjs";

const BAD = 0x0bad_0bad;
const ZEROED = 1 << 7;

function createWorld(method: MethodName): World {
  const registry = fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
  const registryModule = new URL("pages-registry.mjs", import.meta.url);
  pageLog.length = 0;
  return new World(method, { registry, registryModule, combineMax: COMBINE_MAX });
}

function spoil(world: World, block: number): void {
  const page = new Uint8Array(new Uint32Array(BLOCK_BYTES / 4).fill(BAD).buffer);
  writeSync(world.file.fd, page, 0, BLOCK_BYTES, block * BLOCK_BYTES);
}

/** Starts a verified read of this thread's backend. */
function start(world: World, block: number, blocks: number, flags = 0): { ref: WaitRef; slot: IoReturn } {
  const { backend } = world;
  const slot = createIoReturn();
  const handle = backend.acquire(backend.openScope(), slot);
  const ref = handle.ref();
  handle.setTarget(PAGES.target, [world.lease.fd, world.lease.slot, block, blocks]);
  handle.addCallback(PAGES.verify, flags).addCallback(PAGES.blocks);
  handle.startTransfer(false, world.lease, 0, 0, blocks * BLOCK_BYTES, block * BLOCK_BYTES);
  return { ref, slot };
}

describe("a bad page", () => {
  // Aim: a stranger who completes a read is not bothered with it. Method: a thread completes; the log is in that thread,
  // the error with the issuer, and with the thread only when it reads the page itself.
  test("is logged by whoever completes the read, and raised by those who wanted it only", async () => {
    await using world = createWorld("manual");
    await using thread = await BackendThread.start(world, "pages");
    spoil(world, 6);
    const { ref, slot } = start(world, 5, 3);
    await thread.order("complete", { handle: ref.handle });
    expect(await thread.order("log")).toEqual(["invalid page in block 6"]);
    expect(await thread.order("done", ref)).toBe(true);
    expect(pageLog).toEqual([]);
    world.backend.wait(ref);
    expect(slot.result).toEqual({ callback: PAGES.verify, status: "error", error: 1, result: 3 });
    expect(() => world.backend.report(slot, "error")).toThrow("1 invalid pages among blocks from 5");
    const own = await thread.order("read", {
      lease: world.lease,
      block: 6,
      memoryBlock: 0,
      target: PAGES.target,
      callbacks: [PAGES.verify, PAGES.blocks],
    });
    await thread.order("complete", { handle: own.handle });
    await thread.order("wait", own);
    expect(await thread.order("results")).toEqual([
      { callback: PAGES.verify, status: "error", error: 1, result: 1 },
    ]);
  });

  // Aim: a page that may be zeroed is a warning of the issuer's alone. Method: as before, with that flag.
  test("that is zeroed on the issuer's wish warns the issuer and nobody else", async () => {
    await using world = createWorld("manual");
    await using thread = await BackendThread.start(world, "pages");
    spoil(world, 6);
    const { ref, slot } = start(world, 6, 1, ZERO_ON_ERROR);
    const waited = thread.order("wait", ref);
    await thread.slept();
    world.controller.complete(ref.handle);
    await waited;
    expect(await thread.order("log"), "the waiting stranger").toEqual([]);
    world.backend.wait(ref);
    expect(slot.result).toEqual({ callback: PAGES.verify, status: "warning", error: 1 | ZEROED, result: 1 });
    expect(new Set(world.words(0))).toEqual(new Set([0]));
    pageLog.length = 0;
    world.backend.report(slot, "warning");
    expect(pageLog).toEqual(["warning: 1 invalid pages among blocks from 6"]);
  });
});

describe.each([...METHODS, "manual" as const])("method %s", (method) => {
  function finish(world: World, ref: WaitRef): void {
    if (method === "manual") world.controller.completeAll();
    world.backend.wait(ref);
  }

  test("a failed or short read is the lower layer's, and pages that did not arrive are not looked at", async () => {
    await using world = createWorld(method);
    spoil(world, 4);
    using fault = world.system.faults.arm({ point: "afterwards", result: 2 * BLOCK_BYTES });
    const { ref, slot } = start(world, 2, 4);
    finish(world, ref);
    expect(slot.result).toEqual({ callback: PAGES.blocks, status: "partial", error: 0, result: 2 });
    expect(fault.hits).toBe(1);
  });

  // Aim: a count of seven bits does not run over. Method: 128 blocks, all bad, of which 128 would be none with a flag.
  test("128 bad pages of 128 are reported as at least 127", async () => {
    await using world = createWorld(method);
    for (let block = 0; block < COMBINE_MAX; block++) spoil(world, block);
    const { ref, slot } = start(world, 0, COMBINE_MAX);
    finish(world, ref);
    expect(slot.result).toEqual({
      callback: PAGES.verify,
      status: "error",
      error: BAD_PAGES_MAX,
      result: COMBINE_MAX,
    });
    expect(() => world.backend.report(slot, "error")).toThrow("at least 127 invalid pages");
  });
});
