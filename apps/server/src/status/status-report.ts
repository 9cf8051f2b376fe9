/**
 * What `millrace status` shows, made of the all-in-one's document and each acceptor's own answer. Pure.
 *
 * The document comes from another process, perhaps of another version: what is shown of it is checked, what is not
 * known is passed on in the JSON form and left out of the text.
 */
import { formatLsn } from "@millrace/lsn";
import { z } from "zod";

import type { TimelineSummary } from "../http/acceptor-client.js";
import { formatBytes } from "./status-line.js";

/** A process as the document describes it. */
interface ProcessDocument {
  readonly state: string;
  readonly pid: number | null;
  readonly restarts: number;
  readonly last_end: string | null;
}

/** The document of GET /v1/status, as much of it as is shown; LSNs are "X/X". */
export interface StatusDocument {
  readonly uptime_ms: number;
  readonly data_directory: string;
  readonly postgres: { readonly kind: string; readonly address: string; readonly state: string };
  readonly bridge: {
    readonly process: ProcessDocument;
    readonly state: string | null;
    readonly term: number | bigint | null;
    readonly received_lsn: string | null;
    readonly commit_lsn: string | null;
    readonly reported_lsn: string | null;
  };
  readonly commit_lag_bytes: number;
  readonly commit_bytes_per_second: number;
  readonly acceptors_up: number;
  readonly acceptors: readonly {
    readonly id: number;
    readonly wal_address: string;
    readonly http_url: string;
    readonly process: ProcessDocument;
    readonly stream: string | null;
    readonly lag_bytes: number | null;
  }[];
}

const integer = z.union([z.number(), z.bigint()]);
const processSchema = z.looseObject({
  state: z.string(),
  pid: z.number().nullable(),
  restarts: z.number(),
  last_end: z.string().nullable(),
});
const documentSchema: z.ZodType<StatusDocument> = z.looseObject({
  uptime_ms: z.number(),
  data_directory: z.string(),
  postgres: z.looseObject({ kind: z.string(), address: z.string(), state: z.string() }),
  bridge: z.looseObject({
    process: processSchema,
    state: z.string().nullable(),
    term: integer.nullable(),
    received_lsn: z.string().nullable(),
    commit_lsn: z.string().nullable(),
    reported_lsn: z.string().nullable(),
  }),
  commit_lag_bytes: z.number(),
  commit_bytes_per_second: z.number(),
  acceptors_up: z.number(),
  acceptors: z.array(
    z.looseObject({
      id: z.number(),
      wal_address: z.string(),
      http_url: z.string(),
      process: processSchema,
      stream: z.string().nullable(),
      lag_bytes: z.number().nullable(),
    }),
  ),
});

/** What an acceptor says of itself, or why it does not. */
export type AcceptorAnswer =
  | { readonly timeline: TimelineSummary; readonly reason?: never }
  | { readonly reason: string; readonly timeline?: never };

/** Everything that was asked; answers are in the order of the document's acceptors. */
export interface StatusPicture {
  readonly document: StatusDocument;
  readonly answers: readonly AcceptorAnswer[];
}

/** The document, or undefined when `value` is something else. */
export function parseStatusDocument(value: unknown): StatusDocument | undefined {
  const parsed = documentSchema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** True while a commit can return: PostgreSQL runs, the bridge streams, and a majority takes part. */
export function commitsReturn(document: StatusDocument): boolean {
  const { postgres, bridge, acceptors, acceptors_up: up } = document;
  return postgres.state === "running" && bridge.state === "streaming" && up * 2 > acceptors.length;
}

/** Who does not take part, with what is known about why; empty when everybody does. */
export function missingParts({ document, answers }: StatusPicture): string[] {
  const { postgres, bridge, acceptors } = document;
  const missing: string[] = [];
  if (postgres.state !== "running") missing.push(`PostgreSQL (${postgres.state})`);
  if (bridge.state !== "streaming") missing.push(`bridge (${describe(bridge.process, bridge.state)})`);
  for (const [index, acceptor] of acceptors.entries()) {
    if (acceptor.process.state === "ready" && acceptor.stream === "active") continue;
    // That a process that does not run does not answer is no news.
    const reason = acceptor.process.state === "ready" ? answers[index]?.reason : undefined;
    const why = describe(acceptor.process, acceptor.stream);
    missing.push(`acceptor ${acceptor.id} (${why}${reason === undefined ? "" : `; ${reason}`})`);
  }
  return missing;
}

function describe(process: ProcessDocument, state: string | null): string {
  const parts = [process.state === "ready" ? (state ?? "not connected") : `process ${process.state}`];
  if (process.state !== "ready" && process.last_end !== null) parts.push(`last end: ${process.last_end}`);
  if (process.state === "halted") parts.push("not started again before millrace is");
  return parts.join(", ");
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  return rows
    .map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}`.trimEnd())
    .join("\n");
}

/** The text for a terminal. */
export function formatStatus(picture: StatusPicture): string {
  const { document, answers } = picture;
  const { postgres, bridge, acceptors } = document;
  const shown = (value: string | number | bigint | null): string => (value === null ? "-" : String(value));
  const rows = acceptors.map(({ id, process, stream, lag_bytes: lag }, index) => {
    const timeline = answers[index]?.timeline;
    return [
      String(id),
      process.state,
      shown(stream),
      timeline === undefined ? "-" : String(timeline.term),
      timeline === undefined ? "-" : formatLsn(timeline.commitLsn),
      timeline === undefined ? "-" : formatLsn(timeline.flushLsn),
      lag === null ? "-" : formatBytes(lag),
      String(process.restarts),
    ];
  });
  const missing = missingParts(picture);
  const verdict = commitsReturn(document)
    ? `commits return: ${document.acceptors_up} of ${acceptors.length} acceptors take part`
    : `commits wait: ${document.acceptors_up} of ${acceptors.length} acceptors take part`;
  return `${[
    `millrace in ${document.data_directory}, up for ${Math.round(document.uptime_ms / 1000)} s`,
    "",
    `  PostgreSQL  ${postgres.state}, ${postgres.kind} at ${postgres.address}`,
    `  bridge      ${bridge.state ?? bridge.process.state}, term ${shown(bridge.term)}, restarts ${bridge.process.restarts}`,
    `  WAL         committed ${shown(bridge.commit_lsn)}, received ${shown(bridge.received_lsn)}, ` +
      `PostgreSQL was told ${shown(bridge.reported_lsn)}, lag ${formatBytes(document.commit_lag_bytes)}, ` +
      `${formatBytes(document.commit_bytes_per_second)}/s`,
    "",
    table([["acceptor", "process", "stream", "term", "commit", "flush", "lag", "restarts"], ...rows]),
    "",
    verdict,
    ...missing.map((part) => `missing: ${part}`),
  ].join("\n")}\n`;
}
