/**
 * Every operation, with everything that can go wrong, with every method: a table of which each cell is one small world.
 *
 * In each cell the issuer gets the distilled result that the row says, `report` raises it, the buffer is free only after
 * its own completion, and nothing hangs. The number of cells is printed, so that a cell which is skipped is seen.
 */
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";

import { afterAll, describe, expect, test } from "vitest";

import { AioError, AioIoError } from "../src/errors.js";
import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import type { FileLease } from "../src/file-table.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { IoHandle } from "../src/io-handle.js";
import type { MethodName } from "../src/method.js";
import { createIoReturn } from "../src/result.js";
import type { IoReturn } from "../src/result.js";
import { BackendThread } from "./driven-thread.js";
import type { ThreadIo } from "./driven-thread.js";
import { BLOCK_BYTES, BlockFile, METHODS, World } from "./fixture.js";

const { EIO, ENOSPC, EINTR, EAGAIN, EBADF } = constants.errno;

/** An operation of the table. */
interface Operation {
  readonly name: string;
  readonly operation: "readv" | "writev" | "fsync" | "fdatasync";
  readonly io: ThreadIo;
}

const PIECES = 4;
/** What Linux keeps in a FIFO, unless told otherwise (pipe(7)). */
const FIFO_BYTES = 65_536;
const OPERATIONS: readonly Operation[] = [
  { name: "readv, 1 piece", operation: "readv", io: { length: BLOCK_BYTES } },
  { name: "readv, 4 pieces", operation: "readv", io: { length: PIECES * BLOCK_BYTES, pieces: PIECES } },
  { name: "writev, 1 piece", operation: "writev", io: { length: BLOCK_BYTES } },
  { name: "writev, 4 pieces", operation: "writev", io: { length: PIECES * BLOCK_BYTES, pieces: PIECES } },
  { name: "writev, sync data", operation: "writev", io: { length: BLOCK_BYTES, sync: "data" } },
  { name: "writev, sync full", operation: "writev", io: { length: BLOCK_BYTES, sync: "full" } },
  { name: "fsync", operation: "fsync", io: { length: 0 } },
  { name: "fdatasync", operation: "fdatasync", io: { length: 0 } },
];

/** Bytes that a whole transfer comes to. */
const whole = ({ io }: Operation): number => io.length ?? 0;

let cells = 0;
afterAll(() => process.stdout.write(`fault matrix: ${cells} cells\n`));

/** Starts an operation of the table on a handle. */
function start(handle: IoHandle, lease: FileLease, { operation, io }: Operation): void {
  handle.setTarget(FILE_TARGET, [lease.fd, lease.slot]).addCallback(FILE_CALLBACK);
  const count = io.pieces ?? 1;
  const lengthBytes = (io.length ?? 0) / count;
  const vectors = Array.from({ length: count }, (_, piece) => {
    return { segment: 0, offsetBytes: piece * lengthBytes, lengthBytes };
  });
  if (operation === "readv") handle.startReadv(lease, vectors, 0);
  else if (operation === "writev") handle.startWritev(lease, vectors, 0, io.sync);
  else handle.startFsync(lease, operation === "fdatasync");
}

/** One I/O from start to end, in the world's own backend. */
async function perform(
  world: World,
  operation: Operation,
  slot: IoReturn = createIoReturn(),
): Promise<IoReturn> {
  const { backend } = world;
  const scope = backend.openScope();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  start(handle, world.lease, operation);
  await backend.waitAsync(ref);
  scope.end();
  return slot;
}

function thrownBy(body: () => void): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}

function expectError(world: World, slot: IoReturn, errno: number): void {
  expect(slot.result).toEqual({ callback: FILE_CALLBACK, status: "error", error: errno, result: 0 });
  const error = thrownBy(() => world.backend.report(slot, "error"));
  expect(error).toBeInstanceOf(AioIoError);
  expect(error).toMatchObject({ code: "ERR_AIO_IO", errno });
}

function expectWhole(world: World, slot: IoReturn, operation: Operation): void {
  expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: whole(operation) });
  expect(thrownBy(() => world.backend.report(slot, "error"))).toBeInstanceOf(AioError);
}

/** The file as the fixture makes it, so that a write that must not have happened is seen. */
function fillMemory(world: World): void {
  for (let slot = 0; slot < PIECES; slot++) world.words(slot).fill(slot);
}

describe.each(METHODS)("method %s", (method) => {
  describe.each(OPERATIONS)("$name", (operation) => {
    const options = { backendsMax: 3, concurrency: 4, ioWorkers: 1 } as const;

    // Aim: the kernel's error reaches the issuer as data, and as an error when it is reported. Method: armed once.
    test.each([
      ["EIO", EIO],
      ["ENOSPC", ENOSPC],
    ])("%s is the issuer's result", async (_name, errno) => {
      cells += 1;
      await using world = new World(method, options);
      fillMemory(world);
      const fault = world.system.faults.arm({
        point: "instead",
        operation: operation.operation,
        result: -errno,
      });
      expectError(world, await perform(world, operation), errno);
      expect(fault.hits).toBe(1);
      fault[Symbol.dispose]();
      expectWhole(world, await perform(world, operation), operation);
    });

    // Aim: interruptions are repeated, once, and not seen. Method: armed once, then for ever.
    test.each([
      ["EINTR", EINTR],
      ["EAGAIN", EAGAIN],
    ])("%s is repeated once", async (_name, errno) => {
      cells += 2;
      await using world = new World(method, options);
      fillMemory(world);
      const once = world.system.faults.arm({ point: "instead", times: 1, result: -errno });
      expectWhole(world, await perform(world, operation), operation);
      expect(once.hits).toBe(2);
      once[Symbol.dispose]();
      using always = world.system.faults.arm({ point: "instead", result: -errno });
      expectError(world, await perform(world, operation), errno);
      expect(always.hits).toBe(2);
    });

    // Aim: a short transfer is a success of fewer bytes, and what a read did not deliver is not left in memory.
    test("a short transfer is reported as such", async () => {
      cells += 1;
      await using world = new World(method, options);
      fillMemory(world);
      for (let slot = 0; slot < PIECES; slot++) world.words(slot).fill(77);
      const kept = Math.max(0, whole(operation) - 4096);
      using fault = world.system.faults.arm({ point: "afterwards", result: kept });
      const { result } = await perform(world, operation);
      expect(fault.hits).toBe(1);
      expect(result).toEqual({ callback: 0, status: "ok", error: 0, result: kept });
      if (operation.operation !== "readv") return;
      const last = (operation.io.pieces ?? 1) - 1;
      expect(world.words(last)[0]).toBe(last);
      expect(new Set(world.words(last).subarray(1024))).toEqual(new Set([0]));
    });

    // Aim: the buffer stays lent as long as the I/O is held up, and nobody takes the handle meanwhile. Method: the worker
    // is stopped before it executes; other handles come and go.
    test.skipIf(method !== "worker")("a delayed one keeps its handle and its buffer", async () => {
      cells += 1;
      await using world = new World(method, options);
      fillMemory(world);
      const { backend, system } = world;
      const hold = system.faults.arm({ point: "hold", operation: operation.operation });
      const slot = createIoReturn();
      const scope = backend.openScope();
      const handle = backend.acquire(scope, slot);
      const ref = handle.ref();
      world.words(0).fill(55);
      start(handle, world.lease, operation);
      await hold.arrived(1);
      expect(backend.done(ref)).toBe(false);
      expect(slot.result.status).toBe("unknown");
      expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.submitted);
      const other = backend.acquire(scope);
      expect(other.id).not.toBe(ref.handle);
      other.release();
      expect(world.words(0)[0]).toBe(55);
      hold[Symbol.dispose]();
      await backend.waitAsync(ref);
      expectWhole(world, slot, operation);
      scope.end();
    });

    // Aim: the same in the kernel's hands. Method: the file is a FIFO, empty for a read and full for a write, until the other
    // end moves. A FIFO cannot be synced, and nothing holds up a sync of a file from outside; method sync is over when
    // it returns.
    const isHeldUp = operation.io.sync === undefined && operation.operation.endsWith("v");
    test.skipIf(method !== "io_uring" || !isHeldUp)(
      "one that the kernel ends late keeps its handle and its buffer",
      async () => {
        cells += 1;
        await using world = new World(method, options);
        fillMemory(world);
        const { backend } = world;
        using fifo = new Fifo();
        const isRead = operation.operation === "readv";
        if (!isRead) fifo.fill();
        const lease = backend.openLease(fifo.fd);
        const slot = createIoReturn();
        const scope = backend.openScope();
        const handle = backend.acquire(scope, slot);
        const ref = handle.ref();
        world.words(0).fill(55);
        start(handle, lease, operation);
        expect(await isPendingForAWhile(backend.waitAsync(ref))).toBe(true);
        expect(backend.done(ref)).toBe(false);
        expect(slot.result.status).toBe("unknown");
        expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.submitted);
        const other = backend.acquire(scope);
        expect(other.id).not.toBe(ref.handle);
        other.release();
        expect(world.words(0)[0]).toBe(55);
        if (isRead) fifo.feed(whole(operation));
        else fifo.drain();
        await backend.waitAsync(ref);
        expectWhole(world, slot, operation);
        if (isRead) expect(world.words(0)[0]).toBe(0);
        backend.closingFile(lease);
        scope.end();
      },
    );

    // Aim: an I/O whose submitter dies ends, with its own result. Method: the submitter is ended right after the start,
    // another thread waits.
    test("the death of its submitter ends it", async () => {
      cells += 1;
      await using world = new World(method, options);
      fillMemory(world);
      await using issuer = await BackendThread.start(world.system);
      const ref = await issuer.io(operation.operation, world.lease, operation.io);
      await issuer.worker.terminate();
      await world.backend.waitAsync(ref);
      await issuer.recovered;
      expect(world.backend.done(ref)).toBe(true);
      expect(world.backend.table.state(ref.handle)).toBe(HANDLE_STATE.idle);
      const content = new Uint32Array(new Uint8Array(readFileSync(world.file.path)).buffer);
      expect(content[BLOCK_BYTES / 4]).toBe(1);
    });

    // Aim: a number that is another file's by now is not touched. Method: staged, then another backend closes the file
    // and opens another one, which gets the number; then submitted.
    // Method sync stages nothing that could wait.
    test.skipIf(method === "sync")("a descriptor that was closed and reused is refused", async () => {
      cells += 1;
      await using world = new World(method, options);
      const { backend } = world;
      using first = new BlockFile(4);
      using stranger = new BlockFile(4);
      await using closer = await BackendThread.start(world.system);
      const fd = openSync(first.path, "r+");
      const lease = backend.openLease(fd);
      for (let slot = 0; slot < PIECES; slot++) world.words(slot).fill(99);
      const slot = createIoReturn();
      const scope = backend.openScope();
      backend.enterBatch();
      const handle = backend.acquire(scope, slot);
      const ref = handle.ref();
      start(handle, lease, operation);
      await closer.call("closingFile", lease);
      closeSync(fd);
      const reused = openAs(stranger.path, fd);
      backend.exitBatch();
      await backend.waitAsync(ref);
      expectError(world, slot, EBADF);
      expect(world.words(0)[0]).toBe(99);
      const content = new Uint32Array(new Uint8Array(readFileSync(stranger.path)).buffer);
      expect(content[0]).toBe(0);
      closeSync(reused);
      scope.end();
      await closer.call("detach");
    });
  });
});

/** Not settled after two turns of the event loop, in which the ring is looked at. */
async function isPendingForAWhile(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  void promise.then(() => void (isSettled = true));
  await turn();
  await turn();
  return !isSettled;
}

/** A FIFO with both ends open. */
class Fifo implements Disposable {
  readonly #directory: string = mkdtempSync(join(tmpdir(), "millrace-aio-"));
  readonly fd: number;

  constructor() {
    const path = join(this.#directory, "fifo");
    execFileSync("mkfifo", [path]);
    this.fd = openSync(path, "r+");
  }

  feed(bytes: number): void {
    writeSync(this.fd, new Uint8Array(bytes));
  }

  /** A further write of any length waits. */
  fill(): void {
    this.feed(FIFO_BYTES);
  }

  drain(): void {
    expect(readSync(this.fd, new Uint8Array(FIFO_BYTES))).toBe(FIFO_BYTES);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
    rmSync(this.#directory, { recursive: true });
  }
}

/**
 * Opens a file under a number that has just been closed. Threads that end meanwhile free lower numbers, which come first.
 */
function openAs(path: string, fd: number): number {
  const lower: number[] = [];
  let opened = openSync(path, "r+");
  while (opened < fd) {
    lower.push(opened);
    opened = openSync(path, "r+");
  }
  for (const other of lower) closeSync(other);
  expect(opened, "the number is reused").toBe(fd);
  return opened;
}

/** Methods under which I/O can be held back in the queue or in the kernel. */
const QUEUEING: readonly MethodName[] = METHODS.filter((method) => method !== "sync");

describe.each(QUEUEING)("closing a file under method %s", (method) => {
  // Aim: what is submitted is waited for, and ends well. Method: a batch that is staged when the file is closed.
  test("submits and waits for what its backend has staged", async () => {
    await using world = new World(method, { ioWorkers: 1, concurrency: 8 });
    const { backend } = world;
    using file = new BlockFile(8);
    const fd = openSync(file.path, "r+");
    const lease = backend.openLease(fd);
    const slots = [createIoReturn(), createIoReturn(), createIoReturn()];
    const scope = backend.openScope();
    backend.enterBatch();
    for (const slot of slots) {
      const handle = backend.acquire(scope, slot);
      start(handle, lease, OPERATIONS[0] as Operation);
    }
    backend.closingFile(lease);
    closeSync(fd);
    for (const slot of slots) expect(slot.result).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    backend.exitBatch();
    scope.end();
  });
});

describe("closing a file whose I/O is in a worker's queue", () => {
  // Aim: the closer waits for I/O that is queued behind another. Method: the only worker is held; the closing is seen not
  // to be over; then it goes on.
  test("waits for it, and it reads the right file", async () => {
    await using world = new World("worker", { ioWorkers: 1, concurrency: 8, backendsMax: 3 });
    const { backend, system } = world;
    using file = new BlockFile(8);
    const fd = openSync(file.path, "r+");
    const lease = backend.openLease(fd);
    const hold = system.faults.arm({ point: "hold", times: 1 });
    const scope = backend.openScope();
    world.read(backend.acquire(scope), 1, 4);
    await hold.arrived(1);
    const slot = createIoReturn();
    start(backend.acquire(scope, slot), lease, OPERATIONS[0] as Operation);
    let isClosed = false;
    const closing = backend.closingFileAsync(lease).then(() => void (isClosed = true));
    await using closer = await BackendThread.start(system);
    const closingToo = closer.call("closingFile", lease);
    const refused = createIoReturn();
    start(backend.acquire(scope, refused), lease, OPERATIONS[0] as Operation);
    expectError(world, refused, EBADF);
    expect(isClosed).toBe(false);
    hold[Symbol.dispose]();
    await closing;
    await closingToo;
    closeSync(fd);
    expect(slot.result).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    scope.end();
    await closer.call("detach");
  });
});
