/**
 * The three acceptors of an all-in-one: where they are, their processes, and when enough of them serve.
 */
import { join } from "node:path";

import { ServerError } from "../errors.js";
import type { Logger, LogOptions } from "../logging.js";
import { withDeadline } from "../waiting.js";
import { partLogLevel } from "./part-options.js";
import { partArguments, spawnPart } from "./spawn-part.js";
import { SupervisedProcess } from "./supervisor.js";

/** Three: the smallest number that goes on after the loss of one. */
export const ACCEPTOR_IDS = [1, 2, 3] as const;
const QUORUM = 2;
const LOOPBACK = "127.0.0.1";
/** A healthy acceptor is there in well under a second; recovery reads WAL back from the last commit position. */
const ACCEPTORS_READY_MS = 30_000;

/** One acceptor's fixed facts. */
export interface AcceptorPlace {
  readonly id: number;
  readonly directory: string;
  readonly walAddress: string;
  readonly httpUrl: string;
}

/** See the members. */
export interface AcceptorPartsOptions {
  readonly dataDirectory: string;
  /** By names of the form `acceptor-1` and `acceptor-1-http`. */
  readonly ports: Readonly<Record<`acceptor-${1 | 2 | 3}` | `acceptor-${1 | 2 | 3}-http`, number>>;
  readonly logger: Logger;
  readonly logLevel: LogOptions["level"];
  /** WAL that each keeps in any case; its own default when absent. */
  readonly walKeepBytes: number | undefined;
}

/** One acceptor. */
export interface AcceptorPart {
  readonly place: AcceptorPlace;
  readonly process: SupervisedProcess;
}

/** The acceptors in the order of their ids; none of them is started. */
export function createAcceptorParts(options: AcceptorPartsOptions): readonly AcceptorPart[] {
  return ACCEPTOR_IDS.map((id) => {
    const httpPort = options.ports[`acceptor-${id}-http`];
    const place: AcceptorPlace = {
      id,
      directory: join(options.dataDirectory, `acceptor-${id}`),
      walAddress: `${LOOPBACK}:${options.ports[`acceptor-${id}`]}`,
      httpUrl: `http://${LOOPBACK}:${httpPort}`,
    };
    return { place, process: acceptorProcess(options, place, httpPort) };
  });
}

function acceptorProcess(
  { logger: parent, logLevel, walKeepBytes }: AcceptorPartsOptions,
  place: AcceptorPlace,
  httpPort: number,
): SupervisedProcess {
  const name = `acceptor ${place.id}`;
  const logger = parent.child({ part: name });
  const args = partArguments("acceptor", {
    "data-dir": place.directory,
    id: String(place.id),
    "listen-pg": place.walAddress,
    "listen-http": `${LOOPBACK}:${httpPort}`,
    ...(walKeepBytes === undefined ? {} : { "wal-keep-size": String(walKeepBytes) }),
    "log-format": "json",
    "log-level": partLogLevel(logLevel),
  });
  return new SupervisedProcess({
    name,
    logger: parent,
    start: (events) => spawnPart({ name, args, logger, onMessage: () => undefined }, events),
  });
}

/**
 * Resolves when all are ready, or a quorum after a while.
 *
 * @throws {ServerError} ERR_SERVER_CHILD when there is no quorum
 */
export async function acceptorsReady(acceptors: readonly AcceptorPart[]): Promise<void> {
  const all = Promise.all(acceptors.map(({ process }) => process.ready()));
  await withDeadline(all, ACCEPTORS_READY_MS).catch(() => undefined);
  const ready = acceptors.filter(({ process }) => process.state === "ready").length;
  if (ready >= QUORUM) return;
  const ends = acceptors.map(({ process }) => `${process.name}: ${process.lastEnd ?? process.state}`);
  throw new ServerError("ERR_SERVER_CHILD", `the acceptors did not start (${ends.join("; ")})`);
}
