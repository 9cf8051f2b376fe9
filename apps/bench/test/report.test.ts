import { expect, test } from "vitest";
import { formatBound, formatRate, formatRatio, formatSuite } from "../src/report.js";

// Aim: figures have as many digits as they deserve. Method: examples of each magnitude.
test("rates have three significant digits", () => {
  expect([1_234_567, 1234, 999.6, 123.4, 12.34, 1.234, 0.04567].map(formatRate)).toEqual([
    "1,230,000",
    "1,230",
    "1,000",
    "123",
    "12.3",
    "1.23",
    "0.0457",
  ]);
  expect([0.951, 9.999, 58.49].map(formatRatio)).toEqual(["0.95", "10.00", "58.5"]);
});

// Aim: a bound reads as what it asks. Method: each kind.
test("bounds name ratio and rate", () => {
  expect(formatBound(undefined, "1/s")).toBe("-");
  expect(formatBound({ ratio: 1.5 }, "1/s")).toBe("1.50x");
  expect(formatBound({ ratio: 5, rate: 8 }, "M/s")).toBe("5.00x and 8.00 M/s");
});

// Aim: a suite that could not run says why. Method: a skipped one.
test("a skipped suite shows its reason", () => {
  const lines = formatSuite({ name: "s", question: "q?", method: [], rows: [], skipped: "no PostgreSQL" });
  expect(lines.join("\n")).toContain("skipped: no PostgreSQL");
});
