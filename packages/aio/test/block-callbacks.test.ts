/** Reads of whole blocks: what bytes become, what is said about failures, and how an issuer gets the rest of a short read. */
import { constants } from "node:os";
import { describe, expect, test } from "vitest";

import { createBlockCallbacks } from "../src/block-callbacks.js";
import type { AioErrorCode } from "../src/errors.js";
import type { ArmedFault } from "../src/faults.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import { HANDLE } from "../src/layout.js";
import type { MethodName } from "../src/method.js";
import { AioRegistry } from "../src/registry.js";
import { createIoReturn } from "../src/result.js";
import type { IoReturn } from "../src/result.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";
import { fillPagesRegistry, PAGES, pageLog } from "./pages-registry.mjs";

const { EIO, EROFS, EACCES } = constants.errno;

function createWorld(method: MethodName): World {
  const registry = fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
  return new World(method, { registry, registryModule: new URL("pages-registry.mjs", import.meta.url) });
}

/** One I/O for blocks, waited for. @returns its slot */
function readOnce(world: World, block: number, blocks: number, result?: number): IoReturn {
  const { backend } = world;
  const slot = createIoReturn();
  backend.scope((scope) => {
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    handle
      .setTarget(PAGES.target, [world.lease.fd, world.lease.slot, block, blocks])
      .addCallback(PAGES.blocks)
      .startTransfer(false, world.lease, 0, block * BLOCK_BYTES, blocks * BLOCK_BYTES, block * BLOCK_BYTES);
    if (world.system.choice.method === "manual") world.controller.complete(ref.handle, result);
    backend.wait(ref);
  });
  return slot;
}

/** What an issuer does: reads until it has everything, from the first missing block on. Errors are raised. */
function readAll(world: World, block: number, blocks: number): void {
  for (let done = 0; done < blocks;) {
    const slot = readOnce(world, block + done, blocks - done);
    if (slot.result.status === "error") world.backend.report(slot, "error");
    done += slot.result.result;
  }
}

/** Blocks of each I/O of this thread's backend, as it is started. */
function watchSizes(world: World): number[] {
  const sizes: number[] = [];
  const { table } = world.backend;
  table.onMove = (handle, _from, to) => {
    if (to === HANDLE_STATE.defined) sizes.push(table.get(handle, HANDLE.lengthBytes) / BLOCK_BYTES);
  };
  return sizes;
}

function arm(world: World, result: number, point: "afterwards" | "instead" = "afterwards"): ArmedFault {
  return world.system.faults.arm({ point, operation: "readv", fd: world.lease.fd, result });
}

const withCode = (code: AioErrorCode, message: RegExp): Error =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error;

describe("bytes", () => {
  // Aim: whole blocks count, and nothing else does. Method: pretended results of a read of four blocks.
  test.each([
    [-5, { callback: PAGES.blocks, status: "error", error: 5, result: 0 }],
    [0, { callback: PAGES.blocks, status: "error", error: 0, result: 0 }],
    [8191, { callback: PAGES.blocks, status: "error", error: 0, result: 0 }],
    [8192, { callback: PAGES.blocks, status: "partial", error: 0, result: 1 }],
    [24_577, { callback: PAGES.blocks, status: "partial", error: 0, result: 3 }],
    [32_767, { callback: PAGES.blocks, status: "partial", error: 0, result: 3 }],
    [32_768, { callback: 0, status: "ok", error: 0, result: 4 }],
  ])("%i of a read of four blocks", async (bytes, distilled) => {
    await using world = createWorld("manual");
    expect(readOnce(world, 3, 4, bytes).result).toEqual(distilled);
  });

  test("must be a size, and the id one that can be registered", () => {
    const options = { rangeOf: () => ({ file: "f", block: 0, blocks: 1 }) };
    for (const id of [0, -1, 64, 1.5])
      expect(() => createBlockCallbacks(id, 8192, options)).toThrow(RangeError);
    for (const bytes of [0, -1, 1.5])
      expect(() => createBlockCallbacks(1, bytes, options)).toThrow(RangeError);
    expect(createBlockCallbacks(1, 8192, options).name).toBe("block-read");
    expect(createBlockCallbacks(1, 8192, { ...options, name: "md" }).name).toBe("md");
  });
});

describe("a failure", () => {
  test("is logged where it is completed and raised where it was issued, in the same words", async () => {
    await using world = createWorld("manual");
    pageLog.length = 0;
    const failed = readOnce(world, 3, 4, -EIO);
    const message = `could not read blocks 3..6 of file ${world.lease.fd}: EIO, i/o error`;
    expect(pageLog).toEqual([message]);
    expect(() => world.backend.report(failed, "error")).toThrow(
      expect.objectContaining({
        code: "ERR_AIO_IO",
        errno: EIO,
        errnoName: "EIO",
        operation: "readv",
        message,
      }) as Error,
    );
    expect(() => world.backend.report(failed, "warning")).not.toThrow();
  });

  test("of one block, and of a file that just ended, say so", async () => {
    await using world = createWorld("manual");
    const one = readOnce(world, 9, 1, 17);
    expect(() => world.backend.report(one, "error")).toThrow(
      withCode("ERR_AIO_SHORT", /^could not read block 9 of file \d+: read only 0 of 8192 bytes$/),
    );
    const four = readOnce(world, 3, 4, 8192);
    expect(() => world.backend.report(four, "error")).toThrow(
      withCode("ERR_AIO_SHORT", /^could not read blocks 3\.\.6 of file \d+: read only 8192 of 32768 bytes$/),
    );
  });

  test("is nothing to report where there is none", async () => {
    await using world = createWorld("manual");
    const slot = readOnce(world, 0, 1);
    expect(() => world.backend.report(slot, "error")).toThrow(
      withCode("ERR_AIO_BAD_STATE", /nothing to report/),
    );
    expect(() => world.backend.report(createIoReturn(), "error")).toThrow(
      withCode("ERR_AIO_BAD_STATE", /unknown/),
    );
  });
});

describe.each([...METHODS, "manual" as const])("short reads with method %s", (method) => {
  // Aim: an issuer's loop gets everything, whatever each I/O brings. Method: cut results; bytes not reported are zeroed,
  // so that a loop which trusts them is seen in the data.
  test.each([
    [8192, 8, [8, 7, 6, 5, 4, 3, 2, 1]],
    [16_384, 8, [8, 6, 4, 2]],
    [12_288, 3, [3, 2, 1]],
    [8192, 1, [1]],
  ])("cut to %i bytes are continued at the first missing block", async (bytes, blocks, expected) => {
    await using world = createWorld(method);
    const sizes = watchSizes(world);
    using fault = arm(world, bytes);
    readAll(world, 2, blocks);
    expect(sizes).toEqual(expected);
    expect(fault.hits).toBe(expected.length);
    for (let block = 2; block < 2 + blocks; block++) {
      expect(new Set(world.words(block))).toEqual(new Set([block]));
    }
  });

  test("below one block are errors, and their bytes are not there", async () => {
    await using world = createWorld(method);
    world.words(5).fill(0xffff_ffff);
    using fault = arm(world, 17);
    expect(() => readAll(world, 5, 1)).toThrow(
      withCode("ERR_AIO_SHORT", /^could not read block 5 .*read only 0 of 8192 bytes$/),
    );
    expect(fault.hits).toBe(1);
    expect(world.words(5)[8], "beyond the 17 bytes").toBe(0);
  });

  test("at the end of the file give the blocks before it", async () => {
    await using world = createWorld(method);
    const slot = readOnce(world, 62, 8);
    expect(slot.result).toEqual({ callback: PAGES.blocks, status: "partial", error: 0, result: 2 });
    expect(() => readAll(world, 64, 1)).toThrow(withCode("ERR_AIO_SHORT", /block 64 /));
  });

  // Aim: a failed read may be tried again, and is a new I/O. Method: arm an error, read twice, disarm, read.
  test.each([
    [EIO, "EIO, i/o error"],
    [EROFS, "EROFS, read-only file system"],
    [EACCES, "EACCES, permission denied"],
  ])(
    "that fail with errno %i fail again when repeated, and succeed when it has passed",
    async (errno, text) => {
      await using world = createWorld(method);
      const sizes = watchSizes(world);
      for (const point of ["instead", "afterwards"] as const) {
        using fault = arm(world, -errno, point);
        for (let attempt = 0; attempt < 2; attempt++) {
          expect(() => readAll(world, 1, 2)).toThrow(
            withCode("ERR_AIO_IO", new RegExp(`blocks 1\\.\\.2 .*: ${text}$`)),
          );
        }
        expect(fault.hits).toBe(2);
      }
      readAll(world, 1, 2);
      expect(sizes).toEqual([2, 2, 2, 2, 2]);
      expect([world.words(1)[0], world.words(2)[0]]).toEqual([1, 2]);
    },
  );
});
