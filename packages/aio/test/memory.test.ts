/** The memory that I/O is done on: what may be a segment, which pieces of it there are, and direct I/O on it. */
import { closeSync, constants, openSync, readSync } from "node:fs";
import type { SharedMemory } from "@millrace/aligned-buffers";
import { createMemorySegment } from "@millrace/aligned-buffers";
import { describe, expect, test } from "vitest";

import type { AioErrorCode } from "../src/errors.js";
import { FILE_TARGET } from "../src/file-registry.js";
import { createIoReturn } from "../src/result.js";
import { SegmentTable } from "../src/segment-table.js";
import { AioSystem } from "../src/system.js";
import { BLOCK_BYTES, BlockFile, METHODS, World } from "./fixture.js";

const refusal = (message: RegExp): Error =>
  expect.objectContaining({
    code: "ERR_AIO_MEMORY" satisfies AioErrorCode,
    message: expect.stringMatching(message) as string,
  }) as Error;

/** Memory of the size of some WebAssembly pages, of which nothing is touched. */
function createWide(pages: number): SharedMemory {
  const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (of: object) => SharedMemory } })
    .WebAssembly;
  return new Memory({ initial: pages, maximum: pages, shared: true });
}

describe("a segment", () => {
  // Aim: memory that the kernel would refuse with a bare EINVAL is refused before, with words.
  test("must be a shared WebAssembly memory", () => {
    const create = (memory: SharedMemory): AioSystem =>
      AioSystem.create({ method: "sync", segments: [memory] });
    const plain = { buffer: new SharedArrayBuffer(65_536) };
    expect(() => create(plain)).toThrow(refusal(/must be a shared WebAssembly\.Memory/));
    const unshared = { buffer: new ArrayBuffer(65_536) as unknown as SharedArrayBuffer };
    expect(() => create(unshared)).toThrow(refusal(/must be a shared WebAssembly\.Memory/));
  });

  // Aim: offsets are int32 words. Method: memory just above 2 GiB, and of 2 GiB less a page, untouched.
  test("is below 2 GiB", () => {
    expect(() => new SegmentTable([createWide(32_768)], undefined)).toThrow(refusal(/less than 2 GiB/));
    const table = new SegmentTable([createWide(32_767)], undefined);
    expect(() => table.check(0, 2 ** 31 - 65_536 - 1, 1)).not.toThrow();
  });

  test("is found by its buffer, and no other buffer is", () => {
    const [one, two] = [createMemorySegment(4096), createMemorySegment(4096)];
    const table = new SegmentTable([one.memory, two.memory], undefined);
    expect([table.numberOf(two.buffer), table.numberOf(one.buffer), table.count]).toEqual([1, 0, 2]);
    expect(() => table.numberOf(new SharedArrayBuffer(4096))).toThrow(
      refusal(/take them from one of its arenas/),
    );
    expect(() => table.view(2)).toThrow(refusal(/no segment 2/));
  });
});

describe("a piece of a segment", () => {
  const table = new SegmentTable([createWide(1)], undefined);

  test.each([
    [0, 65_536],
    [65_536, 0],
    [65_535, 1],
  ])("from %i on of %i bytes is inside", (offset, length) => {
    expect(() => table.check(0, offset, length)).not.toThrow();
  });

  test.each([
    [-1, 1],
    [0, -1],
    [65_536, 1],
    [0, 65_537],
    [0.5, 1],
    [0, 1.5],
    [Number.NaN, 1],
    [0, Number.NaN],
    [Number.POSITIVE_INFINITY, 1],
  ])("from %d on of %d bytes is refused", (offset, length) => {
    expect(() => table.check(0, offset, length)).toThrow(refusal(/not inside segment 0/));
  });

  test("that does not exist cannot be read into, and the handle stays what it was", async () => {
    await using world = new World("manual");
    world.backend.scope((scope) => {
      const handle = world.backend.acquire(scope).setTarget(FILE_TARGET, []);
      for (const [segment, offsetBytes, lengthBytes] of [
        [1, 0, 1],
        [0, world.memory.buffer.byteLength, 1],
        [0, Number.NaN, 1],
      ] as const) {
        expect(() => handle.startTransfer(false, world.lease, segment, offsetBytes, lengthBytes, 0)).toThrow(
          refusal(/segment/),
        );
        const pieces = [{ segment, offsetBytes, lengthBytes }];
        expect(() => handle.startReadv(world.lease, pieces, 0)).toThrow(refusal(/segment/));
      }
      handle.release();
    });
  });
});

/** Whether there is direct I/O where the tests' files are; tmpfs had none before Linux 6.6. */
const hasDirect = ((): boolean => {
  using file = new BlockFile(1);
  try {
    closeSync(openSync(file.path, constants.O_RDWR | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  }
})();

// Aim: the memory is fit for direct I/O. Method: write blocks and read one back through a descriptor with O_DIRECT.
test.skipIf(!hasDirect).each([...METHODS, "manual" as const])(
  "direct I/O works on it, with method %s",
  async (method) => {
    await using world = new World(method);
    const { backend } = world;
    const fd = openSync(world.file.path, constants.O_RDWR | constants.O_DIRECT);
    const lease = backend.openLease(fd);
    const run = (isWrite: boolean, memory: number, length: number, offset: number): object => {
      const slot = createIoReturn();
      backend.scope((scope) => {
        const handle = backend.acquire(scope, slot).setTarget(FILE_TARGET, [fd, lease.slot]);
        const ref = handle.ref();
        handle.startTransfer(isWrite, lease, 0, memory, length, offset);
        if (method === "manual") world.controller.completeAll();
        backend.wait(ref);
      });
      return { ...slot.result };
    };
    world.words(1).fill(0xabcd);
    const done = { callback: 0, status: "ok", error: 0, result: BLOCK_BYTES };
    expect(run(true, BLOCK_BYTES, BLOCK_BYTES, 10 * BLOCK_BYTES)).toEqual(done);
    expect(run(false, 3 * BLOCK_BYTES, BLOCK_BYTES, 10 * BLOCK_BYTES)).toEqual(done);
    expect(new Set(world.words(3))).toEqual(new Set([0xabcd]));
    const seen = new Uint32Array(1);
    readSync(world.file.fd, seen, 0, 4, 10 * BLOCK_BYTES);
    expect(seen[0]).toBe(0xabcd);
    backend.closingFile(lease);
    closeSync(fd);
  },
);
