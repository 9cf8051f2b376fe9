/** A buffer's life by example: capacity, ownership, sharing, loans. The arena's alignment is 512 here. */
import { expect, test } from "vitest";
import { AlignedArena } from "../src/index.js";
import type { IoBuffer, IoBufferMut } from "../src/index.js";
import { bytes, noise, text } from "./noise.js";
import { thrownBy } from "./thrown.js";

const arena = new AlignedArena({ bytes: 2 ** 20, alignment: 512 });

function holding(letters: string, capacity = letters.length): IoBufferMut {
  const buffer = arena.alloc(capacity);
  buffer.append(bytes(letters));
  return buffer;
}

// Aim: capacity is what was asked for, the start is aligned. Method: sizes around the alignment, and none at all.
test("a buffer has exactly the capacity that was asked for and an aligned start", () => {
  for (const capacity of [2048, 256, 1, 0, 513]) {
    using buffer = arena.alloc(capacity);
    expect([buffer.capacity, buffer.length, buffer.spare]).toEqual([capacity, 0, capacity]);
    expect(buffer.byteOffset % 512).toBe(0);
    expect([buffer.isAligned(), buffer.isAligned(512), buffer.align]).toEqual([true, true, 512]);
    expect(buffer.segment).toBe(arena.segment);
  }
});

// Aim: zeroed means zero also where an earlier buffer was. Method: leave bytes behind, allocate the same place again.
test("a zeroed buffer is full of zeros", () => {
  const place = arena.alloc(512);
  const { byteOffset } = place;
  place.append(noise(512));
  place[Symbol.dispose]();
  using buffer = arena.alloc(512, { zeroed: true });
  expect(buffer.byteOffset).toBe(byteOffset);
  expect(buffer.length).toBe(512);
  expect(Buffer.compare(buffer.view(), new Uint8Array(512))).toBe(0);
});

// Aim: an append that does not fit changes nothing. Method: one byte too many.
test("what does not fit is refused as a whole", () => {
  using buffer = holding("abcde", 8);
  expect(() => buffer.append(bytes("fghi"))).toThrow(
    expect.objectContaining({ code: "ERR_BUFFER_CAPACITY", capacity: 8, needed: 9 }),
  );
  expect(buffer.length).toBe(5);
  expect(text(buffer.view())).toBe("abcde");
  buffer.append(bytes("fgh"));
  expect(buffer.spare).toBe(0);
  buffer.append(new Uint8Array(0));
  expect(text(buffer.view())).toBe("abcdefgh");
});

test("clear keeps the place and the capacity", () => {
  using buffer = arena.alloc(8);
  const { byteOffset } = buffer;
  for (const letters of ["abcdefgh", "ijklmnop", "qrstuvwx"]) {
    buffer.append(bytes(letters));
    expect(text(buffer.view())).toBe(letters);
    buffer.clear();
    expect([buffer.length, buffer.capacity, buffer.byteOffset]).toEqual([0, 8, byteOffset]);
  }
});

test("truncate cuts and never adds", () => {
  using buffer = holding("abcde", 8);
  buffer.truncate(3);
  expect(text(buffer.view())).toBe("abc");
  buffer.truncate(10);
  expect(text(buffer.view())).toBe("abc");
});

test("fill appends one byte many times, all or nothing", () => {
  using buffer = holding("ab", 5);
  buffer.fill(0, 3);
  expect(text(buffer.view())).toBe("ab\0\0\0");
  expect(() => buffer.fill(0, 1)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_CAPACITY" }));
  expect(buffer.length).toBe(5);
  for (const byte of [-1, 256, 0.5]) expect(() => buffer.fill(byte, 0)).toThrow(RangeError);
});

// Aim: the length cannot be moved over bytes of an earlier buffer. Method: leave some, then try all ways to see them.
test("the length only grows over what was written", () => {
  holding("secret")[Symbol.dispose]();
  using buffer = holding("a", 6);
  expect(() => buffer.setLength(2)).toThrow(RangeError);
  expect(buffer.length).toBe(1);
  buffer.clear();
  buffer.setLength(1);
  expect(text(buffer.view())).toBe("a");
  buffer.spareView().set(bytes("bcd"));
  buffer.setLength(4);
  expect(text(buffer.view())).toBe("abcd");
  expect(() => buffer.setLength(7)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_CAPACITY" }));
  for (const length of [-1, 0.5, Number.NaN]) expect(() => buffer.setLength(length)).toThrow(RangeError);
});

test("a buffer can be appended to another one and to itself", () => {
  using first = holding("abc", 6);
  first.append(first.view());
  expect(text(first.view())).toBe("abcabc");
  using frozen = holding("xyz").freeze();
  using second = arena.alloc(3);
  second.append(frozen);
  expect(text(second.view())).toBe("xyz");
});

// Aim: an old handle is of no use, and says why. Method: every member, after every way to move.
test("a handle that was moved refuses everything but disposal", () => {
  const members: ((buffer: IoBufferMut) => unknown)[] = [
    (buffer) => buffer.append(bytes("x")),
    (buffer) => buffer.fill(0, 1),
    (buffer) => buffer.clear(),
    (buffer) => buffer.truncate(0),
    (buffer) => buffer.setLength(0),
    (buffer) => buffer.view(),
    (buffer) => buffer.spareView(),
    (buffer) => buffer.isAligned(),
    (buffer) => [buffer.length],
    (buffer) => [buffer.capacity],
    (buffer) => [buffer.spare],
    (buffer) => [buffer.align],
    (buffer) => [buffer.byteOffset],
    (buffer) => [buffer.segment],
    (buffer) => buffer.freeze(),
    (buffer) => buffer.move(),
    (buffer) => buffer.lend(),
  ];
  const moves = {
    freeze: (buffer: IoBufferMut) => buffer.freeze(),
    move: (buffer: IoBufferMut) => buffer.move(),
    lend: (buffer: IoBufferMut) => buffer.lend().takeBack(),
    dispose: (buffer: IoBufferMut) => buffer,
  };
  const { liveBuffers } = arena.stats;
  for (const [movedBy, move] of Object.entries(moves)) {
    const buffer = holding("abc");
    const next = move(buffer);
    if (movedBy === "dispose") buffer[Symbol.dispose]();
    for (const member of members) {
      expect(thrownBy(() => member(buffer))).toMatchObject({ code: "ERR_BUFFER_MOVED", movedBy });
    }
    buffer[Symbol.dispose]();
    if (movedBy !== "dispose") expect(next.length).toBe(3);
    next[Symbol.dispose]();
    next[Symbol.dispose]();
  }
  expect(arena.stats.liveBuffers).toBe(liveBuffers);
});

// Aim: frozen is frozen also for JavaScript that ignores the types. Method: force every member that writes.
test("a frozen buffer refuses members that write", () => {
  using frozen = holding("abc", 8).freeze();
  const forced = frozen as unknown as Record<string, (argument: unknown) => void>;
  for (const member of [
    "append",
    "fill",
    "clear",
    "truncate",
    "setLength",
    "view",
    "spareView",
    "freeze",
    "lend",
  ]) {
    expect(thrownBy(() => forced[member]?.(bytes("x")))).toMatchObject({ code: "ERR_BUFFER_FROZEN", member });
  }
  expect(frozen.equals(bytes("abc"))).toBe(true);
});

// Aim: only the last share becomes mutable, and a refusal costs nothing. Method: two handles, then one.
test("a shared buffer becomes mutable again when one handle is left", () => {
  const buffer = holding("abc", 8);
  const { byteOffset } = buffer;
  const frozen = buffer.freeze();
  const clone = frozen.clone();
  expect([frozen.refs, clone.refs]).toEqual([2, 2]);
  expect(frozen.tryIntoMut()).toEqual({ ok: false, refs: 2 });
  expect([frozen.at(0), clone.at(2)]).toEqual([0x61, 0x63]);
  clone[Symbol.dispose]();
  clone[Symbol.dispose]();
  const result = frozen.tryIntoMut();
  if (!result.ok) throw new Error("refused");
  using again = result.buffer;
  expect([again.byteOffset, again.length, again.capacity]).toEqual([byteOffset, 3, 8]);
  expect(text(again.view())).toBe("abc");
  expect(thrownBy(() => frozen.length)).toMatchObject({ code: "ERR_BUFFER_MOVED", movedBy: "tryIntoMut" });
  expect(thrownBy(() => clone.refs)).toMatchObject({ code: "ERR_BUFFER_MOVED", movedBy: "dispose" });
});

test("slices are relative to their view and checked", () => {
  using frozen = holding("0123456789").freeze();
  using middle = frozen.slice(2, 8);
  using inner = middle.slice(1, 3);
  using whole = frozen.slice();
  expect(text(inner.unsafeView())).toBe("34");
  expect(whole.equals(frozen)).toBe(true);
  expect(inner.byteOffset).toBe(frozen.byteOffset + 3);
  for (const [begin, end] of [
    [5, 4],
    [0, 11],
    [-1, 2],
    [0.5, 2],
    [11, 11],
  ] as const) {
    expect(() => frozen.slice(begin, end)).toThrow(RangeError);
  }
  expect(() => middle.slice(0, 7)).toThrow(RangeError);
  expect(frozen.refs).toBe(4);
});

test("a slice knows whether it is aligned", () => {
  using frozen = arena.alloc(8192, { zeroed: true, align: 4096 }).freeze();
  const aligned = (begin: number, alignment?: number): boolean => {
    using slice = frozen.slice(begin);
    return slice.isAligned(alignment);
  };
  expect([aligned(512), aligned(1), aligned(0, 4096), aligned(512, 4096), aligned(4096, 4096)]).toEqual([
    true,
    false,
    true,
    false,
    true,
  ]);
  // Nothing is known about the address beyond a page.
  expect(aligned(0, 8192)).toBe(false);
});

test("a slice alone brings the whole buffer back", () => {
  const input = noise(1000);
  const frozen = arena.copyFrom(input).freeze();
  const slice = frozen.slice(10, 20);
  frozen[Symbol.dispose]();
  const result = slice.tryIntoMut();
  if (!result.ok) throw new Error("refused");
  using buffer = result.buffer;
  expect(Buffer.compare(buffer.view(), input)).toBe(0);
});

test("an empty buffer can do what others can", () => {
  const frozen = arena.alloc(0).freeze();
  const [slice, clone] = [frozen.slice(0, 0), frozen.clone()];
  expect([slice.length, clone.length, slice.equals(clone)]).toEqual([0, 0, true]);
  slice[Symbol.dispose]();
  clone[Symbol.dispose]();
  const result = frozen.tryIntoMut();
  if (!result.ok) throw new Error("refused");
  expect(result.buffer.capacity).toBe(0);
  result.buffer[Symbol.dispose]();
});

test("frozen bytes can be read, copied and compared", () => {
  using frozen: IoBuffer = holding("abcdef").freeze();
  const target = bytes("........");
  expect(frozen.copyTo(target, 1)).toBe(6);
  expect(text(target)).toBe(".abcdef.");
  expect(frozen.copyTo(target, 5)).toBe(3);
  expect(text(target)).toBe(".abcdabc");
  expect([frozen.copyTo(target, 8), frozen.copyTo(target, 99)]).toEqual([0, 0]);
  expect(() => frozen.copyTo(target, -1)).toThrow(RangeError);
  expect([frozen.equals(bytes("abcdef")), frozen.equals(bytes("abcdeg"))]).toEqual([true, false]);
  expect(() => frozen.at(6)).toThrow(RangeError);
  expect(() => frozen.at(-1)).toThrow(RangeError);
});

// Aim: a loan is not disposable and comes back with what the borrower says. Method: write where the lease points.
test("a loan ends with the length that the borrower reports", () => {
  const loan = holding("ab", 6).lend();
  expect(Symbol.dispose in loan).toBe(false);
  const { byteOffset, length } = loan.lease;
  expect(length).toBe(6);
  arena.segment.view(byteOffset, length).set(bytes("abcdef"));
  expect(() => loan.takeBack(7)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_CAPACITY" }));
  using buffer = loan.takeBack(5);
  expect(text(buffer.view())).toBe("abcde");
  buffer.setLength(6);
  expect(text(buffer.view())).toBe("abcdef");
  expect(thrownBy(() => loan.lease)).toMatchObject({ code: "ERR_BUFFER_MOVED", movedBy: "takeBack" });
  using same = holding("xy", 4).lend().takeBack();
  expect(text(same.view())).toBe("xy");
});
