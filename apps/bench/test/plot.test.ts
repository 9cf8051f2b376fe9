/**
 * Plots: marks at the height of their values, the first course in front, nothing off the scale.
 */
import { expect, test } from "vitest";

import { formatPlot } from "../src/plot.js";

test("a course is drawn from the bottom of the scale to its top, and not beyond", () => {
  const lines = formatPlot({
    title: "a title",
    max: 100,
    series: [
      { name: "rising", values: [0, 50, 100, 250] },
      { name: "flat", values: [0, 0, 0] },
    ],
  });
  expect(lines).toEqual([
    "a title",
    "  100 |     # #",
    "      |",
    "      |",
    "      |",
    "      |",
    "      |   #",
    "      |",
    "      |",
    "      |",
    "      |",
    "    0 | # o o",
    "        # rising   o flat",
  ]);
});

test("without courses there are only the scale and the title", () => {
  expect(formatPlot({ title: "nothing", max: 1, series: [] })).toHaveLength(13);
});
