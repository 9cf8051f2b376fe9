/**
 * The HTTP side of the all-in-one: the status page, the JSON that it polls, and metrics.
 *
 * Read only, and without a login: it shows positions and addresses, never a password or a row. It listens on the
 * loopback address unless told otherwise. Requests whose Host header is not an address, localhost or the configured
 * host are refused, so that a web page elsewhere cannot read the status through DNS rebinding.
 */
import { Hono } from "hono";
import { isIP } from "node:net";

import { STATUS_PAGE } from "../status/status-page.js";
import { statusDocument } from "../status/cluster-status.js";
import type { ClusterStatus } from "../status/cluster-status.js";
import { clusterMetrics } from "../status/metrics.js";
import { errorResponse, jsonResponse } from "./json-response.js";
import { metricsResponse } from "./metrics-text.js";
import type { ProcessMetrics } from "./metrics-text.js";

/** The page loads nothing and talks to nobody but its own origin. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

function isLocalName(hostHeader: string, allowedHost: string): boolean {
  const name = hostHeader.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return isIP(name) !== 0 || name === "localhost" || name === allowedHost;
}

/**
 * The application.
 *
 * @param status gives the present picture; called once per request
 * @param allowedHost the host that was configured to listen on
 * @param processMetrics added to what GET /metrics tells
 */
export function createStatusApi(
  status: () => ClusterStatus,
  allowedHost: string,
  processMetrics?: ProcessMetrics,
): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    if (!isLocalName(context.req.header("host") ?? "", allowedHost)) {
      return errorResponse(421, "unknown host name in the Host header");
    }
    await next();
    context.res.headers.set("x-content-type-options", "nosniff");
    context.res.headers.set("referrer-policy", "no-referrer");
    return undefined;
  });
  app.get("/", () => {
    return new Response(STATUS_PAGE, {
      headers: {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "cache-control": "no-store",
      },
    });
  });
  app.get("/v1/status", () => jsonResponse(statusDocument(status())));
  app.get("/metrics", () => metricsResponse(clusterMetrics(status()), processMetrics));
  app.notFound(() => errorResponse(404, "not found"));
  app.onError(() => errorResponse(500, "internal error"));
  return app;
}
