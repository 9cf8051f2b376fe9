import { constants, readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import {
  addressOf,
  armFault,
  disarmFaults,
  errno,
  fdatasyncFd,
  fsyncFd,
  IOVECS_MAX,
  IovecTable,
  nativeStatus,
  preadInto,
  preadv,
  pwriteFrom,
  pwritev,
  RWF,
} from "@millrace/io-uring";
import { Files } from "./fixtures.js";

const hasNative = nativeStatus().available;
const EIO = errno("EIO");

function counting(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => index & 0xff);
}

describe("positional calls", () => {
  test("read and write at a place, short at the end of the file", () => {
    using files = new Files();
    const { fd, path } = files.file(counting(100));
    const view = new Uint8Array(new SharedArrayBuffer(64));
    expect(preadInto(fd, view, 10, 20, 50)).toBe(20);
    expect(Array.from(view.subarray(9, 31))).toEqual([0, ...Array.from(counting(70).subarray(50)), 0]);
    expect(preadInto(fd, view, 0, 64, 90)).toBe(10);
    expect(preadInto(fd, view, 0, 64, 100)).toBe(0);
    expect(pwriteFrom(fd, view, 10, 2, 2 ** 33)).toBe(2);
    expect(preadInto(fd, view, 0, 64, 2 ** 33)).toBe(2);
    expect(Array.from(view.subarray(0, 2))).toEqual([50, 51]);
    expect(pwriteFrom(fd, Float64Array.of(1, 2), 8, 8, 0)).toBe(8);
    expect(readFileSync(files.file(new Uint8Array(0)).path)).toHaveLength(0);
    const start = new Float64Array(1);
    expect(preadInto(files.open(path, constants.O_RDONLY), start, 0, 8, 0)).toBe(8);
    expect(start[0]).toBe(2);
  });

  test("an error is a number", () => {
    using files = new Files();
    const { path } = files.file(counting(1));
    const readOnly = files.open(path, constants.O_RDONLY);
    const directory = files.open(files.directory, constants.O_RDONLY);
    const view = new Uint8Array(1);
    expect(pwriteFrom(readOnly, view, 0, 1, 0)).toBe(errno("EBADF"));
    expect(preadInto(directory, view, 0, 1, 0)).toBe(errno("EISDIR"));
    expect([fsyncFd(1_000_000), fdatasyncFd(1_000_000)]).toEqual([errno("EBADF"), errno("EBADF")]);
    expect([fsyncFd(readOnly), fdatasyncFd(readOnly)]).toEqual([0, 0]);
  });

  test("bad arguments are refused before the call", () => {
    const view = new Uint8Array(8);
    for (const [fd, at, length, offset] of [
      [-1, 0, 1, 0],
      [0.5, 0, 1, 0],
      [0, -1, 1, 0],
      [0, 0, -1, 0],
      [0, 4, 5, 0],
      [0, 9, 0, 0],
      [0, 0, 1, -1],
      [0, 0, 1, 2 ** 53],
      [0, Number.NaN, 1, 0],
    ] as const) {
      expect(() => preadInto(fd, view, at, length, offset)).toThrow(RangeError);
      expect(() => pwriteFrom(fd, view, at, length, offset)).toThrow(RangeError);
    }
    expect(() => preadInto(0, new DataView(new ArrayBuffer(8)) as unknown as Uint8Array, 0, 1, 0)).toThrow(
      TypeError,
    );
    expect(() => fsyncFd(-1)).toThrow(RangeError);
    expect(() => fdatasyncFd(-1)).toThrow(RangeError);
    expect(() => new IovecTable(-1)).toThrow(RangeError);
    const table = new IovecTable(2);
    expect(() => table.set(2, 0, 0)).toThrow(RangeError);
    expect(() => table.set(0, -1, 0)).toThrow(RangeError);
    expect(() => table.set(0, 0, -1)).toThrow(RangeError);
    expect(() => preadv(0, table, 3, 0)).toThrow(RangeError);
    expect(() => preadv(0, new IovecTable(200), IOVECS_MAX + 1, 0)).toThrow(RangeError);
    expect(() => pwritev(-1, table, 1, 0)).toThrow(RangeError);
    expect(() => pwritev(0, table, 1, -1)).toThrow(RangeError);
  });
});

describe.skipIf(!hasNative)("vectored calls", () => {
  test("scatter and gather up to 128 pieces", () => {
    using files = new Files();
    const { fd } = files.file(new Uint8Array(0));
    const source = new Uint8Array(new SharedArrayBuffer(IOVECS_MAX * 8));
    source.set(counting(source.length));
    const table = new IovecTable(IOVECS_MAX);
    for (let index = 0; index < IOVECS_MAX; index++) table.set(index, addressOf(source) + 8 * index, 4);
    expect(pwritev(fd, table, IOVECS_MAX, 3)).toBe(IOVECS_MAX * 4);
    const target = new Uint8Array(new SharedArrayBuffer(IOVECS_MAX * 8));
    for (let index = 0; index < IOVECS_MAX; index++) table.set(index, addressOf(target) + 8 * index, 4);
    expect(preadv(fd, table, IOVECS_MAX, 3)).toBe(IOVECS_MAX * 4);
    expect(Array.from(target)).toEqual(Array.from(source, (byte, at) => (at % 8 < 4 ? byte : 0)));
    expect(preadv(fd, table, IOVECS_MAX, 3 + IOVECS_MAX * 4 - 6)).toBe(6);
    expect(preadv(fd, table, 0, 0)).toBe(0);
  });

  test("the kernel's flags reach it", () => {
    using files = new Files();
    const { fd } = files.file(counting(8));
    const view = new Uint8Array(8);
    const table = new IovecTable(1);
    table.set(0, addressOf(view), 8);
    expect(pwritev(fd, table, 1, 0, RWF.append)).toBe(8);
    expect(preadv(fd, table, 1, 8)).toBe(8);
    expect(Array.from(view)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(preadv(fd, table, 1, 0, 1 << 30)).toBe(errno("EOPNOTSUPP"));
  });
});

describe.skipIf(!hasNative)("the fault hook", () => {
  afterEach(() => {
    disarmFaults();
  });

  test("fails the nth call and as many after it as asked", () => {
    using files = new Files();
    const { fd } = files.file(counting(8));
    const view = new Uint8Array(8);
    armFault({ operation: "pread", nth: 2, times: 2, result: EIO });
    const results = Array.from({ length: 5 }, () => preadInto(fd, view, 0, 8, 0));
    expect(results).toEqual([8, EIO, EIO, 8, 8]);
  });

  test("each operation has its own", () => {
    using files = new Files();
    const { fd } = files.file(counting(8));
    const view = new Uint8Array(8);
    const table = new IovecTable(1);
    table.set(0, addressOf(view), 8);
    const calls = {
      pread: () => preadInto(fd, view, 0, 8, 0),
      pwrite: () => pwriteFrom(fd, view, 0, 8, 0),
      preadv: () => preadv(fd, table, 1, 0),
      pwritev: () => pwritev(fd, table, 1, 0),
      fsync: () => fsyncFd(fd),
      fdatasync: () => fdatasyncFd(fd),
    };
    const names = Object.keys(calls) as (keyof typeof calls)[];
    for (const faulty of names) {
      armFault({ operation: faulty, result: EIO });
      for (const name of names) if (name !== faulty) expect(calls[name](), name).toBeGreaterThanOrEqual(0);
      expect(calls[faulty](), faulty).toBe(EIO);
    }
  });

  test("a short I/O moves just that many bytes", () => {
    using files = new Files();
    const { fd } = files.file(counting(16));
    const view = new Uint8Array(16);
    armFault({ operation: "pread", result: 3 });
    expect(preadInto(fd, view, 0, 8, 0)).toBe(3);
    expect(Array.from(view.subarray(0, 5))).toEqual([0, 1, 2, 0, 0]);
    armFault({ operation: "pwrite", result: 0 });
    expect(pwriteFrom(fd, view, 0, 8, 0)).toBe(0);
    const table = new IovecTable(3);
    const target = new Uint8Array(16);
    for (let index = 0; index < 3; index++) table.set(index, addressOf(target) + 5 * index, 4);
    armFault({ operation: "preadv", result: 6 });
    expect(preadv(fd, table, 3, 0)).toBe(6);
    expect(Array.from(target)).toEqual([0, 1, 2, 3, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test("an interrupted call is made again", () => {
    using files = new Files();
    const { fd } = files.file(counting(8));
    armFault({ operation: "pread", times: 3, result: errno("EINTR") });
    expect(preadInto(fd, new Uint8Array(8), 0, 8, 0)).toBe(8);
    armFault({ operation: "fdatasync", times: 3, result: errno("EINTR") });
    expect(fdatasyncFd(fd)).toBe(0);
    // All three were used up above: the next fault is the one armed here.
    armFault({ operation: "pread", nth: 2, result: EIO });
    expect([preadInto(fd, new Uint8Array(8), 0, 8, 0), preadInto(fd, new Uint8Array(8), 0, 8, 0)]).toEqual([
      8,
      EIO,
    ]);
  });

  test("bad arguments are refused", () => {
    expect(() => armFault({ operation: "pread", nth: 0, result: EIO })).toThrow(RangeError);
    expect(() => armFault({ operation: "pread", times: 0, result: EIO })).toThrow(RangeError);
    expect(() => armFault({ operation: "pread", result: 0.5 })).toThrow(RangeError);
    expect(() => armFault({ operation: "mmap" as "pread", result: EIO })).toThrow(TypeError);
  });
});
