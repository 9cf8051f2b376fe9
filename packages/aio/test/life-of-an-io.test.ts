/** The life of one I/O, with every method: from acquiring its handle to its outcome. */
import { describe, expect, test } from "vitest";

import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import { createIoReturn } from "../src/result.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

describe.each([...METHODS, "manual" as const])("method %s", (method) => {
  // Aim: one read does what it says. Method: read block 7, wait, look at memory, outcome and the states gone through.
  test("a read goes through all states and returns the block", async () => {
    await using world = new World(method);
    const { backend } = world;
    const moves: number[] = [];
    backend.table.onMove = (_handle, from, to) => void moves.push(from, to);
    const slot = createIoReturn();
    backend.scope((scope) => {
      const handle = backend.acquire(scope, slot);
      const ref = handle.ref();
      handle
        .setTarget(FILE_TARGET, [world.lease.fd, world.lease.slot])
        .addCallback(FILE_CALLBACK, 3)
        .setData([11, 12])
        .startReadv(world.lease, [{ segment: 0, offsetBytes: 0, lengthBytes: BLOCK_BYTES }], 7 * BLOCK_BYTES);
      if (method === "manual") world.controller.completeAll();
      backend.wait(ref);
      expect(backend.done(ref)).toBe(true);
      expect(backend.table.generation(ref.handle)).toBe(ref.generation + 1);
    });
    expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: BLOCK_BYTES });
    expect(slot.target[0]).toBe(world.lease.fd);
    expect(new Set(world.words(0))).toEqual(new Set([7]));
    const own = [0, 1, 1, 2, 2, 3, 3, 4];
    const shared = method === "worker" || method === "manual" ? [] : [4, 5, 5, 6];
    expect(moves).toEqual([...own, ...shared, 6, 7, 7, 0]);
    expect(world.warnings).toEqual([]);
  });

  // Aim: the asynchronous forms work on a thread that must not sleep. Method: 16 reads at once, awaited in reverse.
  test("reads can be awaited on the event loop", async () => {
    await using world = new World(method, {}, { mayBlock: false });
    const { backend } = world;
    using scope = backend.openScope();
    const reads: Promise<void>[] = [];
    for (let block = 0; block < 16; block++) {
      const handle = backend.acquire(scope);
      const ref = handle.ref();
      world.read(handle, block, block);
      reads.push(backend.waitAsync(ref));
    }
    if (method === "manual") world.controller.completeAll();
    await Promise.all(reads.reverse());
    for (let block = 0; block < 16; block++) expect(world.words(block)[0]).toBe(block);
  });
});
