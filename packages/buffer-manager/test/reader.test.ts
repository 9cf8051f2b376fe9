/**
 * Reading blocks: which neighbours one I/O takes, who reads when several want the same, and what is left after a failure.
 */
import { describe, expect, test } from "vitest";

import { refcountOf } from "../src/buffer-state.js";
import { READ_FLAG } from "../src/read-callbacks.js";
import type { Relation } from "../src/tag.js";
import { blockOf, makePage, METHODS, PAGE, TABLE } from "./data-directory.js";
import { ReadWorld } from "./read-world.js";

const code = (code: string): unknown => expect.objectContaining({ code });

const variants = METHODS.flatMap((method) => [[method, false] as const, [method, true] as const]);

describe.each(variants)("method %s (contiguous %s)", (method, contiguous) => {
  test("reads blocks into pinned buffers, and finds them there the next time", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 20);
    const backend = world.backend();
    const buffers = await backend.read(2, 12);
    expect(buffers.map((buffer) => blockOf(backend.page(buffer)))).toEqual(
      Array.from({ length: 12 }, (_, i) => i + 2),
    );
    expect(buffers.every((buffer) => backend.isValid(buffer))).toBe(true);
    expect(backend.counted("read")).toEqual({ count: 1, bytes: 12 * PAGE });
    expect(backend.counted("hit").count).toBe(0);
    expect(await backend.read(2, 12)).toEqual(buffers);
    expect(backend.counted("read").count).toBe(1);
    expect(backend.counted("hit").count).toBe(12);
  });

  // Aim: one read however many want the block. Method: eight backends ask for it at once.
  test("reads a block once that eight backends want at once", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 4);
    const backends = Array.from({ length: 8 }, () => world.backend());
    const reads = await Promise.all(backends.map(async (backend) => backend.read(3, 1)));
    expect(new Set(reads.flat()).size, "one mapping entry").toBe(1);
    const sum = (operation: "read" | "hit"): number =>
      backends.reduce((sum, backend) => sum + backend.counted(operation).count, 0);
    expect([sum("read"), sum("hit")]).toEqual([1, 7]);
    for (const [index, backend] of backends.entries())
      expect(blockOf(backend.page(reads[index]?.[0] ?? 0))).toBe(3);
  });

  test("reads a block again that could not be read", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 8);
    const backend = world.backend();
    {
      using fault = world.pool.aio.faults.arm({ point: "instead", operation: "readv", result: -5, times: 1 });
      const failed = backend.read(0, 4);
      await expect(failed).rejects.toThrow(code("ERR_BUFFER_READ_FAILED"));
      await expect(failed).rejects.toMatchObject({
        message: `could not read blocks 0..3 of "${world.directory.segment(TABLE, 0)}"`,
        cause: { code: "ERR_AIO_IO", errno: 5 },
      });
      expect(fault.hits).toBe(1);
    }
    for (let buffer = 1; buffer <= 4; buffer++) {
      expect([backend.isValid(buffer), backend.hasFailed(buffer)]).toEqual([false, true]);
    }
    backend.release(1, 2, 3, 4);
    const buffers = await backend.read(0, 4);
    expect(buffers, "the mapping was kept").toEqual([1, 2, 3, 4]);
    expect(buffers.map((buffer) => [blockOf(backend.page(buffer)), backend.hasFailed(buffer)])).toEqual(
      [0, 1, 2, 3].map((block) => [block, false]),
    );
  });

  test("reads on where a read came only in part", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 16);
    const backend = world.backend();
    using one = world.pool.aio.faults.arm({
      point: "afterwards",
      operation: "readv",
      result: 3 * PAGE + 100,
      times: 1,
    });
    using two = world.pool.aio.faults.arm({
      point: "afterwards",
      operation: "readv",
      result: 5 * PAGE,
      times: 1,
    });
    const buffers = await backend.read(0, 16);
    expect(buffers.map((buffer) => blockOf(backend.page(buffer)))).toEqual(
      Array.from({ length: 16 }, (_, i) => i),
    );
    expect(backend.counted("read")).toEqual({ count: 3, bytes: (16 + 13 + 8) * PAGE });
    expect([one.hits, two.hits]).toEqual([3, 2]);
  });

  test("does not read beyond the end of a file, and leaves no page that nobody wrote", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 3);
    const backend = world.backend();
    await expect(backend.read(1, 4)).rejects.toThrow(code("ERR_BUFFER_SHORT_READ"));
    expect([1, 2, 3, 4].map((buffer) => backend.isValid(buffer))).toEqual([true, true, false, false]);
    backend.release(1, 2, 3, 4);
  });

  test("unpins what it pinned, and takes no I/O lock along, when a file is missing", async () => {
    await using world = new ReadWorld(method, { segmentBlocks: 8, contiguous });
    world.directory.writeBlocks(TABLE, 8);
    const backend = world.backend();
    await expect(backend.read(8, 4)).rejects.toThrow(code("ERR_BUFFER_FILE"));
    world.directory.writeBlocks(TABLE, 16);
    backend.release(...backend.context.pins.buffers().map((buffer) => buffer + 1));
    expect((await backend.read(8, 4)).map((buffer) => blockOf(backend.page(buffer)))).toEqual([8, 9, 10, 11]);
  });

  // Aim: the same for pages that one backend alone sees. Method: a read, hits, a failure, a part, a bad page.
  test("reads a temporary relation into the backend's own buffers", async () => {
    await using world = new ReadWorld(method, { contiguous });
    const backend = world.backend();
    const temporary: Relation = { ...TABLE, persistence: "temporary", owner: backend.context.id };
    world.directory.writeBlocks(temporary, 20);
    const blocks = (buffers: number[]): number[] => buffers.map((buffer) => blockOf(backend.page(buffer)));
    const first = await backend.read(0, 4, 0, temporary);
    expect([first, blocks(first)]).toEqual([
      [-1, -2, -3, -4],
      [0, 1, 2, 3],
    ]);
    expect(await backend.read(0, 4, 0, temporary)).toEqual(first);
    expect([backend.counted("read", true).count, backend.counted("hit", true).count]).toEqual([1, 4]);
    expect(backend.counted("read").count).toBe(0);
    const { faults } = world.pool.aio;
    {
      using part = faults.arm({ point: "afterwards", operation: "readv", result: 2 * PAGE, times: 1 });
      expect(blocks(await backend.read(4, 6, 0, temporary))).toEqual([4, 5, 6, 7, 8, 9]);
      expect(part.hits).toBe(2);
    }
    {
      using failure = faults.arm({ point: "instead", operation: "readv", result: -5, times: 1 });
      await expect(backend.read(10, 2, 0, temporary)).rejects.toThrow(code("ERR_BUFFER_READ_FAILED"));
      expect(failure.hits).toBe(1);
    }
    world.directory.writeBlock(temporary, 13, makePage(13, { checksum: true }));
    await expect(backend.read(12, 4, 0, temporary)).rejects.toMatchObject({ block: 13, pages: 1 });
    expect(world.messages("bad-page")).toEqual(['invalid page in block 13 of relation "base/5/t0_16384"']);
    const zeroed = await backend.read(12, 4, READ_FLAG.zeroOnError, temporary);
    expect(blocks(zeroed)).toEqual([12, 0, 14, 15]);
    for (const buffer of backend.local.pinnedBuffers()) {
      while (backend.local.pinCount(buffer) > 0) backend.local.unpin(buffer);
      expect(refcountOf(backend.local.state(buffer)), "the I/O's pin is gone").toBe(0);
    }
  });

  test("executes a read at once that is asked for so", async () => {
    await using world = new ReadWorld(method, { contiguous });
    world.directory.writeBlocks(TABLE, 4);
    const backend = world.backend({ mayBlock: true });
    const operation = backend.operation();
    const buffers = new Int32Array(4);
    expect(backend.reader.startRead(operation.begin(buffers, 0, 0, 4, READ_FLAG.synchronously))).toBe(4);
    expect(operation.needWait).toBe(true);
    expect(backend.isValid(1)).toBe(method !== "sync");
    backend.reader.waitRead(operation);
    expect([...buffers].map((buffer) => blockOf(backend.page(buffer)))).toEqual([0, 1, 2, 3]);
  });
});

describe("a read", () => {
  test("ends before a block that is there, whose pin the next call takes over", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 8);
    const backend = world.backend();
    const [cached = 0] = await backend.read(2, 1, READ_FLAG.synchronously);
    const operation = backend.operation();
    const buffers = new Int32Array(5);
    expect(await backend.reader.startReadAsync(operation.begin(buffers, 0, 0, 5, 0))).toBe(2);
    expect(operation.needWait).toBe(true);
    expect([...buffers]).toEqual([2, 3, cached, 0, 0]);
    expect(backend.context.pins.count(cached - 1)).toBe(2);
    const hits = backend.counted("hit").count;
    const next = backend.operation();
    expect(await backend.reader.startReadAsync(next.begin(buffers, 2, 2, 3, 0))).toBe(1);
    expect(next.needWait).toBe(false);
    expect([backend.context.pins.count(cached - 1), backend.counted("hit").count]).toEqual([2, hits]);
    expect(await backend.reader.startReadAsync(next.begin(buffers, 3, 3, 2, 0))).toBe(2);
    world.controller.completeAll();
    await backend.reader.waitReadAsync(operation);
    await backend.reader.waitReadAsync(next);
    expect([...buffers].map((buffer) => blockOf(backend.page(buffer)))).toEqual([0, 1, 2, 3, 4]);
  });

  test("ends at the end of a segment", async () => {
    await using world = new ReadWorld("manual");
    const backend = world.backend();
    world.directory.writeBlocks(TABLE, 1);
    expect(backend.context.files.runMax(131_064)).toBe(8);
    await using small = new ReadWorld("manual", { segmentBlocks: 8 });
    small.directory.writeBlocks(TABLE, 24);
    const other = small.backend();
    const operation = other.operation();
    const buffers = new Int32Array(16);
    expect(await other.reader.startReadAsync(operation.begin(buffers, 0, 5, 16, 0))).toBe(3);
    expect(buffers.filter((buffer) => buffer !== 0).length).toBe(3);
    const next = other.operation();
    expect(await other.reader.startReadAsync(next.begin(buffers, 3, 8, 13, 0))).toBe(8);
    small.controller.completeAll();
    await other.reader.waitReadAsync(operation);
    await other.reader.waitReadAsync(next);
  });

  test("that needs no wait must not be waited for", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 2);
    const backend = world.backend({ mayBlock: true });
    await backend.read(0, 1, READ_FLAG.synchronously);
    const operation = backend.operation();
    expect(backend.reader.startRead(operation.begin(new Int32Array(1), 0, 0, 1, 0))).toBe(1);
    expect(() => backend.reader.waitRead(operation)).toThrow(code("ERR_BUFFER_NO_READ"));
    await expect(backend.reader.waitReadAsync(operation)).rejects.toThrow(code("ERR_BUFFER_NO_READ"));
  });

  test("of a first block that another backend reads waits for that, and is a hit", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 8);
    const [one, two] = [world.backend(), world.backend()];
    const operation = one.operation();
    await one.reader.startReadAsync(operation.begin(new Int32Array(4), 0, 0, 4, 0));
    const other = two.operation();
    const buffers = new Int32Array(4);
    const joined = two.reader.startReadAsync(other.begin(buffers, 0, 0, 4, 0));
    world.controller.completeAll();
    expect(await joined).toBe(1);
    expect([other.needWait, two.counted("hit").count, two.counted("read").count]).toEqual([false, 1, 0]);
    await one.reader.waitReadAsync(operation);
    two.release(...buffers);
  });

  test("of a later block that another backend reads ends before it", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 8);
    const [one, two] = [world.backend(), world.backend()];
    const operation = one.operation();
    await one.reader.startReadAsync(operation.begin(new Int32Array(2), 0, 3, 2, 0));
    const other = two.operation();
    const buffers = new Int32Array(8);
    expect(await two.reader.startReadAsync(other.begin(buffers, 0, 0, 8, 0))).toBe(3);
    expect(
      buffers.every((buffer) => buffer !== 0),
      "what follows stays pinned",
    ).toBe(true);
    world.controller.completeAll();
    await two.reader.waitReadAsync(other);
    expect(await two.reader.startReadAsync(other.begin(buffers, 3, 3, 5, 0))).toBe(1);
    await one.reader.waitReadAsync(operation);
  });

  // Aim: several reads of one backend end in any order. Method: three are in flight, the last one completes first.
  test("may end before an earlier one", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 24);
    const backend = world.backend();
    const reads = [];
    for (const block of [0, 8, 16]) {
      const operation = backend.operation();
      const buffers = new Int32Array(8);
      expect(await backend.reader.startReadAsync(operation.begin(buffers, 0, block, 8, 0))).toBe(8);
      reads.push({ operation, buffers, block });
    }
    for (const handle of world.controller.submitted().toReversed()) world.controller.complete(handle);
    for (const { operation, buffers, block } of reads.toReversed()) {
      await backend.reader.waitReadAsync(operation);
      expect([...buffers].map((buffer) => blockOf(backend.page(buffer)) - block)).toEqual([
        0, 1, 2, 3, 4, 5, 6, 7,
      ]);
    }
  });

  // Aim: a read that somebody gave up is ended by whoever notices, and the pages can be read again.
  test("that its backend left alone is completed all the same", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 8);
    const [one, two] = [world.backend(), world.backend()];
    const operation = one.operation();
    const buffers = new Int32Array(4);
    await one.reader.startReadAsync(operation.begin(buffers, 0, 0, 4, 0));
    one.release(...buffers);
    world.controller.completeAll();
    expect((await two.read(0, 4)).map((buffer) => blockOf(two.page(buffer)))).toEqual([0, 1, 2, 3]);
    expect([two.counted("read").count, two.counted("hit").count]).toEqual([0, 4]);
  });

  test("that cannot find a buffer unpins those it has", async () => {
    await using world = new ReadWorld("manual", { buffers: 16 });
    world.directory.writeBlocks(TABLE, 32);
    const backend = world.backend();
    const buffers = await backend.read(0, 12, READ_FLAG.synchronously);
    const more = new Int32Array(8);
    await expect(backend.reader.startReadAsync(backend.operation().begin(more, 0, 16, 8, 0))).rejects.toThrow(
      code("ERR_BUFFER_NO_UNPINNED"),
    );
    expect([...more]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(backend.context.pins.pinnedCount).toBe(buffers.length);
  });

  test("that fails before it is started gives the I/O locks back", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 8);
    let isArmed = true;
    const backend = world.backend({
      hook: (point) => {
        if (point === "read:before-start" && isArmed) throw new Error("stopped on purpose");
      },
    });
    const other = world.backend();
    await expect(backend.read(0, 4)).rejects.toThrow("stopped on purpose");
    expect(backend.context.aio.idleCount).toBe(backend.context.aio.concurrency);
    expect(backend.hasFailed(1)).toBe(true);
    isArmed = false;
    await other.read(0, 4, READ_FLAG.synchronously);
    expect(other.hasFailed(1)).toBe(false);
  });

  test("is stopped before a page is looked at, in whatever thread", async () => {
    await using world = new ReadWorld(("io_uring" as const) === METHODS.at(-1) ? "io_uring" : "sync");
    world.directory.writeBlocks(TABLE, 4);
    const seen: number[] = [];
    const backend = world.backend({
      hook: (point, _, buffer) => void (point === "read:completing" && seen.push(buffer)),
    });
    await backend.read(0, 3);
    expect(seen).toEqual([0, 1, 2]);
  });
});

describe("on a thread that must not sleep", () => {
  test("a read that has to wait is refused, and nothing is kept", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 4);
    const backend = world.backend();
    const buffers = new Int32Array(2);
    expect(() => backend.reader.startRead(backend.operation().begin(buffers, 0, 0, 2, 0))).toThrow(
      code("ERR_BUFFER_WOULD_BLOCK"),
    );
    expect([...buffers, backend.context.pins.pinnedCount]).toEqual([0, 0, 0]);
  });
});

test("advice is given for reads that wait for their waiter", async () => {
  await using world = new ReadWorld("sync");
  world.directory.writeBlocks(TABLE, 4);
  const backend = world.backend();
  const operation = backend.operation();
  const buffers = new Int32Array(4);
  expect(await backend.reader.startReadAsync(operation.begin(buffers, 0, 0, 4, READ_FLAG.issueAdvice))).toBe(
    4,
  );
  expect(backend.counted("read").count, "nothing is read yet").toBe(0);
  await backend.reader.waitReadAsync(operation);
  expect(blockOf(backend.page(buffers[3] ?? 0))).toBe(3);
  expect(makePage(3).equals(backend.page(buffers[3] ?? 0))).toBe(true);
});
