/** Segments: what is proven about their memory, and direct I/O on it, which is the proof by the kernel. */
import { constants } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  AlignedArena,
  attachMemorySegment,
  createMemorySegment,
  isIoMemory,
  locate,
  PAGE_ALIGNMENT,
  SEGMENT_BYTES_MAX,
} from "../src/index.js";
import type { MemorySegmentHandle } from "../src/index.js";
import { noise } from "./noise.js";
import { thrownBy } from "./thrown.js";

test("a segment has whole pages, all zero, and cannot grow", () => {
  const segment = createMemorySegment(5000);
  expect([segment.byteOffset, segment.byteLength, segment.alignment]).toEqual([0, 8192, PAGE_ALIGNMENT]);
  expect(Buffer.compare(segment.bytes, new Uint8Array(8192))).toBe(0);
  const { memory } = segment as unknown as { memory: { grow: (pages: number) => number } };
  expect(() => memory.grow(1)).toThrow(RangeError);
  for (const bytes of [0, -1, 0.5, SEGMENT_BYTES_MAX + 1])
    expect(() => createMemorySegment(bytes)).toThrow(RangeError);
});

test("the largest segment costs address space only", () => {
  const before = process.memoryUsage.rss();
  const segment = createMemorySegment(SEGMENT_BYTES_MAX);
  expect(segment.bytes.length).toBe(2 ** 30);
  expect(segment.bytes.at(-1)).toBe(0);
  expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 28);
});

test("ranges are filled and copied in place, and only inside", () => {
  const segment = createMemorySegment(8192);
  segment.fill(100, 50, 0xab);
  expect(segment.bytes.subarray(98, 152).filter((byte) => byte === 0xab)).toHaveLength(50);
  segment.view(0, 4).set([1, 2, 3, 4]);
  segment.copyWithin(2, 0, 4);
  expect([...segment.view(0, 6)]).toEqual([1, 2, 1, 2, 3, 4]);
  for (const [at, length] of [
    [-1, 1],
    [8192, 1],
    [0, 8193],
    [0.5, 1],
    [0, -1],
  ] as const) {
    expect(() => segment.view(at, length)).toThrow(RangeError);
    expect(() => segment.fill(at, length, 0)).toThrow(RangeError);
    expect(() => segment.copyWithin(0, at, length)).toThrow(RangeError);
    expect(() => segment.copyWithin(at, 0, length)).toThrow(RangeError);
  }
  expect([segment.contains(8192, 0), segment.contains(8193, 0)]).toEqual([true, false]);
});

test("the part outside of I/O cannot be reached through the segment", () => {
  const segment = createMemorySegment(4096, { addressOf: () => 65_536 });
  expect(segment.byteOffset).toBe(2 ** 21 - 65_536);
  expect(() => segment.view(segment.byteOffset - 1, 1)).toThrow(RangeError);
  expect(() => segment.view(segment.byteOffset + 4096, 1)).toThrow(RangeError);
  const before = new Uint8Array(segment.buffer, segment.byteOffset - 4096, 4096);
  expect([isIoMemory(before), isIoMemory(segment.bytes)]).toEqual([false, true]);
});

test("a handle attaches to the same memory, and to the same segment in its own thread", () => {
  const segment = createMemorySegment(4096);
  expect(attachMemorySegment(segment.handle)).toBe(segment);
  const other = attachMemorySegment(structuredClone(segment.handle));
  expect(other).not.toBe(segment);
  other.bytes[7] = 42;
  expect(segment.bytes[7]).toBe(42);
  for (const handle of [undefined, {}, { memory: { buffer: new ArrayBuffer(8) } }]) {
    expect(() => attachMemorySegment(handle as unknown as MemorySegmentHandle)).toThrow(TypeError);
  }
});

// Aim: I/O memory is told by what it is, not by how the kernel takes it. Method: views that look alike.
test("I/O memory is told apart from memory that is only shared", () => {
  const segment = createMemorySegment(8192);
  const shared = new SharedArrayBuffer(8192);
  expect(isIoMemory(segment.bytes, 4096)).toBe(true);
  expect(isIoMemory(Buffer.from(segment.buffer, 512, 512), 512)).toBe(true);
  expect(isIoMemory(segment.view(512, 512), 4096)).toBe(false);
  expect(isIoMemory(segment.view(1, 1), 512)).toBe(false);
  expect(isIoMemory(segment.view(1, 1))).toBe(true);
  expect(isIoMemory(new DataView(segment.buffer, 4096, 4096), 4096)).toBe(true);
  for (const view of [new Uint8Array(shared), new Uint8Array(8192), Buffer.alloc(8192)]) {
    expect([isIoMemory(view), isIoMemory(view, 512), locate(view)]).toEqual([false, false, undefined]);
  }
  expect(locate(segment.view(512, 100))).toEqual({ segment, byteOffset: 512, length: 100 });
});

test("where the runtime has no memory to give, the error says so", () => {
  const { WebAssembly: real } = globalThis as { WebAssembly?: { Memory: unknown } };
  const lacking = { ...real, Memory: refusing() };
  for (const runtime of [undefined, lacking]) {
    (globalThis as { WebAssembly?: unknown }).WebAssembly = runtime;
    try {
      expect(thrownBy(() => createMemorySegment(4096))).toMatchObject({ code: "ERR_ARENA_UNAVAILABLE" });
      expect(thrownBy(() => new AlignedArena({ bytes: 1 }))).toMatchObject({ code: "ERR_ARENA_UNAVAILABLE" });
    } finally {
      (globalThis as { WebAssembly?: unknown }).WebAssembly = real;
    }
  }
});

// Aim: the memory is good for O_DIRECT. Method: random bytes to a file and back, through two buffers, in every API.
test("direct I/O works on an arena's buffers", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "aligned-buffers-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = await tryOpenDirect(join(directory, "data"));
  if (file === undefined) return context.skip("this file system refuses O_DIRECT");
  onTestFinished(() => file.close());
  const arena = new AlignedArena({ bytes: 2 ** 20, alignment: 4096, debug: true });
  const input = noise(65_536);
  using frozen = arena.copyFrom(input).freeze();
  frozen.verify();
  const { bytesWritten } = await file.write(frozen.unsafeView(), 0, frozen.length, 0);
  frozen.verify();
  expect(bytesWritten).toBe(input.length);
  using target = arena.alloc(65_536);
  const { bytesRead } = await file.read(target.spareView(), 0, 65_536, 0);
  target.setLength(bytesRead);
  expect(Buffer.compare(target.view(), input)).toBe(0);
  return undefined;
});

/** A file for direct I/O; undefined where the file system has none. */
async function tryOpenDirect(path: string): Promise<FileHandle | undefined> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT;
  try {
    return await open(path, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EINVAL") return undefined;
    throw error;
  }
}

/** A constructor that fails as the real one does without address space. */
function refusing(): () => never {
  return function Memory(): never {
    throw new RangeError("could not allocate memory");
  };
}
