import { readFileSync, writeSync } from "node:fs";
import { constants } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  addressOf,
  COMPLETION_WORDS,
  errno,
  FSYNC_DATASYNC,
  IovecTable,
  OPCODE,
  Ring,
  SETUP,
  SQE,
} from "@millrace/io-uring";
import { Files, pages, prepareNop, reap, run, whyNoUring } from "./fixtures.js";

const PAGE = 4096;

function pattern(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
}

function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(bytes));
}

function tryCreate(flags: number): Ring | undefined {
  try {
    return Ring.create({ entries: 2, flags });
  } catch {
    return undefined;
  }
}

describe.skipIf(whyNoUring !== undefined)(`a ring ${whyNoUring ?? ""}`, () => {
  test("entries come back in order with both words of their user data", () => {
    using ring = Ring.create({ entries: 8 });
    for (let index = 0; index < 5; index++)
      ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 0xffff_fff0 + index, index);
    expect(ring.pending).toBe(5);
    expect(ring.submit()).toBe(5);
    expect([ring.pending, ring.ready]).toEqual([0, 5]);
    const out = new Int32Array(8 * COMPLETION_WORDS);
    expect(ring.reap(out, 8)).toBe(5);
    expect(Array.from(out.subarray(16, 20))).toEqual([0xffff_fff4 | 0, 4, 0, 0]);
    expect(ring.ready).toBe(0);
  });

  // Aim: the result is copied before the kernel may overwrite it (PostgreSQL 18.0 and 18.1 had it the other way
  // round). Method: the target reports, at each store, how many completions the ring still holds.
  test("the head moves on only after the last result has been copied", () => {
    using ring = Ring.create({ entries: 4 });
    for (let user = 1; user <= 4; user++) prepareNop(ring, user);
    ring.submit();
    const readyAtStore: number[] = [];
    const out = new Proxy(new Int32Array(4 * COMPLETION_WORDS), {
      get: (target, key) => Reflect.get(target, key, target) as unknown,
      set(target, key, value) {
        readyAtStore.push(ring.ready);
        return Reflect.set(target, key, value, target);
      },
    });
    expect(ring.reap(out, 3)).toBe(3);
    expect(readyAtStore).toEqual(Array.from({ length: 3 * COMPLETION_WORDS }, () => 4));
    expect(ring.ready).toBe(1);
  });

  // Aim: what was peeked at is not lost until it is taken. Method: peek twice, take some, peek again, take too many.
  test("completions that were peeked at stay until they are advanced over", () => {
    using ring = Ring.create({ entries: 4 });
    const out = new Int32Array(4 * COMPLETION_WORDS);
    for (const user of [10, 11, 12]) prepareNop(ring, user);
    ring.submit();
    const users = (count: number): number[] =>
      Array.from({ length: count }, (_, index) => out[index * COMPLETION_WORDS] ?? -1);
    expect(users(ring.peek(out, 4))).toEqual([10, 11, 12]);
    expect(users(ring.peek(out, 2))).toEqual([10, 11]);
    ring.advance(2);
    expect(users(ring.peek(out, 4))).toEqual([12]);
    expect(() => ring.advance(2)).toThrow(RangeError);
    ring.advance(1);
    expect([ring.peek(out, 4), ring.ready]).toEqual([0, 0]);
  });

  test("a full queue refuses an entry until it is submitted", () => {
    using ring = Ring.create({ entries: 4 });
    for (let user = 0; user < 4; user++) expect(prepareNop(ring, user)).toBe(true);
    expect(prepareNop(ring, 4)).toBe(false);
    expect(ring.prepareCancel(0, 0, 0, 0)).toBe(false);
    expect(ring.submit()).toBe(4);
    expect(prepareNop(ring, 4)).toBe(true);
    expect(run(ring)).toHaveLength(1);
  });

  test("completions that overflow the queue are all delivered, in order", () => {
    using ring = Ring.create({ entries: 4 });
    const users = Array.from({ length: 20 }, (_, index) => index);
    for (const user of users) {
      prepareNop(ring, user);
      expect(ring.submit()).toBe(1);
    }
    expect(ring.ready).toBe(ring.cqEntries);
    expect(reap(ring).map(({ user }) => user)).toEqual(users);
  });

  test("counters survive many turns of both queues", () => {
    using ring = Ring.create({ entries: 4 });
    for (let turn = 0; turn < 100; turn++) {
      for (let index = 0; index < 3; index++) prepareNop(ring, turn * 3 + index);
      expect(run(ring).map(({ user }) => user)).toEqual([0, 1, 2].map((index) => turn * 3 + index));
    }
  });

  test("reads, also past 4 GiB and short at the end of the file", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 8 });
    const bytes = pattern(3 * PAGE);
    const { fd } = files.file(bytes);
    const far = 5 * 2 ** 30;
    writeSync(fd, bytes, 0, PAGE, far);
    const target = shared(2 * PAGE);
    const at = addressOf(target);
    ring.prepare(OPCODE.read, 0, fd, PAGE, at, PAGE, 0, 0, 1, 0);
    ring.prepare(OPCODE.read, 0, fd, far, at + PAGE, 2 * PAGE - 1, 0, 0, 2, 0);
    expect(run(ring)).toEqual(
      expect.arrayContaining([
        { user: 1, result: PAGE },
        { user: 2, result: PAGE },
      ]),
    );
    expect(
      Buffer.from(target).equals(Buffer.concat([bytes.subarray(PAGE, 2 * PAGE), bytes.subarray(0, PAGE)])),
    ).toBe(true);
    ring.prepare(OPCODE.read, 0, fd, far + PAGE, at, PAGE, 0, 0, 3, 0);
    expect(run(ring)).toEqual([{ user: 3, result: 0 }]);
  });

  test("a failed request says so in its completion", () => {
    using ring = Ring.create({ entries: 2 });
    ring.prepare(OPCODE.read, 0, 1_000_000, 0, 0, 1, 0, 0, 1, 0);
    expect(run(ring)).toEqual([{ user: 1, result: errno("EBADF") }]);
  });

  test("vectors are scattered and gathered, and the table is free after submit", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 4 });
    const { fd, path } = files.file(new Uint8Array(0));
    const source = shared(4 * PAGE);
    source.set(pattern(4 * PAGE));
    const table = new IovecTable(2);
    table.set(0, addressOf(source) + 3 * PAGE, PAGE);
    table.set(1, addressOf(source), 10);
    ring.prepare(OPCODE.writev, 0, fd, 0, table.address, 2, 0, 0, 1, 0);
    expect(ring.submit()).toBe(1);
    table.set(0, 0, 0);
    expect(ring.submitAndWait(1)).toBe(0);
    expect(reap(ring)).toEqual([{ user: 1, result: PAGE + 10 }]);
    const written = Buffer.concat([source.subarray(3 * PAGE), source.subarray(0, 10)]);
    expect(readFileSync(path).equals(written)).toBe(true);
    const target = shared(2 * PAGE);
    table.set(0, addressOf(target) + PAGE, 10);
    table.set(1, addressOf(target), PAGE);
    ring.prepare(OPCODE.readv, 0, fd, 0, table.address, 2, 0, 0, 2, 0);
    expect(run(ring)).toEqual([{ user: 2, result: PAGE + 10 }]);
    const read = Buffer.concat([target.subarray(PAGE, PAGE + 10), target.subarray(0, PAGE)]);
    expect(read.equals(written)).toBe(true);
  });

  test("a linked sync follows its write, and is cancelled when the write fails", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 4 });
    const { fd, path } = files.file(new Uint8Array(0));
    const source = shared(PAGE);
    source.fill(9);
    ring.prepare(OPCODE.write, SQE.link, fd, 0, addressOf(source), PAGE, 0, 0, 1, 0);
    ring.prepare(OPCODE.fsync, 0, fd, 0, 0, 0, FSYNC_DATASYNC, 0, 2, 0);
    expect(run(ring)).toEqual([
      { user: 1, result: PAGE },
      { user: 2, result: 0 },
    ]);
    expect(readFileSync(path).equals(Buffer.alloc(PAGE, 9))).toBe(true);
    const readOnly = files.open(path, constants.O_RDONLY);
    ring.prepare(OPCODE.write, SQE.link, readOnly, 0, addressOf(source), PAGE, 0, 0, 3, 0);
    ring.prepare(OPCODE.fsync, 0, fd, 0, 0, 0, 0, 0, 4, 0);
    expect(run(ring)).toEqual(
      expect.arrayContaining([
        { user: 3, result: errno("EBADF") },
        { user: 4, result: errno("ECANCELED") },
      ]),
    );
  });

  test("an entry for a kernel worker completes like any other", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 2 });
    const { fd } = files.file(pattern(PAGE));
    const target = shared(PAGE);
    ring.prepare(OPCODE.read, SQE.async, fd, 0, addressOf(target), PAGE, 0, 0, 1, 0);
    expect(run(ring)).toEqual([{ user: 1, result: PAGE }]);
    expect(Buffer.from(target).equals(pattern(PAGE))).toBe(true);
  });

  test("direct reads land in WebAssembly memory", (context) => {
    using files = new Files();
    using ring = Ring.create({ entries: 2 });
    const bytes = pattern(16 * PAGE);
    const { path } = files.file(bytes);
    const fd = files.tryOpen(path, constants.O_RDONLY | constants.O_DIRECT);
    context.skip(fd === undefined, "this file system has no direct I/O");
    const target = pages(1);
    ring.prepare(OPCODE.read, 0, fd ?? -1, 8 * PAGE, addressOf(target) + PAGE, 8 * PAGE, 0, 0, 1, 0);
    expect(run(ring)).toEqual([{ user: 1, result: 8 * PAGE }]);
    expect(Buffer.from(target.subarray(PAGE, 9 * PAGE)).equals(bytes.subarray(8 * PAGE))).toBe(true);
  });

  test("a request in flight can be cancelled, also by user data above 2^53", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 4 });
    const { fd } = files.fifo();
    const target = shared(8);
    ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 7, 0x8000_0001);
    expect(ring.submit()).toBe(1);
    ring.prepareCancel(7, 0x8000_0000, 1, 0);
    ring.prepareCancel(7, 0x8000_0001, 2, 0);
    expect(ring.submitAndWait(3)).toBe(2);
    expect(reap(ring)).toEqual(
      expect.arrayContaining([
        { user: 1, result: errno("ENOENT") },
        { user: 2, result: 0 },
        { user: 7, result: errno("ECANCELED") },
      ]),
    );
  });

  // Aim: with these flags the kernel makes completions only when it is entered, and says in a flag that it has to be.
  // Method: what the FIFO gets while the thread is outside shows only if `ready` looks at that flag.
  test("completions deferred to the owner's entering are found by asking", (context) => {
    using files = new Files();
    const flags = SETUP.singleIssuer | SETUP.deferTaskRun | SETUP.taskRunFlag;
    const ring = tryCreate(flags);
    context.skip(ring === undefined, "this kernel is older than 6.1");
    using deferring = ring ?? Ring.create({ entries: 2 });
    const { fd } = files.fifo();
    const target = shared(8);
    deferring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 1, 0);
    expect(deferring.submit()).toBe(1);
    expect(deferring.ready).toBe(0);
    writeSync(fd, "x");
    expect(deferring.ready).toBe(1);
    expect(reap(deferring)).toEqual([{ user: 1, result: 1 }]);
    // Waiting works with them as without; waiting elsewhere does not, which is why they are not the default.
    prepareNop(deferring, 2);
    expect(run(deferring)).toEqual([{ user: 2, result: 0 }]);
  });

  test("registered files and buffers serve fixed entries until they are taken back", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 4 });
    const bytes = pattern(2 * PAGE);
    const { fd } = files.file(bytes);
    expect(ring.unregisterFiles()).toBe(errno("ENXIO"));
    expect(ring.registerFiles([-1, -1])).toBe(0);
    expect(ring.registerFiles([fd])).toBe(errno("EBUSY"));
    expect(ring.updateFiles(1, [fd])).toBe(1);
    const memory = pages(1);
    expect(ring.registerBuffers([memory])).toBe(0);
    expect(ring.registeredBuffers).toBe(1);
    const at = addressOf(memory) + PAGE;
    ring.prepare(OPCODE.readFixed, SQE.fixedFile, 1, 0, at, 2 * PAGE, 0, 0, 1, 0);
    expect(run(ring)).toEqual([{ user: 1, result: 2 * PAGE }]);
    expect(Buffer.from(memory.subarray(PAGE, 3 * PAGE)).equals(bytes)).toBe(true);
    ring.prepare(OPCODE.writeFixed, SQE.fixedFile, 1, 2 * PAGE, at, PAGE, 0, 0, 2, 0);
    expect(run(ring)).toEqual([{ user: 2, result: PAGE }]);
    expect([ring.unregisterBuffers(), ring.registeredBuffers, ring.unregisterFiles()]).toEqual([0, 0, 0]);
    ring.prepare(OPCODE.readFixed, SQE.fixedFile, 1, 0, at, PAGE, 0, 0, 3, 0);
    expect(run(ring)[0]?.result).toBeLessThan(0);
  });

  test("bad arguments are refused before the kernel sees them", () => {
    expect(() => Ring.create({ entries: 0 })).toThrow(RangeError);
    expect(() => Ring.create({ entries: 1.5 })).toThrow(RangeError);
    expect(() => Ring.create({ entries: 1, cqEntries: -1 })).toThrow(RangeError);
    expect(() => Ring.create({ entries: 1, flags: 2 })).toThrow(RangeError); // SQPOLL, not walked here
    using ring = Ring.create({ entries: 1, cqEntries: 8, flags: SETUP.clamp });
    expect(ring.cqEntries).toBe(8);
    for (const [offset, address, length] of [
      [-1, 0, 0],
      [0, -1, 0],
      [0, 0, -1],
      [0, 0, 2 ** 32],
      [2 ** 53, 0, 0],
      [Number.NaN, 0, 0],
    ] as const)
      expect(() => ring.prepare(OPCODE.read, 0, 0, offset, address, length, 0, 0, 0, 0)).toThrow(RangeError);
    expect(ring.pending).toBe(0);
    expect(() => ring.reap(new Int32Array(4), 2)).toThrow(RangeError);
    expect(() => ring.submitAndWait(-1)).toThrow(RangeError);
    expect(() => ring.onReadable(undefined as unknown as () => void)).toThrow(TypeError);
    expect(() => addressOf(new ArrayBuffer(8) as unknown as Uint8Array)).toThrow(TypeError);
  });

  test("closing twice is allowed, using a closed ring is not", () => {
    const ring = Ring.create({ entries: 2 });
    ring.close();
    ring.close();
    expect(ring.isClosed).toBe(true);
    const isClosed = expect.objectContaining({ code: "ERR_URING_CLOSED" }) as Error;
    expect(() => prepareNop(ring, 1)).toThrow(isClosed);
    expect(() => ring.submit()).toThrow(isClosed);
    expect(() => ring.ready).toThrow(isClosed);
    expect(() => ring.onReadable(() => undefined)).toThrow(isClosed);
    expect(() => ring.reap(new Int32Array(4), 1)).toThrow(isClosed);
    expect(() => ring.registerFiles([])).toThrow(isClosed);
  });
});
