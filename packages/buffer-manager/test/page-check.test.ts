/**
 * Which pages are good: PostgreSQL's rules for headers, checksums and pages of zeros, in every segment of the memory.
 */
import { createPoolMemory } from "@millrace/aligned-buffers";
import type { PoolMemory } from "@millrace/aligned-buffers";
import { pageChecksum } from "@millrace/checksums";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { PAGE_FAULT, PageChecker } from "../src/page-check.js";
import { makePage, PAGE } from "./data-directory.js";

/** Two pages a segment, so that the second page of a run is in another one. */
function createFrames(): PoolMemory {
  return createPoolMemory({ frameCount: 5, segmentBytes: 2 * PAGE });
}

function check(page: Uint8Array, block: number, hasChecksums = true, frame = 3): number {
  const frames = createFrames();
  frames.view(frame).set(page);
  return new PageChecker(frames, hasChecksums).check(frame, block);
}

/** The fields that are looked at; the rest of the page is zero. */
function header(flags: number, lower: number, upper: number, special: number, block = 0): Buffer {
  const page = Buffer.alloc(PAGE);
  page.writeUInt16LE(flags, 10);
  page.writeUInt16LE(lower, 12);
  page.writeUInt16LE(upper, 14);
  page.writeUInt16LE(special, 16);
  page.writeUInt16LE(0x2004, 18);
  page.writeUInt16LE(pageChecksum(page, block), 8);
  return page;
}

describe("a page", () => {
  test.each([0, 1, 2, 3, 4])("is checked where it lies, in frame %i", (frame) => {
    expect(check(makePage(7), 7, true, frame)).toBe(PAGE_FAULT.none);
    expect(check(makePage(7), 8, true, frame), "of another block").toBe(PAGE_FAULT.checksum);
    expect(check(makePage(7, { header: true }), 7, true, frame)).toBe(PAGE_FAULT.header);
    const both = makePage(7, { header: true, checksum: true });
    expect(check(both, 7, true, frame)).toBe(PAGE_FAULT.header | PAGE_FAULT.checksum);
  });

  test("of zeros is good, and one byte of it that is not makes it bad", () => {
    expect(check(Buffer.alloc(PAGE), 5)).toBe(PAGE_FAULT.none);
    for (const at of [0, 13, 24, PAGE - 1]) {
      const page = Buffer.alloc(PAGE);
      page[at] = 1;
      expect(check(page, 5), `byte ${at}`).toBe(PAGE_FAULT.header);
    }
  });

  // Checksums that PostgreSQL itself computed for these pages.
  test.each([
    [24, 8192, 8192, 0, 25_952],
    [24, 8192, 8192, 1, 25_951],
    [24, 8192, 8192, 65_535, 41_125],
    [24, 8176, 8176, 3, 44_700],
  ])(
    "with lower %i, upper %i, special %i as block %i has PostgreSQL's checksum",
    (lower, upper, special, block, sum) => {
      const page = header(0, lower, upper, special, block);
      expect(page.readUInt16LE(8)).toBe(sum);
      expect(check(page, block)).toBe(PAGE_FAULT.none);
    },
  );

  test.each([
    ["unknown flags", header(8, 24, 100, 8192)],
    ["lower above upper", header(0, 101, 100, 8192)],
    ["upper above special", header(0, 24, 8192, 8184)],
    ["special behind the end", header(0, 24, 100, 8200)],
    ["special not aligned", header(0, 24, 100, 8188)],
  ])("with %s is bad, with or without checksums", (_, page) => {
    expect(check(page, 0)).toBe(PAGE_FAULT.header);
    expect(check(page, 0, false)).toBe(PAGE_FAULT.header);
  });

  test("at the limits of a header is good", () => {
    for (const page of [header(7, 24, 24, 24), header(0, 8192, 8192, 8192), header(0, 0, 8, 8)]) {
      expect(check(page, 0)).toBe(PAGE_FAULT.none);
    }
  });

  test("of a pool without checksums may have any", () => {
    expect(check(makePage(7, { checksum: true }), 7, false)).toBe(PAGE_FAULT.none);
  });

  // Aim: no single changed bit goes unnoticed. Method: one bit of a valid page anywhere is flipped.
  test("with one bit flipped is bad", () => {
    fc.assert(
      fc.property(fc.nat(PAGE * 8 - 1), fc.nat(2 ** 32 - 2), (bit, block) => {
        const page = makePage(block);
        const at = bit >>> 3;
        page[at] = (page[at] as number) ^ (1 << (bit & 7));
        expect(check(page, block)).not.toBe(PAGE_FAULT.none);
      }),
    );
  });
});
