/** What an arena gives out, what it says about itself, and how callers wait for room. */
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { AlignedArena, HUGE_PAGE_BYTES, SEGMENT_BYTES_MAX } from "../src/index.js";
import type { IoBufferMut } from "../src/index.js";
import { thrownBy } from "./thrown.js";
import { isPending, settle } from "./pending.js";

const MEBIBYTE = 2 ** 20;
const PIECE = 65_536;

test("buffers of one size never use an arena up", () => {
  const arena = new AlignedArena({ bytes: MEBIBYTE });
  for (let round = 0; round < 10_000; round += 1) {
    using frozen = arena.alloc(PIECE).freeze();
    expect(frozen.length).toBe(0);
  }
  expect(arena.stats).toEqual({ total: MEBIBYTE, inUse: 0, peak: PIECE, liveBuffers: 0 });
});

test("statistics count reserved room and live buffers", () => {
  const arena = new AlignedArena({ bytes: 3 * 4096 });
  const [small, empty] = [arena.alloc(1), arena.alloc(0)];
  const large = arena.alloc(4097);
  expect(arena.stats).toEqual({ total: 12_288, inUse: 12_288, peak: 12_288, liveBuffers: 3 });
  large[Symbol.dispose]();
  empty[Symbol.dispose]();
  expect(arena.stats).toEqual({ total: 12_288, inUse: 4096, peak: 12_288, liveBuffers: 1 });
  small[Symbol.dispose]();
  expect(arena.stats.inUse).toBe(0);
});

// Aim: a full arena refuses or makes wait, and an aborted wait takes nothing. Method: 16 buffers fill it.
test("a full arena throws at once or serves later", async () => {
  const arena = new AlignedArena({ bytes: MEBIBYTE, alignment: 512 });
  const full = Array.from({ length: 16 }, () => arena.alloc(PIECE));
  expect(() => arena.alloc(1)).toThrow(
    expect.objectContaining({ code: "ERR_ARENA_EXHAUSTED", capacity: 1, freeBytes: 0 }),
  );
  expect(arena.tryAlloc(1)).toBeUndefined();
  const abort = new AbortController();
  const aborted = arena.allocAsync(PIECE, { signal: abort.signal });
  const waiting = arena.allocAsync(PIECE, { zeroed: true });
  expect(await isPending(waiting)).toBe(true);
  abort.abort(new Error("enough"));
  await expect(aborted).rejects.toThrow("enough");
  full.pop()?.[Symbol.dispose]();
  const served = await waiting;
  expect(served.length).toBe(PIECE);
  expect(arena.stats.liveBuffers).toBe(16);
  for (const buffer of [...full, served]) buffer[Symbol.dispose]();
  expect(arena.stats.inUse).toBe(0);
});

// Aim: nobody is overtaken. Method: a large request in front of small ones, which would fit; then the large one gives up.
test("waiting callers are served in order, and the next one moves up when the first gives up", async () => {
  const arena = new AlignedArena({ bytes: 4 * 4096 });
  const held = [arena.alloc(4096), arena.alloc(4096)];
  const served: string[] = [];
  const abort = new AbortController();
  const note = (name: string, wait: Promise<IoBufferMut>): Promise<void> =>
    wait.then(
      () => void served.push(name),
      () => void served.push(`${name} gave up`),
    );
  const waits = [
    note("large", arena.allocAsync(4 * 4096, { signal: abort.signal })),
    note("small", arena.allocAsync(4096)),
    note("large again", arena.allocAsync(4 * 4096)),
  ];
  await settle();
  expect(arena.tryAlloc(4096), "overtakes those who wait").toBeUndefined();
  expect(served).toEqual([]);
  abort.abort();
  await settle();
  expect(served).toEqual(["large gave up", "small"]);
  for (const buffer of held) buffer[Symbol.dispose]();
  await settle();
  expect(served).toHaveLength(2);
  arena[Symbol.dispose]();
  await Promise.all(waits);
  expect(served.at(-1)).toBe("large again gave up");
});

test("a signal that was aborted before takes nothing, and no listener stays on one that lives on", async () => {
  const arena = new AlignedArena({ bytes: 4096 });
  await expect(arena.allocAsync(1, { signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow(
    "before",
  );
  expect(arena.stats.liveBuffers).toBe(0);
  const { signal } = new AbortController();
  const held = arena.alloc(1);
  const waiting = arena.allocAsync(1, { signal });
  expect(getEventListeners(signal, "abort")).toHaveLength(1);
  held[Symbol.dispose]();
  (await waiting)[Symbol.dispose]();
  expect(getEventListeners(signal, "abort")).toHaveLength(0);
});

test("a disposed arena gives out nothing, and what is out stays good", async () => {
  const arena = new AlignedArena({ bytes: 4096 });
  const buffer = arena.alloc(4096);
  const waiting = arena.allocAsync(1);
  arena[Symbol.dispose]();
  arena[Symbol.dispose]();
  await expect(waiting).rejects.toMatchObject({ code: "ERR_ARENA_DISPOSED" });
  await expect(arena.allocAsync(1)).rejects.toMatchObject({ code: "ERR_ARENA_DISPOSED" });
  expect(() => arena.alloc(1)).toThrow(expect.objectContaining({ code: "ERR_ARENA_DISPOSED" }));
  buffer.append(new Uint8Array(4096));
  buffer[Symbol.dispose]();
  expect(arena.stats).toMatchObject({ inUse: 0, liveBuffers: 0 });
});

test("sizes and alignments that can never be are refused", () => {
  for (const bytes of [0, -1, 1.5, Number.NaN, SEGMENT_BYTES_MAX + 1]) {
    expect(() => new AlignedArena({ bytes })).toThrow(RangeError);
  }
  for (const alignment of [0, 1, 256, 513, 8192]) {
    expect(() => new AlignedArena({ bytes: MEBIBYTE, alignment })).toThrow(RangeError);
  }
  const arena = new AlignedArena({ bytes: 8192, alignment: 512 });
  for (const capacity of [-1, 0.5, 8193]) expect(() => arena.alloc(capacity)).toThrow(RangeError);
  for (const align of [256, 768, 8192]) expect(() => arena.alloc(1, { align })).toThrow(RangeError);
});

test("a wider alignment can be asked for, as far as it can be proven", () => {
  const arena = new AlignedArena({ bytes: 3 * 4096, alignment: 512 });
  using first = arena.alloc(512);
  using wide = arena.alloc(4096, { align: 4096 });
  using rest = arena.alloc(3584);
  expect(first.isAligned(4096)).toBe(true);
  expect([wide.isAligned(4096), wide.align, wide.byteOffset]).toEqual([true, 4096, 4096]);
  expect(rest.byteOffset).toBe(512);
});

// Aim: hooks decide where the I/O part starts and what is said about it. Method: pretended addresses.
test("with an address the I/O part starts on a huge page, and the kernel's answer is reported", () => {
  for (const into of [0, 65_536, HUGE_PAGE_BYTES - 4096]) {
    const advised: Uint8Array[] = [];
    const base = BigInt(0x7f00_0000_0000 + into);
    const arena = new AlignedArena({
      bytes: 4 * MEBIBYTE,
      alignment: 4096,
      hooks: {
        addressOf: (view) => base + BigInt(view.byteOffset),
        adviseHugePages: (bytes) => advised.push(bytes) > 0,
      },
    });
    const { segment } = arena;
    expect((base + BigInt(segment.byteOffset)) % BigInt(HUGE_PAGE_BYTES)).toBe(0n);
    expect([segment.byteLength, advised[0]?.byteOffset, advised[0]?.length]).toEqual([
      4 * MEBIBYTE,
      segment.byteOffset,
      4 * MEBIBYTE,
    ]);
    expect(arena.hugePages).toBe("advised");
    using first = arena.alloc(4096);
    using second = arena.alloc(4096, { align: HUGE_PAGE_BYTES });
    expect([first.isAligned(HUGE_PAGE_BYTES), second.isAligned(HUGE_PAGE_BYTES)]).toEqual([true, true]);
    expect(second.byteOffset - first.byteOffset).toBe(HUGE_PAGE_BYTES);
  }
  const refused = new AlignedArena({ bytes: 4096, hooks: { adviseHugePages: () => false } });
  expect([refused.hugePages, refused.segment.byteOffset]).toEqual(["refused", 0]);
  expect(new AlignedArena({ bytes: 4096 }).hugePages).toBe("unavailable");
  const odd = thrownBy(() => new AlignedArena({ bytes: 4096, hooks: { addressOf: () => 100 } }));
  expect(odd).toBeInstanceOf(RangeError);
});
