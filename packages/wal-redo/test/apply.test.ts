/**
 * The rules that hold for all records: images, pages that have the change already, what is refused and how.
 */
import { describe, expect, test } from "vitest";
import { applyBlock, needsBase, Page, redoBlock, RedoError, RMGR } from "../src/index.js";
import type { RedoErrorCode } from "../src/index.js";
import { recordOf } from "./record-builder.js";
import type { RecordSpec } from "./record-builder.js";

const HINTS = { hintLsn: true };

function first(spec: RecordSpec) {
  const record = recordOf(spec);
  const [ref] = record.refs;
  if (ref === undefined) throw new Error("no block");
  return { record, ref };
}

/** An insert of a tuple of 24 + 4 bytes as item `number`. */
function insertOf(number: number, more: Partial<RecordSpec> = {}): RecordSpec {
  const data = Uint8Array.of(1, 0, 0, 8, 24, 0, 1, 2, 3, 4);
  return {
    rmid: RMGR.heap,
    info: 0,
    blocks: [{ id: 0, block: 3, data }],
    main: Uint8Array.of(number, 0, 0),
    ...more,
  };
}

function emptyPage(): Page {
  const page = new Page(new Uint8Array(8192));
  page.init(0);
  return page;
}

function codeOf(action: () => unknown): RedoErrorCode {
  try {
    action();
  } catch (error) {
    if (error instanceof RedoError) return error.code;
    throw error;
  }
  throw new Error("nothing was refused");
}

// Aim: a change is made once. Method: a record on a page before, at and after the record's end.
test("a record is replayed on a page that is older than its end only", () => {
  const { record, ref } = first(insertOf(1));
  for (const [high, low, wanted] of [
    [0, 0, "applied"],
    [1, 0x1fff, "applied"],
    [1, 0x2000, "present"],
    [2, 0, "present"],
  ] as const) {
    const page = emptyPage();
    page.setLsn(high, low);
    expect(redoBlock(record, ref, page, HINTS)).toBe(wanted);
    expect(page.maxOffset).toBe(wanted === "applied" ? 1 : 0);
    if (wanted === "applied")
      expect([page.isAtLeast(1, 0x2000), page.isAtLeast(1, 0x2001)]).toEqual([true, false]);
  }
});

// Aim: the base is borrowed. Method: a success and a failure, the base compared.
test("the page that is given stays as it is", () => {
  const base = emptyPage().bytes;
  const before = Uint8Array.from(base);
  const { record, ref } = first(insertOf(1));
  const result = applyBlock(record, ref, base, HINTS);
  expect(new Page(result).maxOffset).toBe(1);
  expect(Buffer.compare(base, before)).toBe(0);
  const wrong = first(insertOf(5));
  expect(codeOf(() => applyBlock(wrong.record, wrong.ref, base, HINTS))).toBe("ERR_REDO_INVARIANT");
  expect(Buffer.compare(base, before)).toBe(0);
});

describe("an image that is to be applied", () => {
  const image = emptyPage();
  image.addItem(new Uint8Array(40).fill(9), 0, 40, 1, "insert");

  test("replaces the page whatever its LSN, and takes the record's end", () => {
    const { record, ref } = first({ rmid: RMGR.xlog, info: 0xb0, blocks: [{ id: 0, image: image.bytes }] });
    const page = emptyPage();
    page.setLsn(9, 9);
    expect(redoBlock(record, ref, page, HINTS)).toBe("applied");
    expect(page.maxOffset).toBe(1);
    expect([page.isAtLeast(1, 0x2000), page.isAtLeast(1, 0x2001)]).toEqual([true, false]);
    expect(needsBase(ref)).toBe(false);
  });

  test("of a page that was never initialised has no LSN", () => {
    const { record, ref } = first({
      rmid: RMGR.xlog,
      info: 0xb0,
      blocks: [{ id: 0, image: new Uint8Array(8192) }],
    });
    expect(applyBlock(record, ref, undefined, HINTS).every((byte) => byte === 0)).toBe(true);
  });
});

// Aim: a page that the record initialises needs no base, and takes nothing from one. Method: an insert into a new page, on
// nothing and on rubbish with a later LSN.
test("a record that initialises its page ignores what was there", () => {
  const data = Uint8Array.of(1, 0, 0, 8, 24, 0, 1, 2, 3, 4);
  const { record, ref } = first(
    insertOf(1, { info: 0x80, blocks: [{ id: 0, block: 3, data, willInit: true }] }),
  );
  const fresh = applyBlock(record, ref, undefined, HINTS);
  expect(Buffer.compare(applyBlock(record, ref, new Uint8Array(8192).fill(0xff), HINTS), fresh)).toBe(0);
  const page = new Page(fresh);
  const tuple = page.normalItem(1);
  // xmin, xmax, command id, ctid, flags, header length, then the body.
  expect(
    Buffer.from(page.bytes.subarray(tuple, tuple + 28))
      .toString("hex")
      .match(/.{8}/g)
      ?.join(" "),
  ).toBe("bc020000 00000000 00000000 00000300 01000100 00081800 01020304");
});

// Aim: each failure has its code and says where. Method: one of each.
test.each<[string, RecordSpec, RedoErrorCode]>([
  [
    "a resource manager without pages",
    { rmid: RMGR.standby, info: 0, blocks: [{ id: 0 }] },
    "ERR_REDO_UNSUPPORTED",
  ],
  ["an extension's resource manager", { rmid: 200, info: 0, blocks: [{ id: 0 }] }, "ERR_REDO_UNSUPPORTED"],
  [
    "a split of an SP-GiST page",
    { rmid: RMGR.spgist, info: 0x50, blocks: [{ id: 0 }] },
    "ERR_REDO_UNSUPPORTED",
  ],
  ["a hash bucket's split", { rmid: RMGR.hash, info: 0x40, blocks: [{ id: 0 }] }, "ERR_REDO_UNSUPPORTED"],
  ["a BRIN page's first tuple", { rmid: RMGR.brin, info: 0x90, blocks: [{ id: 0 }] }, "ERR_REDO_UNSUPPORTED"],
  [
    "a posting tree of GIN",
    { rmid: RMGR.gin, info: 0x20, blocks: [{ id: 0 }], main: Uint8Array.of(3, 0) },
    "ERR_REDO_UNSUPPORTED",
  ],
  [
    "a deletion from a GiST page",
    { rmid: RMGR.gist, info: 0x10, blocks: [{ id: 0 }] },
    "ERR_REDO_UNSUPPORTED",
  ],
  ["an item in use", insertOf(0), "ERR_REDO_INVARIANT"],
  ["data that are missing", insertOf(1, { blocks: [{ id: 0 }] }), "ERR_REDO_INVARIANT"],
  ["main data that are missing", insertOf(1, { main: Uint8Array.of(1) }), "ERR_REDO_INVARIANT"],
  ["an operation without blocks", { rmid: RMGR.heap, info: 0x30, blocks: [{ id: 0 }] }, "ERR_REDO_INVARIANT"],
  [
    "a page image without the image",
    { rmid: RMGR.xlog, info: 0xb0, blocks: [{ id: 0 }] },
    "ERR_REDO_INVARIANT",
  ],
  [
    "a piece beyond the page",
    { rmid: RMGR.generic, info: 0, blocks: [{ id: 0, data: Uint8Array.of(0xff, 0x1f, 2, 0, 1, 1) }] },
    "ERR_REDO_INVARIANT",
  ],
])("%s is refused", (_what, spec, code) => {
  const { record, ref } = first(spec);
  let error: unknown;
  try {
    applyBlock(record, ref, emptyPage().bytes, HINTS);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(RedoError);
  const { code: found, place } = error as RedoError;
  if (place === undefined) throw new Error("no place");
  expect([found, place.lsn, place.rmid, place.operation]).toEqual([
    code,
    record.startLsn,
    spec.rmid,
    spec.info & 0xf0,
  ]);
  expect([place.rel, place.fork, place.block]).toEqual([ref.rel, ref.fork, ref.block]);
});

test("a change of a page of which no earlier state is given is refused", () => {
  const { record, ref } = first(insertOf(1));
  expect(needsBase(ref)).toBe(true);
  expect(codeOf(() => applyBlock(record, ref, undefined, HINTS))).toBe("ERR_REDO_BASE_MISSING");
});

// Aim: the LSN of a heap page that became all visible depends on whether hints are logged. Method: both.
test.each([true, false])("VISIBLE changes a heap page's LSN if hints are logged: %s", (hintLsn) => {
  const record = recordOf({
    rmid: RMGR.heap2,
    info: 0x40,
    blocks: [
      { id: 0, fork: 2 },
      { id: 1, block: 6 },
    ],
    main: Uint8Array.of(0, 0, 0, 0, 3),
  });
  const [map, heap] = record.refs;
  if (map === undefined || heap === undefined) throw new Error("no block");
  const page = new Page(applyBlock(record, heap, emptyPage().bytes, { hintLsn }));
  expect([page.flags, page.isAtLeast(1, 0x2000)]).toEqual([4, hintLsn]);
  // The map's page may be new.
  const visible = new Page(applyBlock(record, map, new Uint8Array(8192), { hintLsn }));
  expect([visible.bytes[25], visible.isAtLeast(1, 0x2000), visible.upper]).toEqual([0b0011_0000, true, 8192]);
});
