/**
 * Plots for a terminal: a few courses over the same steps, one character a step. Pure.
 *
 * Where two courses meet, the first one's mark is seen.
 */
import type { Plot } from "./row.js";

const HEIGHT = 10;
const MARKS = ["#", "o", "+", "x"] as const;

/** The lines of several plots, each after an empty one. */
export function formatPlots(plots: readonly Plot[]): string[] {
  return plots.flatMap((plot) => [""].concat(formatPlot(plot)));
}

/** The lines of a plot. A value above the scale is drawn at its top. */
export function formatPlot({ title, max, series }: Plot): string[] {
  const width = Math.max(0, ...series.map(({ values }) => values.length));
  const label = String(max);
  const rowOf = (value: number): number =>
    HEIGHT - Math.round((Math.min(Math.max(value, 0), max) / max) * HEIGHT);
  const lines = Array.from({ length: HEIGHT + 1 }, (_, row) => {
    const marks = Array.from({ length: width }, (_unused, step) => {
      const shown = series.findIndex(({ values }) => {
        const value = values[step];
        return value !== undefined && rowOf(value) === row;
      });
      return shown < 0 ? "  " : `${MARKS[shown % MARKS.length] ?? "#"} `;
    });
    const scale = row === 0 ? label : row === HEIGHT ? "0" : "";
    return `  ${scale.padStart(label.length)} | ${marks.join("").trimEnd()}`.trimEnd();
  });
  const legend = series.map(({ name }, index) => `${MARKS[index % MARKS.length] ?? "#"} ${name}`).join("   ");
  return [title, ...lines, `  ${" ".repeat(label.length)}   ${legend}`];
}
