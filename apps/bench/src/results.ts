/**
 * The results file: `{ machine, suites: [{ name, rows: [...] }] }`, and what the exit code says of it.
 */
import type { Machine } from "./machine.js";
import type { SuiteResult } from "./row.js";

/** What one run of the program gave. */
export interface Results {
  readonly machine: Machine;
  readonly suites: readonly SuiteResult[];
}

/** The file's text: indented, so that two files can be compared line by line. */
export function serializeResults(results: Results): string {
  return `${JSON.stringify(results, undefined, 2)}\n`;
}

/** Names of the rows that miss their gate. */
export function failedRows(results: Results): string[] {
  return results.suites.flatMap(({ name, rows }) =>
    rows.filter(({ verdict }) => verdict === "FAIL").map((row) => `${name}: ${row.name}`),
  );
}
