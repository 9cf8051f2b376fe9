/**
 * Timeline history files: what PostgreSQL writes is read, what it refuses is refused with the line's number, and
 * whatever is written is read back.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  formatTimelineHistory,
  parseLsn,
  parseTimelineHistory,
  parseTimelineHistoryFileName,
  TIMELINE_HISTORY_BYTES_MAX,
  TIMELINE_HISTORY_LINE_BYTES_MAX,
  timelineHistoryFileName,
  toLsn,
} from "../src/index.js";
import type { TimelineHistoryEntry } from "../src/index.js";

const FIRST = { timelineId: 1, switchLsn: parseLsn("0/A16440"), reason: "no recovery target specified" };
const SECOND = { timelineId: 2, switchLsn: parseLsn("1/2000"), reason: 'at restore point "before the drop"' };

// Aim: byte-equal to the server. Method: the text a promotion of PostgreSQL 15 left, and that of a second promotion.
test("the file of a promotion is read and written as the server does", () => {
  const once = "1\t0/A16440\tno recovery target specified\n";
  expect(parseTimelineHistory(once, 2)).toEqual([FIRST]);
  expect(formatTimelineHistory([FIRST])).toBe(once);
  const twice = `${once}\n2\t1/2000\tat restore point "before the drop"\n`;
  expect(parseTimelineHistory(twice, 3)).toEqual([FIRST, SECOND]);
  expect(formatTimelineHistory([FIRST, SECOND])).toBe(twice);
});

// Aim: hand-edited files work. Method: comments, blank lines, spaces, CRLF, no reason, no final newline.
test("comments, blank lines and other white space say nothing", () => {
  const text = "# kept by hand\r\n\r\n \t\n  1 \t0/a16440\tno recovery target specified\r\n  # more\n5\t2/0";
  expect(parseTimelineHistory(text, 9)).toEqual([
    FIRST,
    { timelineId: 5, switchLsn: parseLsn("2/0"), reason: "" },
  ]);
  expect(parseTimelineHistory("", 1)).toEqual([]);
  expect(parseTimelineHistory("#\n\n", 4)).toEqual([]);
});

// Aim: each defect has its code and its line. Method: one defect in a file whose first line is sound.
test.each([
  ["x\t0/1\treason", "ERR_LSN_HISTORY_SYNTAX"],
  ["2", "ERR_LSN_HISTORY_SYNTAX"],
  ["2\t", "ERR_LSN_HISTORY_SYNTAX"],
  ["2\t0", "ERR_LSN_HISTORY_SYNTAX"],
  ["2\t0/G", "ERR_LSN_HISTORY_SYNTAX"],
  ["2\t0/123456789", "ERR_LSN_HISTORY_SYNTAX"],
  ["2 0/1reason", "ERR_LSN_HISTORY_SYNTAX"],
  ["-2\t0/1", "ERR_LSN_HISTORY_SYNTAX"],
  ["0\t0/1", "ERR_LSN_HISTORY_SYNTAX"],
  ["4294967296\t0/1", "ERR_LSN_HISTORY_SYNTAX"],
  ["1\t0/1\tagain", "ERR_LSN_HISTORY_ORDER"],
  ["7\t0/1\titself", "ERR_LSN_HISTORY_ORDER"],
  ["8\t0/1\tlater", "ERR_LSN_HISTORY_ORDER"],
  [`2\t0/1\t${"é".repeat(512)}`, "ERR_LSN_HISTORY_LIMIT"],
])("the line %j is refused with its number", (line, code) => {
  const text = `1\t0/A16440\tpromotion\n# comment\n${line}\n`;
  expect(() => parseTimelineHistory(text, 7)).toThrow(
    expect.objectContaining({ name: "TimelineHistoryError", code, line: 3 }),
  );
});

// Aim: neither direction passes the bounds. Method: the longest line and file that fit, and one byte more.
test("lines and files are bounded in bytes", () => {
  const room = TIMELINE_HISTORY_LINE_BYTES_MAX - "1\t0/A16440\t\n".length;
  const longest = { ...FIRST, reason: "r".repeat(room) };
  expect(parseTimelineHistory(formatTimelineHistory([longest]), 2)).toEqual([longest]);
  expect(() => formatTimelineHistory([{ ...FIRST, reason: "r".repeat(room + 1) }])).toThrow(RangeError);
  expect(() => formatTimelineHistory([{ ...FIRST, reason: `${"r".repeat(room - 1)}é` }])).toThrow(RangeError);
  expect(() => parseTimelineHistory(`1\t0/A16440\t${"r".repeat(room + 1)}\n`, 2)).toThrow(
    expect.objectContaining({ code: "ERR_LSN_HISTORY_LIMIT", line: 1 }),
  );
  const comments = "# 34567\n".repeat(TIMELINE_HISTORY_BYTES_MAX / 8);
  expect(parseTimelineHistory(comments, 2)).toEqual([]);
  expect(() => parseTimelineHistory(`${comments}#`, 2)).toThrow(
    expect.objectContaining({ code: "ERR_LSN_HISTORY_LIMIT" }),
  );
  const many = Array.from({ length: 2000 }, (_, index) => ({
    ...longest,
    timelineId: index + 1,
    reason: "r".repeat(900),
  }));
  expect(() => formatTimelineHistory(many)).toThrow(RangeError);
});

// Aim: a file that would not be read back is not written. Method: one bad entry at a time.
test("entries that no file can hold are refused", () => {
  const bad: TimelineHistoryEntry[][] = [
    [{ ...FIRST, reason: "two\nlines" }],
    [{ ...FIRST, reason: "carriage\r" }],
    [{ ...FIRST, reason: "nul\0" }],
    [{ ...FIRST, timelineId: 0 }],
    [{ ...FIRST, timelineId: 1.5 }],
    [FIRST, FIRST],
    [SECOND, FIRST],
  ];
  for (const entries of bad) expect(() => formatTimelineHistory(entries)).toThrow(RangeError);
  expect(formatTimelineHistory([])).toBe("");
});

// Aim: what is written is read back unchanged. Method: random ancestries with reasons of any printable characters.
test("any ancestry is read back from its file", () => {
  const reason = fc.string({ unit: "grapheme", maxLength: 60 }).filter((text) => !/[\n\r\0]/.test(text));
  const ids = fc.uniqueArray(fc.integer({ min: 1, max: 2 ** 32 - 2 }), { maxLength: 40, size: "max" });
  const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(toLsn);
  const ancestry = ids.chain((unsorted) => {
    const sorted = unsorted.toSorted((a, b) => a - b);
    return fc.tuple(
      ...sorted.map((timelineId) =>
        fc.record({ timelineId: fc.constant(timelineId), switchLsn: lsn, reason }),
      ),
    );
  });
  fc.assert(
    fc.property(ancestry, (entries) => {
      const child = (entries.at(-1)?.timelineId ?? 0) + 1;
      expect(parseTimelineHistory(formatTimelineHistory(entries), child)).toEqual(entries);
    }),
  );
});

// Aim: no text breaks the reader in another way. Method: random lines of plausible characters.
test("any text is read or refused with a code", () => {
  const anyText = fc.string({
    unit: fc.constantFrom(...Array.from("0129AF/\t\n\r #x-")),
    maxLength: 200,
    size: "max",
  });
  fc.assert(
    fc.property(anyText, (text) => {
      try {
        const entries = parseTimelineHistory(text, 100);
        for (const [index, entry] of entries.entries()) {
          expect(entry.timelineId).toBeGreaterThan(entries[index - 1]?.timelineId ?? 0);
          expect(entry.timelineId).toBeLessThan(100);
        }
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_LSN_HISTORY_(SYNTAX|ORDER)$/) });
      }
    }),
    { numRuns: 500 },
  );
});

// Aim: history files are found by name. Method: both directions and near misses.
test("history file names are written and read", () => {
  expect(timelineHistoryFileName(2)).toBe("00000002.history");
  expect(timelineHistoryFileName(0xffffffff)).toBe("FFFFFFFF.history");
  expect(parseTimelineHistoryFileName("0000000A.history")).toBe(10);
  for (const name of [
    "00000000.history",
    "0000000a.history",
    "2.history",
    "00000002.history.gz",
    "00000002",
  ]) {
    expect(parseTimelineHistoryFileName(name)).toBeUndefined();
  }
  for (const timelineId of [0, 2 ** 32])
    expect(() => timelineHistoryFileName(timelineId)).toThrow(RangeError);
  expect(() => parseTimelineHistory("", 0)).toThrow(RangeError);
});
