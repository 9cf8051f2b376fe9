/**
 * Results as text for a terminal. Pure.
 *
 * A README's table is made from the same rows by scripts/readme-numbers.mjs.
 */
import type { Machine } from "./machine.js";
import { formatPlots } from "./plot.js";
import type { Row, Side, SuiteResult } from "./row.js";
import type { Bound } from "./verdict.js";

const GIB = 1024 ** 3;

/** A rate with three significant digits and a thousands separator: 1,230 or 0.0456. */
export function formatRate(rate: number): string {
  const digits = rate >= 100 ? 0 : rate >= 10 ? 1 : rate >= 1 ? 2 : 4;
  const rounded = rate >= 1000 ? Number(rate.toPrecision(3)) : rate;
  return rounded.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A ratio with two decimals, one from 10 on. */
export function formatRatio(ratio: number): string {
  return ratio.toFixed(ratio >= 10 ? 1 : 2);
}

/** "1.70x", "≥ 10,000,000 msg/s", both, or "-". */
export function formatBound(bound: Bound | undefined, unit: string): string {
  const parts = [
    ...(bound?.ratio === undefined ? [] : [`${formatRatio(bound.ratio)}x`]),
    ...(bound?.rate === undefined ? [] : [`${formatRate(bound.rate)} ${unit}`]),
  ];
  return parts.length === 0 ? "-" : parts.join(" and ");
}

/** One line about the machine. */
export function formatMachine(machine: Machine): string {
  const memory = `${Math.round(machine.memoryBytes / GIB)} GiB`;
  return [
    `${machine.cpu}, ${machine.cores} cores, ${memory}`,
    machine.kernel,
    `${machine.fileSystem} on ${machine.device}`,
    `Node ${machine.node}`,
    machine.date,
    `commit ${machine.commit}`,
  ].join("; ");
}

function formatSide(label: string, side: Side, unit: string): string[] {
  const details = Object.entries(side.details).map(([name, value]) => `${name} ${formatRate(value)}`);
  return [
    `  ${label} ${side.name}: ${side.command}`,
    `            ${formatRate(side.median)} ${unit} (${formatRate(side.min)} to ${formatRate(side.max)})` +
      (details.length === 0 ? "" : `; ${details.join(", ")}`),
  ];
}

/** The lines of one row. */
export function formatRow(row: Row): string[] {
  const { ratio } = row;
  const judged = row.judge === "best" ? `${formatRatio(ratio.judged)}x best of each side; by round ` : "";
  return [
    `${row.id}  ${row.name}: ${row.question}`,
    ...formatSide("reference", row.reference, row.unit),
    ...formatSide("candidate", row.candidate, row.unit),
    `  ratio     ${judged}${formatRatio(ratio.median)}x (${formatRatio(ratio.min)} to ${formatRatio(ratio.max)}), ` +
      `${row.reference.rounds.length} rounds${row.tries > 1 ? ` of set ${row.tries}` : ""}`,
    `  gate ${formatBound(row.gate, row.unit)}, goal ${formatBound(row.goal, row.unit)}: ${row.verdict}` +
      `  [cache: ${row.cache}; checksum ${row.checksum}]`,
  ];
}

/** The lines of a suite. */
export function formatSuite(suite: SuiteResult): string[] {
  return [
    `== ${suite.name}: ${suite.question}`,
    ...suite.method.map((line) => `   ${line}`),
    ...(suite.skipped === undefined ? [] : [`   skipped: ${suite.skipped}`]),
    ...suite.rows.flatMap((row) => ["", ...formatRow(row)]),
    ...formatPlots(suite.plots ?? []),
    "",
  ];
}
