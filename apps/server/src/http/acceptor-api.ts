/**
 * The management API of one acceptor, under the paths of Neon's safekeeper:
 *
 *     GET    /v1/status                           who this is; open to everybody, for health checks
 *     GET    /v1/tenant/timeline                  the timelines, those still to be loaded and those that failed to
 *     POST   /v1/tenant/timeline                  create; repeating it with the same parameters changes nothing
 *     GET    /v1/tenant/:tenant/timeline/:timeline
 *     DELETE /v1/tenant/:tenant/timeline/:timeline
 *
 * and what reader-routes.ts adds about a timeline's WAL and its readers. After a start timelines are loaded in the
 * background: a request about one that is not there yet waits for that one.
 *
 * It translates and decides nothing: bodies are checked in timeline-request.ts, the registry keeps its own rules, and
 * an error's code gives the status. A creation that meets a timeline with other parameters is a conflict, because
 * telling its sender "done" would let it stream another cluster's WAL into it.
 */
import { Hono } from "hono";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";

import { formatLsn } from "@millrace/lsn";
import type { Authenticator, Identity } from "@millrace/pg-wire";
import { timelineStatusJson } from "@millrace/wal-acceptor";
import type {
  AcceptorNodeStatus,
  CreateTimelineRequest,
  HistogramMetric,
  Metric,
  Timeline,
  TimelineRegistry,
} from "@millrace/wal-acceptor";

import { describeError } from "../errors.js";
import type { Logger } from "../logging.js";
import { identify, mayOperate, mayRead } from "./bearer.js";
import { errorResponse, jsonResponse } from "./json-response.js";
import type { ProcessMetrics } from "./metrics-text.js";
import { addReaderRoutes } from "./reader-routes.js";
import { BadRequestError, BODY_BYTES_MAX, parseId, parseTimelineRequest } from "./timeline-request.js";

/** What the API serves. */
export interface AcceptorApiOptions {
  readonly nodeId: bigint;
  readonly timelines: TimelineRegistry;
  readonly version: string;
  /** What runs the disk I/O, and why nothing better. */
  readonly io?: AcceptorNodeStatus["io"];
  /** What GET /metrics tells; nothing without it. */
  readonly metrics?: () => readonly Metric[];
  /** Added to it. */
  readonly histograms?: () => readonly HistogramMetric[];
  /** Added to it. */
  readonly processMetrics?: ProcessMetrics;
  /** Where proposers reach the WAL port. */
  readonly advertisePg: string;
  /** Checks Bearer tokens; everybody is trusted without it. */
  readonly authenticator: Authenticator | undefined;
  readonly logger: Logger;
}

/** HTTP status by error code; what is not listed is 500. */
const STATUS: Readonly<Record<string, number>> = {
  ERR_ACCEPTOR_TIMELINE_NOT_FOUND: 404,
  ERR_ACCEPTOR_TIMELINE_DELETED: 404,
  ERR_ACCEPTOR_CANCELLED: 404,
  ERR_ACCEPTOR_TIMELINE_EXISTS: 409,
  ERR_ACCEPTOR_TIMELINE_CREATING: 409,
  ERR_ACCEPTOR_GENERATION_MISMATCH: 409,
  ERR_ACCEPTOR_BROKEN: 409,
  ERR_ACCEPTOR_TIMELINE_REFUSED: 400,
  ERR_ACCEPTOR_PG_VERSION: 400,
  ERR_PROTOCOL_CONFIGURATION: 400,
  ERR_ACCEPTOR_SLOT_NOT_FOUND: 404,
  ERR_ACCEPTOR_SLOT_IN_USE: 409,
  ERR_ACCEPTOR_SLOT_LIMIT: 409,
  ERR_ACCEPTOR_PG_TIMELINE_CONFLICT: 409,
  ERR_ACCEPTOR_TERM_CHANGED: 409,
  ERR_ACCEPTOR_SEGMENT_REMOVED: 410,
  ERR_ACCEPTOR_SLOT_NAME: 400,
  ERR_ACCEPTOR_PG_TIMELINE_REFUSED: 400,
  ERR_ACCEPTOR_RANGE: 400,
  ERR_ACCEPTOR_SHUTTING_DOWN: 503,
  ERR_ACCEPTOR_TIMELINE_LOADING: 503,
  ERR_ACCEPTOR_NO_SPACE: 507,
};

function failure(error: unknown, logger: Logger): Response {
  if (error instanceof BadRequestError || error instanceof RangeError)
    return errorResponse(400, error.message);
  const code = (error as { code?: unknown } | null)?.code;
  const status = typeof code === "string" ? (STATUS[code] ?? 500) : 500;
  if (status >= 500) logger.error({ err: error }, "a request failed");
  // A message of our own classes is meant for the client; anything else may say too much.
  const isOurs = typeof code === "string" && code.startsWith("ERR_");
  return errorResponse(status, isOurs ? describeError(error) : "internal error");
}

/** How an existing timeline differs from what a creation asks for; undefined when it does not. */
function conflict(timeline: Timeline, wanted: CreateTimelineRequest): string | undefined {
  const { server, timelineStartLsn } = timeline.status();
  const majorOf = (version: number): number => Math.floor(version / 10_000);
  if (server.segmentBytes !== wanted.segmentBytes) return `WAL segment size ${server.segmentBytes}`;
  if (majorOf(server.pgVersion) !== majorOf(wanted.pgVersion))
    return `PostgreSQL version ${server.pgVersion}`;
  if (server.systemId !== 0n && wanted.systemId !== 0n && server.systemId !== wanted.systemId) {
    return `system identifier ${server.systemId}`;
  }
  if (wanted.startLsn !== undefined && timelineStartLsn !== 0n && timelineStartLsn !== wanted.startLsn) {
    return `start LSN ${formatLsn(timelineStartLsn)}`;
  }
  return undefined;
}

/** The application. */
export function createAcceptorApi(options: AcceptorApiOptions): Hono {
  const { timelines, authenticator, logger } = options;
  const app = new Hono();

  /** undefined: go on; otherwise the refusal. */
  const refusal = (context: Context, allowed: (identity: Identity) => boolean): Response | undefined => {
    if (authenticator === undefined) return undefined;
    const identity = identify(authenticator, context.req.header("authorization"));
    if (identity === undefined) return errorResponse(401, "a valid Bearer token is needed");
    return allowed(identity) ? undefined : errorResponse(403, "the token does not allow this");
  };
  const ids = (context: Context): { tenantId: string; timelineId: string } => {
    const tenantId = parseId(context.req.param("tenant") ?? "");
    const timelineId = parseId(context.req.param("timeline") ?? "");
    if (tenantId === undefined || timelineId === undefined) {
      throw new BadRequestError("tenant and timeline are 32 hexadecimal digits each");
    }
    return { tenantId, timelineId };
  };

  // A page whose host name was made to lead here counts as this origin and may send what it likes. Browsers name the
  // origin of everything but reads; our clients never do.
  app.use(async (context, next) => {
    if (context.req.header("origin") !== undefined) {
      return errorResponse(403, "requests of web pages are not served");
    }
    await next();
    return undefined;
  });

  app.get("/v1/status", () =>
    jsonResponse({
      id: options.nodeId,
      version: options.version,
      advertise_pg: options.advertisePg,
      ...(options.io === undefined
        ? {}
        : { io_method: options.io.method, io_fallbacks: options.io.fallbacks }),
      loading: timelines.loading().length,
    }),
  );

  app.get("/v1/tenant/timeline", (context) => {
    const refused = refusal(context, mayOperate);
    if (refused !== undefined) return refused;
    return jsonResponse({
      timelines: timelines.list().map((timeline) => timelineStatusJson(timeline.status())),
      loading: timelines.loading().map(({ tenantId, timelineId }) => ({
        tenant_id: tenantId,
        timeline_id: timelineId,
      })),
      unloadable: timelines.unloadable().map(({ tenantId, timelineId, error }) => ({
        tenant_id: tenantId,
        timeline_id: timelineId,
        reason: describeError(error),
      })),
    });
  });

  app.post(
    "/v1/tenant/timeline",
    bodyLimit({ maxSize: BODY_BYTES_MAX, onError: () => errorResponse(413, "the body is too large") }),
    async (context) => {
      const refused = refusal(context, mayOperate);
      if (refused !== undefined) return refused;
      // A web page in somebody's browser can post text to any address, but JSON only with our consent, which it lacks.
      if (!/^application\/json\b/.test(context.req.header("content-type") ?? "")) {
        return errorResponse(415, "the content type must be application/json");
      }
      const wanted = parseTimelineRequest(await context.req.text());
      let timeline: Timeline;
      try {
        timeline = await timelines.create(wanted);
      } catch (error) {
        // Reading a deleted timeline finds nothing; creating it again is refused.
        const code = (error as { code?: unknown }).code;
        if (code === "ERR_ACCEPTOR_TIMELINE_DELETED") return errorResponse(409, describeError(error));
        throw error;
      }
      const difference = conflict(timeline, wanted);
      if (difference !== undefined)
        return errorResponse(409, `the timeline exists with another ${difference}`);
      return jsonResponse(timelineStatusJson(timeline.status()));
    },
  );

  app.get("/v1/tenant/:tenant/timeline/:timeline", async (context) => {
    const { tenantId, timelineId } = ids(context);
    const refused = refusal(context, (identity) => mayRead(identity, tenantId));
    if (refused !== undefined) return refused;
    const timeline = await timelines.load(tenantId, timelineId);
    return jsonResponse(timelineStatusJson(timeline.status()));
  });

  app.delete("/v1/tenant/:tenant/timeline/:timeline", async (context) => {
    const { tenantId, timelineId } = ids(context);
    const refused = refusal(context, mayOperate);
    if (refused !== undefined) return refused;
    const { existed } = await timelines.delete(tenantId, timelineId);
    return jsonResponse({ dir_existed: existed });
  });

  addReaderRoutes(app, {
    async find(context, operate) {
      const { tenantId, timelineId } = ids(context);
      const allowed = operate ? mayOperate : (identity: Identity): boolean => mayRead(identity, tenantId);
      return refusal(context, allowed) ?? (await timelines.load(tenantId, timelineId));
    },
    metrics: options.metrics ?? ((): readonly Metric[] => []),
    histograms: options.histograms ?? ((): readonly HistogramMetric[] => []),
    processMetrics: options.processMetrics,
  });

  app.notFound(() => errorResponse(404, "no such path"));
  app.onError((error) => failure(error, logger));
  return app;
}
