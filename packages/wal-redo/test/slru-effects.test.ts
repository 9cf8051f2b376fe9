/**
 * Transaction status and multixacts: which bytes change, at the borders of pages, groups and numbers. Real records are in
 * recovery.pg.test.ts.
 */
import { expect, test } from "vitest";
import { applySlruEffect, RMGR, slruEffects, transactionEnd } from "../src/index.js";
import type { SlruPageEffect } from "../src/index.js";
import { recordOf } from "./record-builder.js";

const PAGE = 8192;

/** Little-endian words, two for what has 64 bits. */
function words(...values: readonly (number | bigint)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(typeof value === "bigint" ? 8 : 4);
      if (typeof value === "bigint") bytes.writeBigInt64LE(value);
      else bytes.writeUInt32LE(value);
      return bytes;
    }),
  );
}

function transaction(info: number, xid: number, ...parts: readonly Buffer[]) {
  return recordOf({
    rmid: RMGR.transaction,
    info,
    blocks: [],
    main: Buffer.concat([words(99n), ...parts]),
    xid,
    pgMajor: 18,
  });
}

function applied(
  effects: readonly unknown[],
  slru: string,
  page: number,
  before: Uint8Array = new Uint8Array(PAGE),
): Buffer {
  for (const effect of effects as readonly SlruPageEffect[]) {
    if (effect.slru === slru && effect.page === page) applySlruEffect(effect, before);
  }
  return Buffer.from(before);
}

// Aim: two bits a transaction, whatever else the record says. Method: commits and aborts with all parts, over a page's border.
test("a commit sets its transaction and all subtransactions", () => {
  const parts = [
    words(0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x100),
    words(5, 1663),
    words(2, 32_767, 32_769),
    words(1, 1663, 5, 16_400),
    words(1, 2, 5, 16_400, 0),
    words(1, 1, 2, 3, 4),
    words(32_768),
  ];
  const record = transaction(0x80 | 0x30, 4, ...parts);
  expect(transactionEnd(record)).toEqual({
    isCommit: true,
    xid: 32_768,
    subxids: [32_767, 32_769],
    droppedRelations: [{ spc: 1663, db: 5, rel: 16_400 }],
  });
  const effects = slruEffects(record);
  expect(effects.map((effect) => [effect.kind, "page" in effect ? effect.page : -1])).toEqual([
    ["status", 1],
    ["status", 0],
  ]);
  expect(applied(effects, "xact", 0)[8191]).toBe(0b0100_0000);
  expect(applied(effects, "xact", 1)[0]).toBe(0b0000_0101);
});

test("an abort sets aborted, over whatever was there", () => {
  const effects = slruEffects(transaction(0x20, 6));
  expect(effects).toEqual([{ kind: "status", slru: "xact", page: 0, xids: [6], status: 2 }]);
  const before: Uint8Array = new Uint8Array(PAGE);
  before[1] = 0b0111_0111;
  expect(applied(effects, "xact", 0, before)[1]).toBe(0b0110_0111);
});

test.each([0x10, 0x50, 0x60])("operation %i of Transaction ends none", (info) => {
  const record = transaction(info, 6, words(0));
  expect([transactionEnd(record), slruEffects(record)]).toEqual([undefined, []]);
});

test("the parts of a record before 18 are shorter", () => {
  const main = Buffer.concat([words(99n), words(0x02 | 0x100), words(1, 7), words(1, 2, 5, 16_400)]);
  const record = recordOf({ rmid: RMGR.transaction, info: 0x80, blocks: [], main, xid: 6, pgMajor: 17 });
  expect(transactionEnd(record)?.subxids).toEqual([7]);
});

const multixact = (info: number, main: Buffer, pgMajor = 18) =>
  recordOf({ rmid: RMGR.multiXact, info, blocks: [], main, pgMajor });

// Aim: members lie in groups of four, statuses before ids, and a group never spans pages. Method: six members over a page's
// border; every byte that changes.
test("a multixact sets its offset, the next one's, and its members", () => {
  const first = 1636 - 2;
  const members = Array.from({ length: 6 }, (_, index) => [700 + index, index % 6]).flat();
  const effects = slruEffects(multixact(0x20, words(2047, first, 6, ...members)));
  expect(applied(effects, "multixact-offsets", 0).readUInt32LE(2047 * 4)).toBe(first);
  expect(applied(effects, "multixact-offsets", 1).readUInt32LE(0)).toBe(first + 6);
  const [last, next] = [applied(effects, "multixact-members", 0), applied(effects, "multixact-members", 1)];
  const group = 408 * 20;
  expect([last[group + 2], last[group + 3]]).toEqual([0, 1]);
  expect([last.readUInt32LE(group + 4 + 8), last.readUInt32LE(group + 4 + 12)]).toEqual([700, 701]);
  expect([...next.subarray(0, 4)]).toEqual([2, 3, 4, 5]);
  expect([0, 1, 2, 3].map((index) => next.readUInt32LE(4 + 4 * index))).toEqual([702, 703, 704, 705]);
  expect(last.filter((byte) => byte !== 0).length + next.filter((byte) => byte !== 0).length).toBe(
    1 + 4 + 4 + 8,
  );
});

test("numbers of multixacts and members count around, past those that mean none", () => {
  const effects = slruEffects(multixact(0x20, words(0xffff_ffff, 0xffff_fffe, 2, 7, 1, 8, 1)));
  expect(
    effects.map((effect) => ("slot" in effect ? [effect.page, effect.slot, effect.value] : effect.kind)),
  ).toEqual([[2_097_151, 2047, 0xffff_fffe], [0, 1, 1], "members"]);
});

test.each([15, 18])("pages of PostgreSQL %i that become zeros", (pgMajor) => {
  const number = pgMajor >= 17 ? words(3n) : words(3);
  const clog = slruEffects(recordOf({ rmid: RMGR.clog, info: 0, blocks: [], main: number, pgMajor }));
  const offsets = slruEffects(multixact(0x00, number, pgMajor));
  const members = slruEffects(multixact(0x10, number, pgMajor));
  const ones = (): Uint8Array => new Uint8Array(PAGE).fill(1);
  expect(applied(clog, "xact", 3, ones()).every((byte) => byte === 0)).toBe(true);
  expect(applied(members, "multixact-members", 3, ones()).every((byte) => byte === 0)).toBe(true);
  const kept = applied(offsets, "multixact-offsets", 3, ones());
  expect([kept.readUInt32LE(0), kept.subarray(4).every((byte) => byte === 0)]).toEqual([0x0101_0101, true]);
});

test("truncations name the page that stays", () => {
  const clog = recordOf({ rmid: RMGR.clog, info: 0x10, blocks: [], main: words(40n, 3, 5), pgMajor: 18 });
  expect(slruEffects(clog)).toEqual([{ kind: "truncate", slru: "xact", page: 40 }]);
  expect(slruEffects(multixact(0x30, words(5, 1, 70_000, 10, 60_000)))).toEqual([
    { kind: "remove", slru: "multixact-members", fromPage: 0, untilPage: 36 },
    { kind: "truncate", slru: "multixact-offsets", page: 34 },
  ]);
  expect(slruEffects(multixact(0x30, words(5, 1, 1, 10, 10))).at(-1)).toEqual({
    kind: "truncate",
    slru: "multixact-offsets",
    page: 2_097_151,
  });
});

test("a record that is too short is refused, and other records say nothing", () => {
  expect(() => slruEffects(multixact(0x20, words(1, 1, 5, 700, 1)))).toThrow("end early");
  expect(() => transactionEnd(transaction(0x80, 5))).toThrow("end early");
  expect(slruEffects(recordOf({ rmid: RMGR.heap, info: 0, blocks: [] }))).toEqual([]);
});
