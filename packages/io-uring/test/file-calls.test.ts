import { constants, fstatSync, fsyncSync, readFileSync, statfsSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import {
  armFault,
  directIoAlignment,
  disarmFaults,
  errno,
  FADVISE,
  fadvise,
  FALLOCATE,
  fallocate,
  nativeStatus,
  preadInto,
  residentPages,
  SYNC_FILE_RANGE,
  syncFileRange,
} from "@millrace/io-uring";
import { Files, pages } from "./fixtures.js";

const PAGE = 4096;
const TMPFS = 0x01021994;
const CLOSED = 1_000_000;

describe.skipIf(!nativeStatus().available)("calls that Node lacks", () => {
  afterEach(() => {
    disarmFaults();
  });

  test("preallocation extends, punches and keeps the size when told to", (context) => {
    using files = new Files();
    const { fd, path } = files.file(new Uint8Array(4 * PAGE).fill(7));
    const result = fallocate(fd, 0, 0, 8 * PAGE);
    context.skip(result === errno("EOPNOTSUPP"), "this file system cannot preallocate");
    expect(result).toBe(0);
    expect(fstatSync(fd).size).toBe(8 * PAGE);
    expect(fallocate(fd, FALLOCATE.keepSize, 8 * PAGE, PAGE)).toBe(0);
    expect(fstatSync(fd).size).toBe(8 * PAGE);
    expect(fallocate(fd, FALLOCATE.punchHole | FALLOCATE.keepSize, PAGE, PAGE)).toBe(0);
    const bytes = readFileSync(path);
    expect([bytes[PAGE - 1], bytes[PAGE], bytes[2 * PAGE - 1], bytes[2 * PAGE]]).toEqual([7, 0, 0, 7]);
    expect(fallocate(fd, 0, 0, 0)).toBe(errno("EINVAL"));
  });

  test("advice and write-back start are taken; a wrong descriptor is a number", () => {
    using files = new Files();
    const { fd } = files.file(new Uint8Array(4 * PAGE));
    for (const advice of Object.values(FADVISE)) expect(fadvise(fd, 0, 0, advice)).toBe(0);
    expect(fadvise(fd, 0, 0, 99)).toBe(errno("EINVAL"));
    const all = SYNC_FILE_RANGE.waitBefore | SYNC_FILE_RANGE.write | SYNC_FILE_RANGE.waitAfter;
    expect(syncFileRange(fd, 0, 4 * PAGE, all)).toBe(0);
    const bad = errno("EBADF");
    expect([fadvise(CLOSED, 0, 0, 0), fallocate(CLOSED, 0, 0, 1), syncFileRange(CLOSED, 0, 0, all)]).toEqual([
      bad,
      bad,
      bad,
    ]);
    expect([residentPages(CLOSED, 0, PAGE), directIoAlignment(CLOSED)]).toEqual([bad, undefined]);
    expect(fadvise(files.fifo().fd, 0, 0, 0)).toBe(errno("ESPIPE"));
  });

  test("the page cache can be emptied, filled and counted", (context) => {
    using files = new Files();
    context.skip(statfsSync(files.directory).type === TMPFS, "a tmpfs is all page cache");
    const { fd } = files.file(new Uint8Array(40 * PAGE));
    fsyncSync(fd);
    expect(fadvise(fd, 0, 0, FADVISE.dontNeed)).toBe(0);
    expect(residentPages(fd, 0, 40 * PAGE)).toBe(0);
    expect(fadvise(fd, 0, 0, FADVISE.random)).toBe(0); // no read-ahead
    expect(preadInto(fd, new Uint8Array(2), 0, 2, 20 * PAGE - 1)).toBe(2);
    expect(residentPages(fd, 0, 40 * PAGE)).toBe(2);
    expect(residentPages(fd, 20 * PAGE, 20 * PAGE)).toBe(1);
    expect(residentPages(fd, 0, 0)).toBe(0);
    expect(residentPages(fd, 1, 1)).toBe(errno("EINVAL"));
  });

  test("what direct I/O needs is what direct I/O accepts", (context) => {
    using files = new Files();
    const { fd, path } = files.file(new Uint8Array(16 * PAGE).fill(1));
    const alignment = directIoAlignment(fd);
    context.skip(alignment === undefined, "neither kernel nor file system tells");
    const { memory, offset } = alignment ?? { memory: 0, offset: 0 };
    const direct = files.open(path, constants.O_RDONLY | constants.O_DIRECT);
    const view = pages(1);
    expect(preadInto(direct, view, memory, offset, offset)).toBe(offset);
    expect(preadInto(direct, view, memory, offset, offset / 2)).toBe(errno("EINVAL"));
    expect(directIoAlignment(files.fifo().fd)).toBe(undefined);
  });

  test("bad arguments are refused before the call", () => {
    for (const call of [
      fadvise,
      syncFileRange,
      (fd: number, at: number, bytes: number) => fallocate(fd, 0, at, bytes),
    ]) {
      expect(() => call(-1, 0, 0, 0)).toThrow(RangeError);
      expect(() => call(0, -1, 0, 0)).toThrow(RangeError);
      expect(() => call(0, 0, 0.5, 0)).toThrow(RangeError);
    }
    expect(() => directIoAlignment(-1)).toThrow(RangeError);
    expect(() => residentPages(0, 2 ** 53, 0)).toThrow(RangeError);
  });

  test("each has its fault", () => {
    using files = new Files();
    const { fd } = files.file(new Uint8Array(PAGE));
    const full = errno("ENOSPC");
    armFault({ operation: "fallocate", result: full });
    expect([fallocate(fd, 0, 0, PAGE), fallocate(fd, 0, 0, PAGE)]).toEqual([full, 0]);
    armFault({ operation: "fadvise", result: full });
    expect([fadvise(fd, 0, 0, 0), fadvise(fd, 0, 0, 0)]).toEqual([full, 0]);
    armFault({ operation: "syncFileRange", nth: 2, result: full });
    expect([syncFileRange(fd, 0, 0, 2), syncFileRange(fd, 0, 0, 2)]).toEqual([0, full]);
  });
});
