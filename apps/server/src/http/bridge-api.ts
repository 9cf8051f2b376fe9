/**
 * The HTTP side of a bridge that runs by itself: its positions as JSON at /v1/status and its metrics at /metrics.
 *
 * Read only and open to whoever reaches the port, like an acceptor's status and metrics: there are positions and
 * addresses in it, and neither a password nor a row. Off unless an address is given.
 */
import { Hono } from "hono";

import { bridgeDocument } from "../status/cluster-status.js";
import type { BridgeReport } from "../status/cluster-status.js";
import { bridgeMetrics } from "../status/metrics.js";
import { errorResponse, jsonResponse } from "./json-response.js";
import { metricsResponse } from "./metrics-text.js";
import type { ProcessMetrics } from "./metrics-text.js";

/**
 * The application.
 *
 * @param report gives the present picture, undefined before there is a bridge; called once per request
 * @param processMetrics added to what GET /metrics tells
 */
export function createBridgeApi(
  report: () => BridgeReport | undefined,
  processMetrics?: ProcessMetrics,
): Hono {
  const app = new Hono();
  app.get("/v1/status", () => jsonResponse(bridgeDocument(report())));
  app.get("/metrics", () => metricsResponse(bridgeMetrics(report()), processMetrics));
  app.notFound(() => errorResponse(404, "no such path"));
  app.onError(() => errorResponse(500, "internal error"));
  return app;
}
