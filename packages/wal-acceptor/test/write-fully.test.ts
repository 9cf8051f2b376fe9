import fc from "fast-check";
import { expect, test } from "vitest";
import { WRITE_BUFFERS_MAX } from "../src/file-system.js";
import type { OpenFile } from "../src/file-system.js";
import { dropBytes, takeBytes, totalBytes, WRITE_BYTES_MAX, writeFully } from "../src/write-fully.js";
import { codeOf, expectSameBytes } from "./fixtures.js";

/** A file that takes as much of each write as it is told to, and remembers what it was given. */
function sink(takes: (bytes: number) => number) {
  const written: Uint8Array[] = [];
  const calls: { buffers: number; bytes: number; offset: number }[] = [];
  const file = {
    pwritev: (buffers: readonly Uint8Array[], offset: number): Promise<number> => {
      const all = Buffer.concat(buffers);
      const taken = takes(all.byteLength);
      calls.push({ buffers: buffers.length, bytes: all.byteLength, offset });
      written.push(all.subarray(0, taken));
      return Promise.resolve(taken);
    },
  } as unknown as OpenFile;
  return { file, calls, bytes: () => Buffer.concat(written) };
}

const lists = fc.array(fc.uint8Array({ maxLength: 40, size: "max" }), { maxLength: 60, size: "max" });

// Aim: every byte once, in order, at the right place, however little the kernel takes. Method: random buffers and bites.
test("all bytes are written once and in order", async () => {
  await fc.assert(
    fc.asyncProperty(lists, fc.integer({ min: 1, max: 200 }), async (buffers, bite) => {
      const target = sink((bytes) => Math.min(bytes, bite));
      await writeFully(target.file, buffers, 4096);
      expect(target.bytes().equals(Buffer.concat(buffers))).toBe(true);
      let offset = 4096;
      for (const call of target.calls) {
        expect(call.offset).toBe(offset);
        offset += Math.min(call.bytes, bite);
      }
    }),
  );
});

// Aim: cutting a list of buffers loses nothing. Method: take and drop at a random place give the whole.
test("taking and dropping the same number of bytes splits a list", () => {
  fc.assert(
    fc.property(lists, fc.nat({ max: 2500 }), (buffers, wanted) => {
      const bytes = Math.min(wanted, totalBytes(buffers));
      const head = takeBytes(buffers, bytes);
      const tail = dropBytes(buffers, bytes);
      expect(totalBytes(head)).toBe(bytes);
      expect(Buffer.concat([...head, ...tail]).equals(Buffer.concat(buffers))).toBe(true);
    }),
  );
});

// Aim: no call exceeds the limits of the kernel and of this package. Method: too many and too large buffers.
test("a call carries at most 1024 buffers and a mebibyte", async () => {
  const many = sink((bytes) => bytes);
  await writeFully(
    many.file,
    Array.from({ length: 2500 }, () => new Uint8Array(3).fill(1)),
    0,
  );
  expect(many.calls.map(({ buffers }) => buffers)).toEqual([WRITE_BUFFERS_MAX, WRITE_BUFFERS_MAX, 452]);
  const large = sink((bytes) => bytes);
  const bytes = new Uint8Array(2 * WRITE_BYTES_MAX + 5).map((_, i) => i & 0xff);
  await writeFully(large.file, [bytes], 0);
  expect(large.calls.map((call) => call.bytes)).toEqual([WRITE_BYTES_MAX, WRITE_BYTES_MAX, 5]);
  expectSameBytes(large.bytes(), bytes);
});

// Aim: a kernel that takes nothing does not hang the writer. Method: zero from the second call on.
test("a write that makes no progress is an error", async () => {
  let calls = 0;
  const target = sink((bytes) => (calls++ === 0 ? Math.min(bytes, 2) : 0));
  expect(await codeOf(writeFully(target.file, [new Uint8Array(5)], 0))).toBe("ERR_ACCEPTOR_IO");
});

// Aim: nothing to write is no call, and no error either. Method: an empty list, a list of empty buffers; the latter once
// looked like a kernel that takes nothing.
test("an empty list and empty buffers make no call", async () => {
  const target = sink((bytes) => bytes);
  await writeFully(target.file, [], 0);
  await writeFully(target.file, [new Uint8Array(0), new Uint8Array(0)], 0);
  expect(target.calls).toEqual([]);
});
