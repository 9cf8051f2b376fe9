import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { addressOf, adviseHugePages, discardPages, hugePageBytes, nativeStatus } from "@millrace/io-uring";
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
      expect(() => discardPages(wrong)).toThrow(TypeError);
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

// Aim: the memory is the kernel's again, and no neighbour's byte is. Method: pages are written and discarded from the middle of
// a page to the middle of another; /proc says how much of the mapping is resident.
test.skipIf(!nativeStatus().available)(
  "discarded pages are gone, read as zeros, and can be used again",
  () => {
    const size = 8 * HUGE;
    const memory = pages((size + 2 * WASM_PAGE) / WASM_PAGE);
    memory.fill(7);
    const start = addressOf(memory);
    const before = residentBytes(start);
    expect(discardPages(memory.subarray(100, WASM_PAGE + size + 100))).toBe(WASM_PAGE + size - 4096);
    expect(before - residentBytes(start)).toBeGreaterThanOrEqual(size);
    expect([memory[0], memory[4095], memory[4096], memory[size / 2]]).toEqual([7, 7, 0, 0]);
    expect([memory[WASM_PAGE + size - 1], memory[WASM_PAGE + size], memory.at(-1)]).toEqual([0, 7, 7]);
    memory[size / 2] = 9;
    expect([memory[size / 2], memory[size / 2 + 1]]).toEqual([9, 0]);
    expect(discardPages(memory.subarray(1, 4096)), "not one whole page").toBe(0);
  },
);

/** Bytes in memory of the mapping that an address is in. */
function residentBytes(address: number): number {
  let isInside = false;
  for (const line of readFileSync("/proc/self/smaps", "latin1").split("\n")) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (mapping !== null)
      isInside = parseInt(mapping[1] ?? "", 16) <= address && parseInt(mapping[2] ?? "", 16) > address;
    const resident = isInside ? /^Rss: +(\d+) kB/.exec(line) : null;
    if (resident !== null) return Number(resident[1]) * 1024;
  }
  return 0;
}

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
