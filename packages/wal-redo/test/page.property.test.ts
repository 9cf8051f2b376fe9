/**
 * The moves on a page against a dumb model: a list of items with their contents. Where they come to lie is PostgreSQL's
 * affair (consistency.pg.test.ts compares it); here nothing may overlap, get lost or change.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Page } from "../src/index.js";
import { LINE_POINTER, PAGE_FLAG } from "../src/page.js";

type Step =
  | { readonly kind: "insert"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "delete"; readonly numbers: readonly number[] }
  | { readonly kind: "overwrite"; readonly at: number; readonly bytes: Uint8Array };

const bytes = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 40, size: "max" }),
  fc.uint8Array({ minLength: 300, maxLength: 900, size: "max" }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("insert" as const), at: fc.nat(300), bytes }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("delete" as const),
      numbers: fc.array(fc.nat(300), { minLength: 1, maxLength: 6, size: "max" }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("overwrite" as const), at: fc.nat(300), bytes }) },
);

function words(numbers: readonly number[]): DataView {
  const view = new DataView(new ArrayBuffer(2 * numbers.length));
  for (const [index, number] of numbers.entries()) view.setUint16(2 * index, number, true);
  return view;
}

function pageOf(bytes: Uint8Array): Page {
  return new Page(bytes);
}

/** Items do not overlap, and lie between the line pointers and the special space. */
function expectSound(page: Page, items: readonly Uint8Array[]): void {
  expect(page.maxOffset).toBe(items.length);
  expect(page.lower).toBeLessThanOrEqual(page.upper);
  expect(page.upper).toBeLessThanOrEqual(page.special);
  const taken: [number, number][] = [];
  for (const [index, wanted] of items.entries()) {
    const offset = page.item(index + 1);
    expect(page.itemBytes(index + 1)).toBe(wanted.byteLength);
    expect(Buffer.compare(page.bytes.subarray(offset, offset + wanted.byteLength), wanted)).toBe(0);
    taken.push([offset, offset + ((wanted.byteLength + 7) & ~7)]);
  }
  taken.sort(([a], [b]) => a - b);
  let end = page.upper;
  for (const [from, to] of taken) {
    expect(from).toBeGreaterThanOrEqual(end);
    end = to;
  }
  expect(end).toBeLessThanOrEqual(page.special);
}

// Aim: an index page keeps its items through any inserts, deletions and replacements. Method: random steps on a page and a
// list; a step that does not fit must be refused by the page.
test("an index page is its list of items", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const page = pageOf(new Uint8Array(8192));
      page.init(16);
      const items: Uint8Array[] = [];
      for (const each of steps) {
        if (each.kind === "insert") {
          const at = each.at % (items.length + 1);
          const free = page.upper - page.lower;
          if (4 + ((each.bytes.byteLength + 7) & ~7) > free) {
            expect(() => page.addItem(each.bytes, 0, each.bytes.byteLength, at + 1, "insert")).toThrow(
              "do not fit",
            );
            continue;
          }
          page.addItem(each.bytes, 0, each.bytes.byteLength, at + 1, "insert");
          items.splice(at, 0, each.bytes);
        } else if (items.length === 0) continue;
        else if (each.kind === "delete") {
          const numbers = [...new Set(each.numbers.map((number) => (number % items.length) + 1))].sort(
            (a, b) => a - b,
          );
          page.deleteIndexItems(words(numbers), 0, numbers.length);
          for (const number of numbers.toReversed()) items.splice(number - 1, 1);
        } else {
          const at = each.at % items.length;
          const grows = ((each.bytes.byteLength + 7) & ~7) - (((items[at]?.byteLength ?? 0) + 7) & ~7);
          if (grows > page.upper - page.lower) continue;
          page.overwriteIndexItem(at + 1, each.bytes, 0, each.bytes.byteLength);
          items[at] = each.bytes;
        }
        expectSound(page, items);
      }
    }),
    { numRuns: 400 },
  );
});

// Aim: two deletions and three take different ways, as PostgreSQL's do. Method: the same page, its last items deleted: two of
// them move nothing but what lay below; three lay the rest out anew, in the order of their numbers.
test("deleting two items and three leaves the others in different places", () => {
  const build = (): Page => {
    const page = pageOf(new Uint8Array(8192));
    page.init(16);
    for (let number = 1; number <= 6; number += 1) {
      page.addItem(new Uint8Array(16).fill(number), 0, 16, 1, "insert"); // numbers against places
    }
    return page;
  };
  const two = build();
  two.deleteIndexItems(words([5, 6]), 0, 2);
  const three = build();
  three.deleteIndexItems(words([4, 5, 6]), 0, 3);
  const offsets = (page: Page): number[] =>
    Array.from({ length: page.maxOffset }, (_, index) => page.itemOffset(index + 1));
  expect(offsets(two)).toEqual([8112, 8128, 8144, 8160]);
  expect(offsets(three)).toEqual([8160, 8144, 8128]);
});

// Aim: a heap page after pruning has what was not pruned. Method: random states of line pointers; both ways to clean up.
test("pruning keeps what is in use and cuts what is not", () => {
  const states = fc.array(
    fc.constantFrom(LINE_POINTER.normal, LINE_POINTER.unused, LINE_POINTER.dead, LINE_POINTER.redirect),
    { minLength: 1, maxLength: 50, size: "max" },
  );
  fc.assert(
    fc.property(states, fc.boolean(), (wanted, repairs) => {
      const page = pageOf(new Uint8Array(8192));
      page.init(0);
      for (const [index] of wanted.entries()) {
        page.addItem(new Uint8Array(20 + index).fill(index + 1), 0, 20 + index, index + 1, "overwrite");
      }
      for (const [index, state] of wanted.entries()) {
        if (state !== LINE_POINTER.normal)
          page.setPointer(index + 1, state === LINE_POINTER.redirect ? 1 : 0, state, 0);
      }
      const upperBefore = page.upper;
      if (repairs) page.repair();
      else page.truncateLinePointers();
      const lastUsed = wanted.findLastIndex((state) => state !== LINE_POINTER.unused) + 1;
      const left = repairs ? lastUsed : Math.max(1, lastUsed);
      expect(page.maxOffset).toBe(left);
      const unusedLeft = wanted.slice(0, left).includes(LINE_POINTER.unused);
      expect((page.flags & PAGE_FLAG.hasFreeLinePointers) !== 0).toBe(unusedLeft);
      let stored = 0;
      for (let number = 1; number <= left; number += 1) {
        const state = wanted[number - 1];
        expect(page.itemState(number)).toBe(state);
        if (state !== LINE_POINTER.normal) continue;
        const offset = page.normalItem(number);
        expect([...new Set(page.bytes.subarray(offset, offset + 19 + number))]).toEqual([number]);
        stored += (19 + number + 7) & ~7;
      }
      expect(page.upper).toBe(repairs ? 8192 - stored : upperBefore);
    }),
    { numRuns: 500 },
  );
});

// Aim: what a record cannot mean is refused. Method: each border of the line pointers and of the space.
test("items beyond the page's end, in use, or not there are refused", () => {
  const page = pageOf(new Uint8Array(8192));
  page.init(0);
  const item = new Uint8Array(100);
  page.addItem(item, 0, 100, 1, "overwrite");
  expect(() => page.addItem(item, 0, 100, 3, "overwrite")).toThrow("item 3 of 1");
  expect(() => page.addItem(item, 0, 100, 0, "insert")).toThrow("item 0");
  expect(() => page.addItem(item, 0, 100, 1, "overwrite")).toThrow("in use");
  expect(() => page.addItem(item, 0, 0, 2, "overwrite")).toThrow("no bytes");
  expect(() => page.deleteIndexItem(2)).toThrow("item 2 of 1");
  expect(() => page.deleteIndexItems(words([1, 1, 1]), 0, 3)).toThrow("not in order");
  expect(() => page.overwriteIndexItem(1, new Uint8Array(8100), 0, 8100)).not.toThrow();
  expect(() => page.overwriteIndexItem(1, new Uint8Array(8190), 0, 8190)).toThrow("do not fit");
  expect(() => pageOf(new Uint8Array(4096))).toThrow(RangeError);
});
