/**
 * Serves a hono application on a TCP address and ends it within a bounded time.
 */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";

import type { HostPort } from "../configuration/values.js";
import { formatHostPort } from "../configuration/values.js";
import { ServerError } from "../errors.js";

/** A client that sends its headers or its body slower than this is cut off. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Open requests get this long to finish when the server ends. */
const CLOSE_GRACE_MS = 1000;

/** A listening HTTP server. Disposal stops listening, then ends what is still open. */
export interface HttpListener extends AsyncDisposable {
  /** The real address, also when port 0 was asked. */
  readonly address: HostPort;
  close(): Promise<void>;
}

/**
 * Starts listening.
 *
 * @throws {ServerError} ERR_SERVER_PORT when the address cannot be used
 */
export async function listenHttp(app: Hono, address: HostPort): Promise<HttpListener> {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      reject(
        new ServerError("ERR_SERVER_PORT", `cannot listen on ${formatHostPort(address)} for HTTP`, { cause }),
      );
    });
    server.listen({ host: address.host, port: address.port }, resolve);
  });
  // A connection that cannot be accepted (no descriptor, no memory) is its client's loss, not this process's end.
  server.on("error", () => undefined);
  const { port } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= new Promise((resolve) => {
      const cut = setTimeout(() => {
        server.closeAllConnections();
      }, CLOSE_GRACE_MS);
      server.close(() => {
        clearTimeout(cut);
        resolve();
      });
      server.closeIdleConnections();
    });
    return closed;
  };
  return { address: { host: address.host, port }, close, [Symbol.asyncDispose]: close };
}
