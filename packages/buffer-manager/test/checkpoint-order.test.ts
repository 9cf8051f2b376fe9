/**
 * The order and the pace of a checkpoint's writes.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CheckpointList } from "../src/checkpoint-list.js";
import { CheckpointOrder } from "../src/checkpoint-order.js";
import { CHECKPOINT_TIMEOUT_MS, CheckpointPace } from "../src/checkpoint-pace.js";

/** A list of one relation in each tablespace, with so many blocks; tablespaces are 1, 2, ... */
function listOf(sizes: readonly number[]): CheckpointList {
  const list = new CheckpointList();
  for (const [tablespace, size] of sizes.entries()) {
    for (let block = 0; block < size; block++) list.push(block, tablespace + 1, 5, 9, 0, block);
  }
  list.sort();
  return list;
}

/** The order as the traces say it: A0 is block 0 of the first tablespace. */
function orderOf(sizes: readonly number[]): string {
  const list = listOf(sizes);
  const order = new CheckpointOrder(list);
  const names: string[] = [];
  for (let at = order.next; at >= 0; at = order.next) {
    names.push(`${String.fromCodePoint(64 + list.tablespace(at))}${list.block(at)}`);
    order.advance(1);
  }
  return names.join(" ");
}

const U32 = fc.oneof(fc.nat(3), fc.constantFrom(2047, 2048, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe), fc.nat());

describe("the order of a checkpoint", () => {
  test.each([
    [[4, 2], "A0 B0 A1 A2 B1 A3"],
    [[2, 4], "A0 B0 B1 B2 A1 B3"],
    [[6, 3, 1], "A0 B0 C0 A1 A2 B1 A3 A4 B2 A5"],
    [[5, 5], "A0 B0 B1 A1 A2 B2 B3 A3 A4 B4"],
    [[3, 3, 3], "A0 B0 C0 C1 A1 B1 B2 A2 C2"],
    [[3], "A0 A1 A2"],
    [[], ""],
  ])("of tablespaces with %j dirty pages is PostgreSQL's", (sizes, expected) => {
    expect(orderOf(sizes)).toBe(expected);
  });

  // Aim: tablespaces stay level. Method: after every step of up to `most` blocks, each tablespace has had its share of all
  // that was written, give or take the last step.
  test("keeps tablespaces level at every moment, one block at a time and several", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8, size: "max" });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 5 }), (sizes, most) => {
        const list = listOf(sizes);
        const order = new CheckpointOrder(list);
        const written = sizes.map(() => 0);
        let total = 0;
        for (let at = order.next; at >= 0; at = order.next) {
          const step = Math.min(most, order.left);
          const group = list.tablespace(at) - 1;
          expect(list.block(at)).toBe(written[group]);
          written[group] = (written[group] ?? 0) + step;
          total += step;
          order.advance(step);
          const least = Math.min(...sizes.map((size, index) => (written[index] ?? 0) / size));
          for (const [index, size] of sizes.entries()) {
            const ideal = (total * size) / list.count;
            const difference = (written[index] ?? 0) - ideal;
            expect(difference).toBeLessThanOrEqual(most + 1e-9);
            expect((written[index] ?? 0) / size - least).toBeLessThanOrEqual(most / size + 1e-9);
          }
        }
        expect(written).toEqual(sizes);
      }),
    );
  });

  test("refuses to go on past the end of a tablespace", () => {
    const order = new CheckpointOrder(listOf([2, 1]));
    expect(order.left).toBe(2);
    expect(() => order.advance(3)).toThrow(RangeError);
  });
});

describe("the list of a checkpoint", () => {
  // Aim: the radix sort is a sort. Method: against comparisons of bigints made of the same keys.
  test("is in the order of the files, by unsigned numbers", () => {
    const tag = fc.tuple(U32, U32, U32, fc.nat(3), U32);
    fc.assert(
      fc.property(fc.array(tag, { maxLength: 300, size: "max" }), (tags) => {
        const list = new CheckpointList();
        for (const [buffer, [tablespace, database, relation, fork, block]] of tags.entries()) {
          list.push(buffer, tablespace | 0, database | 0, relation | 0, fork, block | 0);
        }
        list.sort();
        const key = (buffer: number): bigint => {
          const [tablespace = 0, database = 0, relation = 0, fork = 0, block = 0] = tags[buffer] ?? [];
          return [tablespace, relation, database, fork, block].reduce(
            (sum, word) => (sum << 32n) | BigInt(word),
            0n,
          );
        };
        const order = Array.from({ length: list.count }, (_, at) => list.buffer(at));
        const expected = [...tags.keys()].toSorted((a, b) =>
          key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a - b,
        );
        expect(order).toEqual(expected);
        for (let at = 0; at < list.count; at++) {
          const next = order[at + 1];
          const isFollowed =
            next !== undefined && key(next) === key(order[at] ?? 0) + 1n && list.block(at) !== 0xffff_ffff;
          expect(list.isFollowed(at)).toBe(isFollowed);
        }
      }),
    );
  });

  test("grows with what is pushed", () => {
    const list = new CheckpointList();
    for (let block = 5000; block-- > 0;) list.push(block, 1, 1, 1, 0, block);
    list.sort();
    expect(Array.from({ length: 5000 }, (_, at) => list.buffer(at))).toEqual([...Array(5000).keys()]);
  });
});

describe("the pace of a checkpoint", () => {
  /** A pace at which so much time and WAL have gone by. */
  function paceAfter(time: number, wal = 0): CheckpointPace {
    let [now, position] = [1000, 0n];
    const options = { walBytes: 1_000_000, now: () => now, walPosition: () => position };
    const pace = new CheckpointPace(options);
    now += time * CHECKPOINT_TIMEOUT_MS;
    position += BigInt(Math.round(wal * 1_000_000));
    return pace;
  }

  test("pauses while the writes are ahead of time and WAL", () => {
    expect(paceAfter(0.4).isAhead(0.5)).toBe(true);
    expect(paceAfter(0.5).isAhead(0.5)).toBe(false);
    expect(paceAfter(0.4, 0.5).isAhead(0.5)).toBe(false);
    expect(paceAfter(0.4, 0.44).isAhead(0.5)).toBe(true);
  });

  test("looks at no clock until the writes have passed the mark where they were behind", () => {
    let looks = 0;
    let now = 0;
    const pace = new CheckpointPace({
      timeoutMs: 100,
      target: 1,
      now: () => {
        looks += 1;
        return now;
      },
    });
    now = 50;
    expect(pace.isAhead(0.2)).toBe(false);
    const before = looks;
    expect(pace.isAhead(0.3)).toBe(false);
    expect(pace.isAhead(0.49)).toBe(false);
    expect(looks).toBe(before);
    expect(pace.isAhead(0.5)).toBe(true);
    expect(looks).toBe(before + 1);
  });

  test("refuses options that are out of range", () => {
    const now = (): number => 0;
    for (const wrong of [{ target: 0 }, { target: 1.1 }, { timeoutMs: 0 }, { walBytes: 0 }]) {
      expect(() => new CheckpointPace({ now, ...wrong })).toThrow(RangeError);
    }
  });
});
