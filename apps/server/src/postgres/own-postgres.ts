/**
 * The PostgreSQL that the all-in-one makes, runs and ends.
 *
 * Its commits wait for the bridge from the very first start, its TCP port listens on the loopback address only and
 * wants SCRAM-SHA-256, its unix socket lets in nobody but its own account. Which installation made the cluster is on
 * record: another major version cannot read it, and another build of the same major may have another ICU.
 *
 * Where root runs us, PostgreSQL runs as another account, which must be able to reach its files. Directories
 * of ours are made enterable for it; where somebody else's directory is in the way (a checkout below /root), the
 * cluster goes to /var/lib/millrace instead, and the record says so.
 */
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { findPostgres, firstUnreachable, PostgresCluster } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

import { describeError, ServerError } from "../errors.js";
import type { Instance, OwnPostgresRecord } from "../instance.js";
import type { ChildEvents, RunningChild } from "../parts/supervisor.js";

/** Which PostgreSQL is asked for; "auto" is the recorded one, else a system installation, else the embedded one. */
export type PostgresChoice = "auto" | "system" | "embedded";

/** How often a running postmaster is looked at; its end is also noticed by everything that connects to it. */
const WATCH_MS = 500;
/** Of the time that the whole end may take, what PostgreSQL gets for the harder modes. */
const IMMEDIATE_STOP_MS = 2000;
const SHARED_ROOT = "/var/lib/millrace";

const FLAVOUR_TEXT = { system: "system", embedded: "embedded", given: "given" } as const;

/** "system PostgreSQL 15.18", for people. */
export function describeInstallation(installation: PostgresInstallation): string {
  return `${FLAVOUR_TEXT[installation.flavour]} PostgreSQL ${installation.version}`;
}

function findRecorded(record: OwnPostgresRecord): PostgresInstallation | undefined {
  const candidates = [
    record.flavour === "given" ? undefined : findPostgres(record.flavour),
    findPostgres({ binDirectory: record.binDirectory }),
  ];
  return candidates.find((installation) => installation?.major === record.major);
}

/**
 * The installation for a new directory or for the recorded cluster.
 *
 * @throws {ServerError} ERR_SERVER_POSTGRES when there is none; ERR_SERVER_DATA when the directory belongs to another
 *   kind of PostgreSQL than the one asked for
 */
export function chooseInstallation(
  choice: PostgresChoice,
  instance: Instance | undefined,
): PostgresInstallation {
  const record = instance?.postgres;
  if (record === undefined) {
    const found = findPostgres(choice === "auto" ? "any" : choice);
    if (found !== undefined) return found;
    throw new ServerError(
      "ERR_SERVER_POSTGRES",
      `no ${choice === "auto" ? "" : `${choice} `}PostgreSQL 15 to 18 was found; install one, ` +
        "or point --pg at a running server (postgresql://…)",
    );
  }
  if (record.kind === "external") {
    throw new ServerError(
      "ERR_SERVER_DATA",
      "this data directory belongs to a PostgreSQL of your own: give its URL with --pg, or use another --data-dir",
    );
  }
  const recorded = `${FLAVOUR_TEXT[record.flavour]} PostgreSQL ${record.major}`;
  if (choice !== "auto" && choice !== record.flavour) {
    throw new ServerError(
      "ERR_SERVER_DATA",
      `this data directory belongs to the ${recorded}: leave --pg away, or use another --data-dir`,
    );
  }
  const found = findRecorded(record);
  if (found !== undefined) return found;
  throw new ServerError(
    "ERR_SERVER_POSTGRES",
    `this data directory belongs to the ${recorded}, which is not at ${record.binDirectory} any more`,
  );
}

/** Where a new cluster of ours goes: below the data directory, unless PostgreSQL's account cannot get there. */
export function chooseClusterDirectory(dataDirectory: string, uniqueName: string): string {
  // Enterable but not listable; only matters when PostgreSQL runs as another account.
  if (firstUnreachable(dataDirectory) === dataDirectory) chmodSync(dataDirectory, 0o711);
  if (firstUnreachable(dataDirectory) === undefined) return join(dataDirectory, "postgres");
  mkdirSync(SHARED_ROOT, { recursive: true, mode: 0o755 });
  return join(SHARED_ROOT, uniqueName);
}

/** What our own cluster runs with; `extra` is for the demo, which must keep all WAL. */
export function ownSettings(
  applicationName: string,
  extra: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return {
    wal_level: "replica",
    synchronous_standby_names: `FIRST 1 (${applicationName})`,
    synchronous_commit: "on",
    fsync: "on",
    full_page_writes: "on",
    wal_log_hints: "on",
    max_wal_senders: "16",
    max_replication_slots: "16",
    password_encryption: "scram-sha-256",
    unix_socket_permissions: "0700",
    ...extra,
  };
}

/** What a cluster of ours is made of. */
export interface OwnPostgresOptions {
  readonly installation: PostgresInstallation;
  readonly directory: string;
  readonly port: number;
  readonly password: string;
  readonly settings: Readonly<Record<string, string>>;
}

/**
 * The cluster in `directory`, made by initdb when there is none yet. Not started.
 *
 * @param isRecorded the data directory knows this cluster: then it is never replaced by an empty one, which the
 *   acceptors would refuse, after it had been taken for the database
 * @throws {ServerError} ERR_SERVER_DATA when a recorded cluster is not there; ERR_SERVER_POSTGRES
 */
export async function openOwnPostgres(
  options: OwnPostgresOptions,
  isRecorded: boolean,
): Promise<PostgresCluster> {
  try {
    const found = await PostgresCluster.open(options);
    if (found !== undefined) return found;
    if (!isRecorded) return await PostgresCluster.create(options);
  } catch (error) {
    throw new ServerError("ERR_SERVER_POSTGRES", describeError(error), { cause: error });
  }
  throw new ServerError(
    "ERR_SERVER_DATA",
    `the PostgreSQL cluster of this data directory is not in ${options.directory} any more: ` +
      "put it back, or start anew with another --data-dir",
  );
}

/** What running a cluster takes of it. */
export type RunnableCluster = Pick<PostgresCluster, "start" | "stop" | "kill" | "running" | "pid">;

/**
 * Runs the cluster under a supervisor: a postmaster that dies is noticed and reported as ended. One that is still
 * recovering is ended like any other, since that may take longer than anybody wants to wait for the end.
 */
export function runCluster(cluster: RunnableCluster, events: ChildEvents): RunningChild {
  const callOff = new AbortController();
  let watch: NodeJS.Timeout | undefined;
  let over = false;
  const end = (how: string): void => {
    if (over) return;
    over = true;
    clearInterval(watch);
    events.ended(how, undefined);
  };
  const started = cluster.start(callOff.signal).then(
    () => {
      if (over) return;
      events.ready();
      watch = setInterval(() => {
        if (!cluster.running) end("the postmaster is gone");
      }, WATCH_MS);
    },
    (error: unknown) => {
      end(describeError(error));
    },
  );
  const stop = async (mode: "fast" | "immediate"): Promise<void> => {
    callOff.abort();
    if (!cluster.running) await started;
    if (mode === "fast") await cluster.stop("fast");
    else await cluster.stop("immediate", IMMEDIATE_STOP_MS).catch(() => cluster.kill());
    end(`${mode} shutdown`);
  };
  return {
    get pid() {
      return cluster.pid;
    },
    requestStop() {
      // A fast shutdown that takes too long is followed by `kill`, which reports the end.
      stop("fast").catch(() => undefined);
    },
    kill() {
      stop("immediate").catch((error: unknown) => {
        end(describeError(error));
      });
    },
  };
}
