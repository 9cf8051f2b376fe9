/**
 * The TCP side of the WAL port: accepts sockets and hands them to the acceptor.
 *
 * Half-open sockets are allowed because an acceptor may still have to answer when its peer has said its last word; Nagle's
 * delay is off because replies are small and latency is what commits wait for.
 */
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

import type { HostPort } from "../configuration/values.js";
import { formatHostPort } from "../configuration/values.js";
import { describeError, ServerError } from "../errors.js";

/** Proposers are few; what exceeds this is a flood, and is dropped before it costs more than a socket. */
const CONNECTIONS_MAX = 1024;

/** A listening WAL port. */
export interface WalListener {
  /** The real address, also when port 0 was asked. */
  readonly address: HostPort;
  /** Stops accepting; sockets that are open stay with whoever serves them. */
  stop(): void;
}

/**
 * Listens on `address` and gives every socket to `serve`.
 *
 * @throws {ServerError} ERR_SERVER_PORT when the address cannot be used
 */
export async function listenWal(address: HostPort, serve: (socket: Socket) => void): Promise<WalListener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, serve);
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const where = formatHostPort(address);
      reject(
        new ServerError("ERR_SERVER_PORT", `cannot listen on ${where} for WAL: ${describeError(cause)}`, {
          cause,
        }),
      );
    });
    server.listen({ host: address.host, port: address.port }, resolve);
  });
  // A connection that cannot be accepted (no descriptor, no memory) is its client's loss, not this process's end.
  server.on("error", () => undefined);
  const { port } = server.address() as AddressInfo;
  return {
    address: { host: address.host, port },
    stop() {
      server.close();
    },
  };
}
