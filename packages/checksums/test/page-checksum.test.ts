/**
 * PostgreSQL's page checksum: values derived by hand, pages that PostgreSQL wrote, and all ways of computing it against
 * a model. Whole clusters of real servers are checked in the tests of the benchmarks, which may start them.
 */
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createPageChecksummer, pageChecksum, pageChecksumMethod, verifyPage } from "../src/index.js";
import { pageChecksumInJavaScript } from "../src/page-checksum-lanes.js";
import { runtimeWebAssembly } from "../src/webassembly.js";
import type { MemoryLike } from "../src/webassembly.js";
import { COLUMN_STARTS, columnwisePageChecksum, noise } from "./model.js";

interface GrowingMemory extends MemoryLike {
  grow(pages: number): number;
}

const { Memory } = (() => {
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) throw new Error("the tests of the kernel need WebAssembly");
  return webAssembly as unknown as {
    Memory: new (descriptor: { initial: number; maximum: number; shared?: boolean }) => GrowingMemory;
  };
})();

const SIZES = [1024, 2048, 4096, 8192, 16_384, 32_768];

/** Computes in place, at an odd place of a memory whose other bytes are noise. */
function inPlace(memory: MemoryLike): (page: Uint8Array, blockNumber: number) => number {
  return (page, blockNumber) => {
    new Uint8Array(memory.buffer).set(noise(64, 5), 100);
    new Uint8Array(memory.buffer).set(page, 133);
    return createPageChecksummer(memory, page.length).checksum(133, blockNumber);
  };
}

const implementations = {
  copied: pageChecksum,
  javascript: pageChecksumInJavaScript,
  "in place, shared": inPlace(new Memory({ initial: 1, maximum: 1, shared: true })),
  "in place, private": inPlace(new Memory({ initial: 1, maximum: 4 })),
  "in place, javascript": inPlace({ buffer: new ArrayBuffer(65_536) }),
} as const;

const each = test.each(Object.entries(implementations));

/**
 * A page whose columns are all 0 at the end: a word equal to its column's hash makes that 0, and zeros keep it there.
 * Only the third column starts at 0x02ab50aa and is fed 0x02ab0000, because the low half is the page's checksum. That
 * leaves 0x50aa; times 16777619 = 2^24 + 403 and cut to 32 bits, that is 0xaa000000 + 0x7efb9e, which the next row has.
 */
function cancellingPage(pageBytes: number): Uint8Array {
  const page = new Uint8Array(pageBytes);
  const words = new DataView(page.buffer);
  for (const [column, start] of COLUMN_STARTS.entries()) words.setUint32(column * 4, start, true);
  words.setUint32(128 + 8, 0xaa7efb9e, true);
  return page;
}

// Aim: constants, order and reduction are right. Method: pages whose checksum follows from the definition on paper.
each("%s gives the values derived by hand", (_, checksum) => {
  for (const pageBytes of SIZES) {
    const page = cancellingPage(pageBytes);
    // Nothing but the block number is left, modulo 65535, plus 1.
    const blocks = [0, 1, 65_534, 65_535, 65_536, 0x8000_0000, 0xffff_ffff];
    expect(blocks.map((block) => checksum(page, block))).toEqual([1, 2, 65_535, 1, 2, 32_769, 1]);
    // A 1 in the last row, first column, goes through three rounds, its own and two of zeros: 0x01000193, then
    // 0x26027a69 ^ 0x80, then 0xbee76fca, which is 11954 modulo 65535.
    page[pageBytes - 128] = 1;
    expect(checksum(page, 0)).toBe(11_955);
  }
});

// Aim: the field itself does not count, and everything else does. Method: every bit of a page, flipped one at a time.
each("%s depends on every bit but the checksum's own", (_, checksum) => {
  const page = noise(1024, 3);
  const expected = checksum(page, 7);
  for (let bit = 0; bit < page.length * 8; bit += 1) {
    const changed = page.slice();
    changed[bit >> 3] = (page[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    if (bit >= 64 && bit < 80) expect(checksum(changed, 7)).toBe(expected);
    else expect(checksum(changed, 7), `bit ${String(bit)}`).not.toBe(expected);
  }
});

// Aim: all ways agree. Method: random pages of every size and any block number against the model.
each("%s agrees with the columns one by one", (_, checksum) => {
  const block = fc.oneof(
    fc.integer({ min: 0, max: 0xffff_ffff }),
    fc.constantFrom(0, 0x7fff_ffff, 0x8000_0000),
  );
  fc.assert(
    fc.property(fc.constantFrom(...SIZES), fc.integer({ min: 1 }), block, (pageBytes, seed, block) => {
      const page = noise(pageBytes, seed);
      expect(checksum(page, block)).toBe(columnwisePageChecksum(page, block));
    }),
    { numRuns: 30 },
  );
});

interface GoldenPage {
  readonly page: string;
  readonly postgres: string;
  readonly block: number;
  readonly checksum: number;
  readonly deflated: string;
}

const golden = JSON.parse(
  readFileSync(new URL("golden-pages.json", import.meta.url), "utf8"),
) as readonly GoldenPage[];

// Aim: it is PostgreSQL's. Method: pages that servers wrote to disk, in all ways; then one wrong byte, and a wrong block.
test.each(golden)("the $page of PostgreSQL $postgres has this checksum", ({ block, checksum, deflated }) => {
  const page = inflateRawSync(Buffer.from(deflated, "base64"));
  expect(page.readUInt16LE(8)).toBe(checksum);
  for (const compute of Object.values(implementations)) expect(compute(page, block)).toBe(checksum);
  expect(verifyPage(page, block)).toBe("valid");
  expect(verifyPage(page, block + 1)).toBe("invalid");
  page[5000] = (page[5000] ?? 0) ^ 0x10;
  expect(verifyPage(page, block)).toBe("invalid");
});

test("the golden pages are of both ends of the supported versions", () => {
  expect(new Set(golden.map(({ postgres }) => Number.parseInt(postgres, 10)))).toEqual(new Set([15, 18]));
});

// Aim: a page that was never initialised is told from one that lost its contents. Method: zeros, and zeros with a byte.
test("a page of zeros is new, and not if a byte is set", () => {
  const memory = new Memory({ initial: 1, maximum: 1, shared: true });
  const pages = createPageChecksummer(memory);
  const states = (page: Uint8Array): string[] => {
    new Uint8Array(memory.buffer).set(page, 8192);
    return [verifyPage(page, 3), pages.verify(8192, 3)];
  };
  const page = new Uint8Array(8192);
  expect(states(page)).toEqual(["new", "new"]);
  // With pd_upper still 0 not even the right checksum helps: PostgreSQL has never written such a page.
  page[8191] = 1;
  new DataView(page.buffer).setUint16(8, pageChecksum(page, 3), true);
  expect(states(page)).toEqual(["invalid", "invalid"]);
  // With a free space that ends somewhere the page is initialised.
  new DataView(page.buffer).setUint16(14, 8192, true);
  expect(states(page)).toEqual(["invalid", "invalid"]);
  new DataView(page.buffer).setUint16(8, pageChecksum(page, 3), true);
  expect(states(page)).toEqual(["valid", "valid"]);
});

// Aim: checking never writes, so that others may read the page meanwhile. Method: compare everything afterwards.
each("%s leaves the page alone", (_, checksum) => {
  const page = noise(8192, 11);
  const copy = page.slice();
  checksum(page, 1);
  expect(Buffer.compare(page, copy)).toBe(0);
});

test("a memory is not written to, not even by a check", () => {
  const memory = new Memory({ initial: 1, maximum: 1, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  bytes.set(noise(65_536, 2));
  const copy = bytes.slice();
  const pages = createPageChecksummer(memory);
  for (let at = 0; at < 65_536; at += 8192) pages.verify(at, at);
  expect(Buffer.compare(bytes, copy)).toBe(0);
});

// Aim: the checksummer follows a memory that grows. Method: pages in the part that was added, also at its very end.
test.each([true, false])("pages can be checked where a memory has grown (shared: %s)", (shared) => {
  const memory = new Memory({ initial: 1, maximum: 2, ...(shared && { shared }) });
  const pages = createPageChecksummer(memory);
  expect(pages.method).toBe("webassembly");
  expect(() => pages.checksum(65_536, 0)).toThrow(RangeError);
  memory.grow(1);
  const page = noise(8192, 4);
  for (const at of [0, 65_536 - 4096, 2 * 65_536 - 8192]) {
    new Uint8Array(memory.buffer).set(page, at);
    expect(pages.checksum(at, 9)).toBe(columnwisePageChecksum(page, 9));
  }
  expect(() => pages.checksum(2 * 65_536 - 8191, 0)).toThrow(RangeError);
});

test("shared bytes and odd offsets can be read", () => {
  const page = noise(8192, 6);
  const shared = new Uint8Array(new SharedArrayBuffer(8195), 3);
  shared.set(page);
  expect(pageChecksum(shared, 5)).toBe(columnwisePageChecksum(page, 5));
  expect(pageChecksum(Buffer.from(page), 5)).toBe(columnwisePageChecksum(page, 5));
});

test("arguments that are no page or no block are refused", () => {
  const pages = createPageChecksummer(new Memory({ initial: 1, maximum: 1, shared: true }));
  const page = new Uint8Array(8192);
  for (const length of [0, 512, 8191, 12_288, 65_536]) {
    expect(() => pageChecksum(new Uint8Array(length), 0)).toThrow(RangeError);
    expect(() => verifyPage(new Uint8Array(length), 0)).toThrow(RangeError);
    expect(() => createPageChecksummer({ buffer: new ArrayBuffer(65_536) }, length)).toThrow(RangeError);
  }
  for (const block of [-1, 2 ** 32, 0.5, Number.NaN]) {
    expect(() => pageChecksum(page, block)).toThrow(RangeError);
    expect(() => pages.checksum(0, block)).toThrow(RangeError);
  }
  for (const at of [-1, 0.5, Number.NaN, 65_536 - 8191, 2 ** 32]) {
    expect(() => pages.checksum(at, 0)).toThrow(RangeError);
    expect(() => pages.verify(at, 0)).toThrow(RangeError);
  }
  expect(() => pageChecksum(new DataView(new ArrayBuffer(8192)) as unknown as Uint8Array, 0)).toThrow(
    TypeError,
  );
});

test("pages go to WebAssembly where it exists, and to JavaScript if the memory is none", () => {
  expect(pageChecksumMethod()).toBe("webassembly");
  expect(createPageChecksummer({ buffer: new ArrayBuffer(65_536) }).method).toBe("javascript");
});
