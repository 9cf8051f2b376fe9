/**
 * The demo's table: what was to be proven, the figure, and whether it holds.
 *
 * The verdict is taken from the rows and from nothing else, so that what is printed and the exit code cannot differ. A
 * report without rows proves nothing and counts as failed.
 */

/** One line of the table. */
export interface ReportRow {
  readonly name: string;
  readonly figure: string;
  readonly ok: boolean;
}

/** True when there are rows and every one holds. */
export function allHold(rows: readonly ReportRow[]): boolean {
  return rows.length > 0 && rows.every((row) => row.ok);
}

/** The table as text, one row a line, columns aligned, with a closing sentence that names the failing rows. */
export function formatReport(rows: readonly ReportRow[]): string {
  const nameWidth = Math.max(0, ...rows.map((row) => row.name.length));
  const figureWidth = Math.max(0, ...rows.map((row) => row.figure.length));
  const lines = rows.map(
    (row) =>
      `  ${row.name.padEnd(nameWidth)}  ${row.figure.padEnd(figureWidth)}  ${row.ok ? "ok" : "FAILED"}`,
  );
  const failed = rows.filter((row) => !row.ok).map((row) => `"${row.name}"`);
  const verdict =
    failed.length === 0 && rows.length > 0
      ? "All of it holds."
      : `FAILED: ${failed.length === 0 ? "nothing was proven" : failed.join(", ")}`;
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
