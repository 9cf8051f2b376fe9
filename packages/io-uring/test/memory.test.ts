import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { addressOf, adviseHugePages, hugePageBytes, nativeStatus } from "@millrace/io-uring";
import { hugeBytesBetween } from "../src/memory.js";
import { pages } from "./fixtures.js";

const HUGE = 2 ** 21;
const WASM_PAGE = 65536;

describe.skipIf(!nativeStatus().available)("memory", () => {
  test("an address counts from the buffer's start, for every kind of view and buffer", () => {
    const memory = pages(1);
    const at = addressOf(memory);
    expect(at % WASM_PAGE).toBe(0);
    expect(addressOf(memory.subarray(100))).toBe(at + 100);
    expect(addressOf(new Float64Array(memory.buffer, 8))).toBe(at + 8);
    for (const buffer of [new ArrayBuffer(64), new SharedArrayBuffer(64)])
      expect(addressOf(new BigUint64Array(buffer, 16))).toBe(addressOf(new Uint8Array(buffer)) + 16);
    // A small array begins its life on V8's heap; from the first time on its address stays.
    const small = new Uint8Array(8);
    const first = addressOf(small);
    expect(addressOf(small)).toBe(first);
  });

  test("what is no typed array is refused", () => {
    const wrongs: unknown[] = [new ArrayBuffer(8), new DataView(new ArrayBuffer(8)), undefined, 5];
    for (const wrong of wrongs as Uint8Array[]) {
      expect(() => addressOf(wrong)).toThrow(TypeError);
      expect(() => adviseHugePages(wrong)).toThrow(TypeError);
      expect(() => hugePageBytes(wrong)).toThrow(TypeError);
    }
  });

  test("huge pages come where they were asked for and nowhere else", (context) => {
    const setting = readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
    context.skip(!setting.includes("[madvise]"), `transparent huge pages are ${setting.trim()}`);
    const memory = pages((8 * HUGE) / WASM_PAGE);
    for (let at = 0; at < memory.length; at += 4096) memory[at] = 1;
    expect(hugePageBytes(memory)).toBe(0);
    // The kernel may find no room for huge pages; then it says so and there are none.
    const isDone = adviseHugePages(memory, { collapse: true });
    if (isDone) expect(hugePageBytes(memory)).toBeGreaterThanOrEqual(6 * HUGE);
    expect(memory[4096]).toBe(1);
    expect(adviseHugePages(memory)).toBe(true);
    expect(adviseHugePages(memory.subarray(1, 4000))).toBe(false); // not one whole page
  });
});

test("the mappings that overlap a range are what counts", () => {
  const smaps = [
    "7f0000000000-7f0000200000 rw-p 00000000 00:00 0",
    "AnonHugePages:      2048 kB",
    "ShmemPmdMapped:        0 kB",
    "7f0000200000-7f0000800000 rw-s 00000000 00:01 5 /dev/shm/x",
    "AnonHugePages:         0 kB",
    "ShmemPmdMapped:     4096 kB",
    "FilePmdMapped:      2048 kB",
    "",
  ].join("\n");
  const start = 0x7f0000000000;
  expect(hugeBytesBetween(smaps, start, start + 1)).toBe(HUGE);
  expect(hugeBytesBetween(smaps, start + HUGE, start + HUGE + 1)).toBe(3 * HUGE);
  expect(hugeBytesBetween(smaps, start, start + 2 * HUGE)).toBe(4 * HUGE);
  expect(hugeBytesBetween(smaps, start + 4 * HUGE, start + 5 * HUGE)).toBe(0);
});
