/**
 * The client of an acceptor's HTTP API: what the bridge and the demo ask of it.
 *
 * Answers are checked with zod before anything is believed. Every request has a deadline and a bound on the answer's
 * size, because the other side may be anything that listens on that port.
 */
import { formatLsn, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseJson, stringifyJson } from "@millrace/wal-acceptor";
import { ProposerError } from "@millrace/wal-proposer";
import type { PgTimeline } from "@millrace/wal-proposer";
import type { Configuration } from "@millrace/wal-protocol";
import { z } from "zod";

import { describeError, ServerError } from "../errors.js";

const REQUEST_TIMEOUT_MS = 10_000;
/** A status with some thousand term history entries stays far below. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

/** What the bridge wants to exist on an acceptor. */
export interface TimelineCreation {
  readonly tenantId: string;
  readonly timelineId: string;
  readonly configuration: Configuration;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
  readonly startLsn: Lsn;
}

/** The part of a timeline's status that this client's users need. */
export interface TimelineSummary {
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly timelineStartLsn: Lsn;
  readonly segmentBytes: number;
  readonly systemId: bigint;
  readonly term: bigint;
  /** Term of the last record. */
  readonly lastLogTerm: bigint;
}

const lsn = z.string().transform((text, context): Lsn => {
  const parsed = tryParseLsn(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "not an LSN" });
  return z.NEVER;
});

const u64 = z.union([z.number(), z.bigint()]).transform(BigInt);

const statusSchema = z.looseObject({
  acceptor_state: z.looseObject({ term: u64, epoch: u64 }),
  flush_lsn: lsn,
  commit_lsn: lsn,
  timeline_start_lsn: lsn,
  pg_info: z.looseObject({
    wal_seg_size: z.number().int().positive(),
    system_id: u64,
  }),
});

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  if (response.body === null) return "";
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new RangeError(`the answer is larger than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** How a request is made. */
export interface RequestOptions {
  /** A JWT, for a server that wants one. */
  readonly token?: string | undefined;
  /** How long to wait for the whole answer; ten seconds by default. */
  readonly timeoutMs?: number;
}

/** A server that answered, with another status than success. */
class HttpStatusError extends ServerError {
  readonly status: number;

  constructor(url: string, status: number, text: string) {
    super("ERR_SERVER_HTTP", `${url} answered ${status}: ${text.slice(0, 300)}`);
    this.status = status;
  }
}

async function request(url: string, init: RequestInit, options: RequestOptions): Promise<string> {
  const { token, timeoutMs = REQUEST_TIMEOUT_MS } = options;
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      ...init,
      redirect: "error",
      headers: {
        "content-type": "application/json",
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      signal: AbortSignal.timeout(timeoutMs),
    });
    text = await readBounded(response);
  } catch (cause) {
    throw new ServerError("ERR_SERVER_HTTP", `${url}: ${describeError(cause)}`, { cause });
  }
  if (!response.ok) throw new HttpStatusError(url, response.status, text);
  return text;
}

/**
 * The text at `url`.
 *
 * @throws {ServerError} ERR_SERVER_HTTP when nothing answers in time, or with another status than success
 */
export function fetchText(url: string, options: RequestOptions = {}): Promise<string> {
  return request(url, { method: "GET" }, options);
}

/**
 * Creates a timeline on the acceptor at `baseUrl`; one that exists already is fine.
 *
 * @param token a JWT, for an acceptor that wants one
 * @throws {ServerError} ERR_SERVER_HTTP
 */
export async function createTimelineOn(
  baseUrl: string,
  creation: TimelineCreation,
  token?: string,
): Promise<void> {
  const { configuration } = creation;
  const members = (list: Configuration["members"]): unknown[] =>
    list.map((member) => ({ id: member.nodeId, host: member.host, pg_port: member.port }));
  const body = stringifyJson({
    tenant_id: creation.tenantId,
    timeline_id: creation.timelineId,
    mconf: {
      generation: configuration.generation,
      members: members(configuration.members),
      new_members: configuration.newMembers.length === 0 ? null : members(configuration.newMembers),
    },
    pg_version: creation.pgVersion,
    system_id: creation.systemId,
    wal_seg_size: creation.segmentBytes,
    start_lsn: formatLsn(creation.startLsn),
  });
  await request(`${baseUrl}/v1/tenant/timeline`, { method: "POST", body }, { token });
}

/**
 * What the acceptor at `baseUrl` knows of a timeline.
 *
 * @throws {ServerError} ERR_SERVER_HTTP, also for a timeline that is not there
 */
export async function fetchTimeline(
  baseUrl: string,
  tenantId: string,
  timelineId: string,
  options: RequestOptions = {},
): Promise<TimelineSummary> {
  const url = `${baseUrl}/v1/tenant/${tenantId}/timeline/${timelineId}`;
  const text = await fetchText(url, options);
  try {
    const status = statusSchema.parse(parseJson(text));
    return {
      flushLsn: status.flush_lsn,
      commitLsn: status.commit_lsn,
      timelineStartLsn: status.timeline_start_lsn,
      segmentBytes: status.pg_info.wal_seg_size,
      systemId: status.pg_info.system_id,
      term: status.acceptor_state.term,
      lastLogTerm: status.acceptor_state.epoch,
    };
  } catch (cause) {
    throw new ServerError("ERR_SERVER_HTTP", `${url}: the answer is not a timeline status`, { cause });
  }
}

const pgTimelinesSchema = z.looseObject({
  pg_timelines: z.array(
    z.looseObject({
      timeline_id: z.number().int().min(1).max(0xffff_ffff),
      begin_lsn: lsn,
      parent_tli: z.number().int().nullable(),
      history: z.string(),
    }),
  ),
});

/**
 * What the acceptor at `baseUrl` knows of PostgreSQL's timelines, oldest first.
 *
 * @throws {ServerError} ERR_SERVER_HTTP
 */
export async function fetchPgTimelines(
  baseUrl: string,
  tenantId: string,
  timelineId: string,
  token?: string,
): Promise<readonly PgTimeline[]> {
  const url = `${baseUrl}/v1/tenant/${tenantId}/timeline/${timelineId}`;
  const text = await fetchText(url, { token });
  try {
    return pgTimelinesSchema.parse(parseJson(text)).pg_timelines.map((entry) => ({
      timelineId: entry.timeline_id,
      beginLsn: entry.begin_lsn,
      parentId: entry.parent_tli ?? undefined,
      history: entry.history,
    }));
  } catch (cause) {
    throw new ServerError("ERR_SERVER_HTTP", `${url}: the answer does not tell of PostgreSQL's timelines`, {
      cause,
    });
  }
}

/**
 * Tells the acceptor at `baseUrl` where one of PostgreSQL's timelines begins.
 *
 * @throws {ProposerError} ERR_BRIDGE_TIMELINE_CONFLICT if that contradicts what it knows
 * @throws {ServerError} ERR_SERVER_HTTP
 */
export async function registerPgTimeline(
  baseUrl: string,
  tenantId: string,
  timelineId: string,
  pgTimeline: PgTimeline,
  token?: string,
): Promise<void> {
  const url = `${baseUrl}/v1/tenant/${tenantId}/timeline/${timelineId}/pg_timelines/${pgTimeline.timelineId}`;
  const body = stringifyJson({
    begin_lsn: formatLsn(pgTimeline.beginLsn),
    parent_tli: pgTimeline.parentId ?? null,
    history: pgTimeline.history,
  });
  try {
    await request(url, { method: "PUT", body }, { token });
  } catch (cause) {
    if (!(cause instanceof HttpStatusError) || cause.status !== 409) throw cause;
    throw new ProposerError("ERR_BRIDGE_TIMELINE_CONFLICT", cause.message, { cause });
  }
}

const digestSchema = z.looseObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) });

/** A stretch of one timeline's WAL. */
export interface WalRange {
  readonly tenantId: string;
  readonly timelineId: string;
  readonly fromLsn: Lsn;
  readonly untilLsn: Lsn;
}

/**
 * The sha256 of the WAL that the acceptor at `baseUrl` has durable in `range`, in hexadecimal digits.
 *
 * @throws {ServerError} ERR_SERVER_HTTP, also if it does not have all of it
 */
export async function fetchDigest(baseUrl: string, range: WalRange, token?: string): Promise<string> {
  const { tenantId, timelineId, fromLsn, untilLsn } = range;
  const query = new URLSearchParams({ from_lsn: formatLsn(fromLsn), until_lsn: formatLsn(untilLsn) });
  const url = `${baseUrl}/v1/tenant/${tenantId}/timeline/${timelineId}/digest?${query.toString()}`;
  const text = await fetchText(url, { token });
  try {
    return digestSchema.parse(parseJson(text)).sha256;
  } catch (cause) {
    throw new ServerError("ERR_SERVER_HTTP", `${url}: the answer is not a digest`, { cause });
  }
}

const nodeSchema = z.looseObject({ id: z.union([z.number(), z.bigint()]).transform(BigInt) });

/**
 * The node id of the acceptor at `baseUrl`.
 *
 * @throws {ServerError} ERR_SERVER_HTTP
 */
export async function fetchNodeId(baseUrl: string): Promise<bigint> {
  const url = `${baseUrl}/v1/status`;
  const text = await fetchText(url);
  try {
    return nodeSchema.parse(parseJson(text)).id;
  } catch (cause) {
    throw new ServerError("ERR_SERVER_HTTP", `${url}: the answer has no node id`, { cause });
  }
}
