/**
 * TCP ports on 127.0.0.1 that are free now and stay the same from run to run.
 *
 * New ports are drawn below the range from which the kernel takes the local ports of outgoing connections. Inside that
 * range a listener's port can be taken by any connection while the listener restarts, and a client that retries
 * a connection to a port without listener can even be given that port as its own and connect to itself.
 *
 * A remembered port that somebody else uses now is replaced by a new one, and the caller is told. Between the check
 * and the listener's bind another process can still take a port; the listener then fails and is restarted.
 */
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

import { readIfPresent, writeDurably } from "./durable-file.js";
import { ServerError } from "./errors.js";

/** Below this are the well-known services; far fewer than 20 000 ports above it are ever in use. */
const PORT_MIN = 10_240;
/** Where Linux's range for outgoing connections begins unless it was configured otherwise. */
const EPHEMERAL_MIN = 32_768;
const ATTEMPTS_MAX = 200;

/** What choosing a port needs from its surroundings; injected by tests. */
export interface PortSource {
  isFree(port: number): Promise<boolean>;
  /** A whole number in [minimum, maximum). */
  random(minimum: number, maximum: number): number;
}

function ephemeralMinimum(): number {
  try {
    const text = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "latin1");
    const low = Number.parseInt(text, 10);
    return low > PORT_MIN + 1000 ? Math.min(low, EPHEMERAL_MIN) : EPHEMERAL_MIN;
  } catch {
    return EPHEMERAL_MIN;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(false);
    });
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/** The ports of this machine's loopback address. */
export const systemPorts: PortSource = { isFree, random: randomInt };

/** The outcome of `rememberedPorts`. */
export interface PortAssignment<N extends string> {
  readonly ports: Readonly<Record<N, number>>;
  /** Names whose remembered port was taken and has been replaced. */
  readonly moved: readonly N[];
}

function readRemembered(path: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(readIfPresent(path) ?? "{}");
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    // Ports are a convenience: a damaged file only means new ones.
    return {};
  }
}

/**
 * A free port for each name, the same as last time where possible; remembered in the JSON file at `path`.
 *
 * @param fixed ports that the user asked for; one that is taken is an error instead of a reason to move
 * @throws {ServerError} ERR_SERVER_PORT when an asked port is taken, or none is free
 */
export async function rememberedPorts<N extends string>(
  path: string,
  names: readonly N[],
  fixed: Readonly<Partial<Record<NoInfer<N>, number>>> | undefined,
  source: PortSource = systemPorts,
): Promise<PortAssignment<N>> {
  const remembered = readRemembered(path);
  const ports: Partial<Record<N, number>> = {};
  const moved: N[] = [];
  const used = new Set<number>();
  const usable = async (port: number): Promise<boolean> => !used.has(port) && (await source.isFree(port));
  const draw = async (): Promise<number> => {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const port = source.random(PORT_MIN, ephemeralMinimum());
      if (await usable(port)) return port;
    }
    throw new ServerError("ERR_SERVER_PORT", `no free port found in ${ATTEMPTS_MAX} attempts`);
  };
  for (const name of names) {
    const asked: number | undefined = fixed?.[name];
    const last = remembered[name];
    let port: number;
    if (asked !== undefined) {
      if (!(await usable(asked))) {
        throw new ServerError("ERR_SERVER_PORT", `port ${asked} (${name}) on 127.0.0.1 is in use`);
      }
      port = asked;
    } else if (typeof last === "number" && Number.isInteger(last) && last > 0 && last < 65_536) {
      const stays = await usable(last);
      if (!stays) moved.push(name);
      port = stays ? last : await draw();
    } else {
      port = await draw();
    }
    used.add(port);
    ports[name] = port;
  }
  writeDurably(path, `${JSON.stringify({ ...remembered, ...ports }, undefined, 2)}\n`);
  return { ports: ports as Record<N, number>, moved };
}
