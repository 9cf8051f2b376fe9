/**
 * The error word of a read of pages, what it says in words, and the table of checksum failures.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { checksumFailureRows, countChecksumFailures } from "../src/checksum-failures.js";
import { CHECKSUM_FAILURES_ENTRIES } from "../src/layout.js";
import { decodeReadFaults, describeReadFaults, encodeReadFaults, invalidPages } from "../src/read-errors.js";
import type { ReadFaults } from "../src/read-errors.js";

const none: ReadFaults = { isAnyZeroed: false, isAnyIgnored: false, count: 0, checksumFailures: 0, first: 0 };
const range = { name: 'relation "base/5/16384"', block: 1, blocks: 5 };

describe("the error word", () => {
  test("is PostgreSQL's", () => {
    const faults = { isAnyZeroed: true, isAnyIgnored: true, count: 3, checksumFailures: 2, first: 2 };
    expect(encodeReadFaults(faults)).toBe(132_111);
  });

  test("gives back what it was made of, in 23 bits", () => {
    const seven = fc.nat(127);
    const faults = fc.record({
      isAnyZeroed: fc.boolean(),
      isAnyIgnored: fc.boolean(),
      count: seven,
      checksumFailures: seven,
      first: seven,
    });
    fc.assert(
      fc.property(faults, (faults) => {
        const word = encodeReadFaults(faults);
        expect(decodeReadFaults(word)).toEqual(faults);
        expect(word).toBeLessThan(2 ** 23);
      }),
    );
  });

  test("counts 128 pages as 127, at least", () => {
    const word = encodeReadFaults({ ...none, count: 128, checksumFailures: 128, first: 127 });
    expect(decodeReadFaults(word)).toEqual({ ...none, count: 127, checksumFailures: 127, first: 127 });
    expect(describeReadFaults(word, true, { ...range, blocks: 128 }).message).toBe(
      'at least 127 invalid pages among blocks 1..128 of relation "base/5/16384"; block 128 held the first invalid page',
    );
  });
});

describe("what is wrong with the pages of a read", () => {
  const cases: [Partial<ReadFaults>, boolean, string, number, number][] = [
    [{ count: 1, first: 2 }, true, 'invalid page in block 3 of relation "base/5/16384"', 3, 1],
    [
      { count: 2, checksumFailures: 2, first: 1 },
      true,
      '2 invalid pages among blocks 1..5 of relation "base/5/16384"; block 2 held the first invalid page',
      2,
      2,
    ],
    // An accepted page beside one that fails the read: the failure is what is told.
    [
      { count: 1, isAnyIgnored: true, checksumFailures: 1, first: 4 },
      true,
      'invalid page in block 5 of relation "base/5/16384"',
      5,
      1,
    ],
    [
      { count: 1, isAnyZeroed: true },
      false,
      'invalid page in block 1 of relation "base/5/16384"; zeroing out page',
      1,
      1,
    ],
    [
      { count: 2, isAnyZeroed: true, first: 1 },
      false,
      'zeroing out 2 invalid pages among blocks 1..5 of relation "base/5/16384"; block 2 held the first zeroed page',
      2,
      2,
    ],
    [
      { isAnyIgnored: true, checksumFailures: 1, first: 3 },
      false,
      'ignoring checksum failure in block 4 of relation "base/5/16384"',
      4,
      1,
    ],
    [
      { isAnyIgnored: true, checksumFailures: 3, first: 0 },
      false,
      'ignoring 3 checksum failures among blocks 1..5 of relation "base/5/16384"; block 1 held the first ignored page',
      1,
      3,
    ],
    [
      { isAnyIgnored: true, isAnyZeroed: true, count: 3, checksumFailures: 2, first: 2 },
      false,
      'zeroing 3 pages and ignoring 2 checksum failures among blocks 1..5 of relation "base/5/16384"; ' +
        "block 3 held the first zeroed page",
      3,
      5,
    ],
    [
      { isAnyIgnored: true, isAnyZeroed: true, count: 1, checksumFailures: 1, first: 2 },
      false,
      'zeroing 1 page and ignoring 1 checksum failure among blocks 1..5 of relation "base/5/16384"',
      3,
      2,
    ],
  ];
  test.each(cases)("%o (error: %s) is said in words", (faults, isError, message, block, pages) => {
    const word = encodeReadFaults({ ...none, ...faults });
    expect(describeReadFaults(word, isError, range)).toEqual({ message, block, pages });
  });

  test("is an error with the first block and the number of pages", () => {
    const error = invalidPages(encodeReadFaults({ ...none, count: 2, first: 1 }), range);
    expect(error).toMatchObject({
      code: "ERR_BUFFER_INVALID_PAGE",
      name: "InvalidPageError",
      block: 2,
      pages: 2,
    });
  });
});

describe("checksum failures", () => {
  const AT = 16;
  const createTable = (): Int32Array =>
    new Int32Array(new SharedArrayBuffer((AT + 2 * CHECKSUM_FAILURES_ENTRIES) * 4));

  test("are counted by database, and those of shared relations by themselves", () => {
    const words = createTable();
    expect(checksumFailureRows(words, AT)).toEqual([]);
    countChecksumFailures(words, AT, 16_384, 2);
    countChecksumFailures(words, AT, 0, 1);
    countChecksumFailures(words, AT, 4_294_967_295, 3);
    countChecksumFailures(words, AT, 16_384, 5);
    expect(checksumFailureRows(words, AT)).toEqual([
      { database: null, failures: 1 },
      { database: 16_384, failures: 7 },
      { database: 4_294_967_295, failures: 3 },
    ]);
  });

  test("of databases beyond the table are counted together", () => {
    const words = createTable();
    for (let database = 1; database <= CHECKSUM_FAILURES_ENTRIES + 1; database++) {
      countChecksumFailures(words, AT, database, 1);
    }
    const rows = checksumFailureRows(words, AT);
    expect(rows.length).toBe(CHECKSUM_FAILURES_ENTRIES - 1);
    expect(rows.at(-1)).toEqual({ database: "others", failures: 3 });
  });
});
