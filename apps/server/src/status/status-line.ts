/**
 * The one live line under the log of an all-in-one.
 *
 * On a terminal the line is rewritten in place: everything else that is printed goes through `print`, which takes
 * the line away, writes, and puts the line back, so that log and line never mix. Without a terminal nothing is
 * rewritten; the same text goes to the log every ten seconds instead.
 */
import { formatLsn } from "@millrace/lsn";

import { commitLagBytes, isStreaming } from "./cluster-status.js";
import type { ClusterStatus } from "./cluster-status.js";

/** How often the line is rewritten on a terminal. */
export const REWRITE_MS = 1000;
/** How often it is logged without one. */
export const LOG_LINE_MS = 10_000;

const DEFAULT_COLUMNS = 80;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** A number of bytes for people: three digits and a unit. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit] ?? "TiB"}`;
}

/** The line's text, without colours and line ends. */
export function statusText(status: ClusterStatus): string {
  const report = status.bridge.report;
  const up = status.acceptors.filter(isStreaming).length;
  const parts = [
    report === undefined ? "commit -" : `commit ${formatLsn(report.commitLsn)}`,
    `lag ${formatBytes(commitLagBytes(status))}`,
    `${formatBytes(status.commitBytesPerSecond)}/s`,
    report === undefined ? `bridge ${status.bridge.state}` : `term ${report.term} ${report.state}`,
    `acceptors ${up}/${status.acceptors.length} up`,
  ];
  if (status.postgres.state !== "running") parts.push(`PostgreSQL ${status.postgres.state}`);
  return parts.join("  ");
}

/** A terminal, as much of it as the line needs. */
export interface TerminalOutput {
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

const CLEAR_LINE = "\r\u001B[2K";

/** Owns the last line of a terminal. Everything printed between `show` and `close` must go through `print`. */
export class LiveLine {
  readonly #output: TerminalOutput;
  #line = "";

  constructor(output: TerminalOutput) {
    this.#output = output;
  }

  /** Rewrites the line; it is cut at the terminal's width, because a wrapped line cannot be taken back. */
  show(text: string): void {
    // A terminal that does not know its width says 0 or nothing.
    const columns = this.#output.columns;
    this.#line = text.slice(0, (columns === undefined || columns === 0 ? DEFAULT_COLUMNS : columns) - 1);
    this.#output.write(`${CLEAR_LINE}${this.#line}`);
  }

  /** Writes whole lines above the line. */
  print(text: string): void {
    const lines = text.endsWith("\n") ? text : `${text}\n`;
    this.#output.write(this.#line === "" ? lines : `${CLEAR_LINE}${lines}${this.#line}`);
  }

  /** Takes the line away for good. */
  close(): void {
    if (this.#line !== "") this.#output.write(CLEAR_LINE);
    this.#line = "";
  }
}
