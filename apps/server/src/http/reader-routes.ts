/**
 * The part of an acceptor's management API that is about its WAL and those who read it:
 *
 *     GET    …/timeline/:timeline/digest?from_lsn=X/X&until_lsn=X/X    {sha256}
 *     POST   …/timeline/:timeline/checkpoint                           saves the control file
 *     GET    …/timeline/:timeline/consumer_slots/:name
 *     PUT    …/timeline/:timeline/consumer_slots/:name                 {restart_lsn?}; moves forward only
 *     DELETE …/timeline/:timeline/consumer_slots/:name
 *     GET    …/timeline/:timeline/pg_timelines/:tli
 *     PUT    …/timeline/:timeline/pg_timelines/:tli                    {begin_lsn, parent_tli, history}
 *     GET    /metrics                                                  for Prometheus; open to everybody
 *
 * It translates and decides nothing. Bodies are JSON by their content type, for the reason given in acceptor-api.ts.
 */
import type { Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";

import { TIMELINE_HISTORY_BYTES_MAX, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseJson, pgTimelineJson, slotJson } from "@millrace/wal-acceptor";
import type { HistogramMetric, Metric, PgTimeline, Timeline } from "@millrace/wal-acceptor";
import { z } from "zod";

import { describeError } from "../errors.js";
import { errorResponse, jsonResponse } from "./json-response.js";
import { metricsResponse } from "./metrics-text.js";
import type { ProcessMetrics } from "./metrics-text.js";
import { BadRequestError } from "./timeline-request.js";

/** A history file in JSON, every character of it escaped. */
const BODY_BYTES_MAX: number = 6 * TIMELINE_HISTORY_BYTES_MAX + 1024;
const TIMELINE = "/v1/tenant/:tenant/timeline/:timeline";

/** What the routes need of the application. */
export interface ReaderRoutesOptions {
  /** The timeline a request is about, or why its sender may not have it. `operate`: it changes something. */
  readonly find: (context: Context, operate: boolean) => Promise<Timeline | Response>;
  readonly metrics: () => readonly Metric[];
  readonly histograms: () => readonly HistogramMetric[];
  readonly processMetrics: ProcessMetrics | undefined;
}

const lsn = z.string().transform((text, context): Lsn => {
  const parsed = tryParseLsn(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: 'must look like "16/B374D848"' });
  return z.NEVER;
});
const tli = z.number().int().min(1).max(0xffff_ffff);
const slotBody = z.looseObject({ restart_lsn: lsn.optional() });
const pgTimelineBody = z.looseObject({
  begin_lsn: lsn,
  parent_tli: tli.nullish(),
  history: z.string().default(""),
});

/** Adds the routes. */
export function addReaderRoutes(app: Hono, options: ReaderRoutesOptions): void {
  const { find } = options;
  const limit = bodyLimit({
    maxSize: BODY_BYTES_MAX,
    onError: () => errorResponse(413, "the body is too large"),
  });

  app.get("/metrics", () => metricsResponse(options.metrics(), options.processMetrics, options.histograms()));

  app.get(`${TIMELINE}/digest`, async (context) => {
    const timeline = await find(context, false);
    if (timeline instanceof Response) return timeline;
    const from = queryLsn(context, "from_lsn");
    const until = queryLsn(context, "until_lsn");
    return jsonResponse({ sha256: await timeline.digest(from, until) });
  });

  app.post(`${TIMELINE}/checkpoint`, async (context) => {
    const timeline = await find(context, true);
    if (timeline instanceof Response) return timeline;
    await timeline.checkpoint();
    return jsonResponse({});
  });

  app.get(`${TIMELINE}/consumer_slots/:name`, async (context) => {
    const timeline = await find(context, false);
    if (timeline instanceof Response) return timeline;
    const slot = timeline.readers.slots.get(context.req.param("name"));
    return slot === undefined ? errorResponse(404, "no such slot") : jsonResponse(slotJson(slot));
  });

  app.put(`${TIMELINE}/consumer_slots/:name`, limit, async (context) => {
    const timeline = await find(context, true);
    if (timeline instanceof Response) return timeline;
    const body = await jsonBody(context, slotBody);
    if (body instanceof Response) return body;
    const restartLsn = body.restart_lsn ?? timeline.state.commitLsn;
    const slot = await timeline.readers.slots.put(context.req.param("name"), restartLsn);
    timeline.wakeManager();
    return jsonResponse(slotJson(slot));
  });

  app.delete(`${TIMELINE}/consumer_slots/:name`, async (context) => {
    const timeline = await find(context, true);
    if (timeline instanceof Response) return timeline;
    await timeline.readers.slots.drop(context.req.param("name"));
    timeline.wakeManager();
    return jsonResponse({});
  });

  app.get(`${TIMELINE}/pg_timelines/:tli`, async (context) => {
    const timeline = await find(context, false);
    if (timeline instanceof Response) return timeline;
    const found = timeline.readers.pgTimelines.value.get(pathTli(context));
    return found === undefined ? errorResponse(404, "no such timeline") : jsonResponse(pgTimelineJson(found));
  });

  app.put(`${TIMELINE}/pg_timelines/:tli`, limit, async (context) => {
    const timeline = await find(context, true);
    if (timeline instanceof Response) return timeline;
    const body = await jsonBody(context, pgTimelineBody);
    if (body instanceof Response) return body;
    const registered: PgTimeline = {
      timelineId: pathTli(context),
      beginLsn: body.begin_lsn,
      parentId: body.parent_tli ?? undefined,
      history: body.history,
    };
    await timeline.readers.registerPgTimeline(registered);
    return jsonResponse(pgTimelineJson(registered));
  });
}

function queryLsn(context: Context, name: string): Lsn {
  const parsed = tryParseLsn(context.req.query(name) ?? "");
  if (parsed === undefined) throw new BadRequestError(`${name} must look like "16/B374D848"`);
  return parsed;
}

function pathTli(context: Context): number {
  const text = context.req.param("tli") ?? "";
  const parsed = tli.safeParse(/^[0-9]{1,10}$/.test(text) ? Number(text) : 0);
  if (!parsed.success) throw new BadRequestError("a timeline is a number from 1 to 2^32 - 1");
  return parsed.data;
}

async function jsonBody<T>(context: Context, schema: z.ZodType<T>): Promise<T | Response> {
  if (!/^application\/json\b/.test(context.req.header("content-type") ?? "")) {
    return errorResponse(415, "the content type must be application/json");
  }
  let json: unknown;
  try {
    json = parseJson(await context.req.text());
  } catch (error) {
    throw new BadRequestError(`the body is not JSON: ${describeError(error)}`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new BadRequestError(`${issue?.path.join(".") || "the body"}: ${issue?.message ?? "not allowed"}`);
}
