/**
 * The PostgreSQL of an all-in-one, whichever it is: one that we make and run, or one that is running somewhere.
 *
 * The data directory's record decides together with what was asked; the record is made here for a new directory, after
 * the PostgreSQL has been found usable, so that a failed first start leaves nothing that a second one trips over.
 */
import { randomBytes } from "node:crypto";

import type { PostgresCluster } from "@millrace/postgres-process";

import type { PostgresOption } from "../configuration/all-in-one-options.js";
import { ServerError } from "../errors.js";
import { createInstance, keepPostgresUrl, ownPassword } from "../instance.js";
import type { Instance } from "../instance.js";
import type { Logger } from "../logging.js";
import { SupervisedProcess } from "../parts/supervisor.js";
import { checkExternalPostgres } from "./external-postgres.js";
import {
  chooseClusterDirectory,
  chooseInstallation,
  describeInstallation,
  openOwnPostgres,
  ownSettings,
  runCluster,
} from "./own-postgres.js";

/** A PostgreSQL that can be used. `process` and `cluster` are there only if it is ours; it is not started yet. */
export interface PostgresPart {
  /** For people, for example "system PostgreSQL 15.18". */
  readonly kind: string;
  /** For psql; holds the password. */
  readonly url: string;
  /** A file with the URL that only its owner can read, for the bridge. */
  readonly urlFile: string;
  readonly instance: Instance;
  readonly process: SupervisedProcess | undefined;
  readonly cluster: PostgresCluster | undefined;
}

/** What choosing needs to know. */
export interface PostgresPartOptions {
  readonly pg: PostgresOption;
  readonly applicationName: string;
  readonly dataDirectory: string;
  /** The directory's record, undefined for a new directory. */
  readonly instance: Instance | undefined;
  /** TCP port for a PostgreSQL of ours. */
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly logger: Logger;
  /** Called whenever a PostgreSQL of ours accepts connections (again). */
  readonly onReady: () => void;
}

/**
 * Opens the PostgreSQL that is asked for, with initdb where it is ours and new.
 *
 * @throws {ServerError} ERR_SERVER_POSTGRES, ERR_SERVER_DATA
 */
export function openPostgres(options: PostgresPartOptions): Promise<PostgresPart> {
  const { pg } = options;
  return pg === "auto" || pg === "system" || pg === "embedded"
    ? openOwn(options, pg)
    : openExternal(options, pg);
}

async function openExternal(options: PostgresPartOptions, url: string): Promise<PostgresPart> {
  const { instance, dataDirectory } = options;
  if (instance?.postgres.kind === "own") {
    throw new ServerError(
      "ERR_SERVER_DATA",
      "this data directory belongs to a PostgreSQL that millrace made: leave --pg away, or use another --data-dir",
    );
  }
  const check = await checkExternalPostgres(url, options.applicationName);
  for (const warning of check.warnings) options.logger.warn(warning);
  return {
    kind: `your PostgreSQL ${check.version}`,
    url,
    urlFile: keepPostgresUrl(dataDirectory, url),
    instance: instance ?? createInstance(dataDirectory, { kind: "external" }),
    process: undefined,
    cluster: undefined,
  };
}

async function openOwn(
  options: PostgresPartOptions,
  choice: "auto" | "system" | "embedded",
): Promise<PostgresPart> {
  const { dataDirectory, logger } = options;
  const installation = chooseInstallation(choice, options.instance);
  const record = options.instance?.postgres;
  const directory =
    record?.kind === "own"
      ? record.directory
      : chooseClusterDirectory(dataDirectory, randomBytes(8).toString("hex"));
  if (!directory.startsWith(dataDirectory)) {
    logger.info(`PostgreSQL's account cannot reach ${dataDirectory}; the cluster is in ${directory}`);
  }
  const cluster = await openOwnPostgres(
    {
      installation,
      directory,
      port: options.port,
      password: ownPassword(dataDirectory),
      settings: ownSettings(options.applicationName, options.settings),
    },
    record !== undefined,
  );
  const instance =
    options.instance ??
    createInstance(dataDirectory, {
      kind: "own",
      flavour: installation.flavour,
      major: installation.major,
      binDirectory: installation.binDirectory,
      directory,
    });
  const url = cluster.url();
  const process: SupervisedProcess = new SupervisedProcess({
    name: "PostgreSQL",
    logger,
    start: (events) => runCluster(cluster, events),
    onChange: () => {
      if (process.state === "ready") options.onReady();
    },
  });
  return {
    kind: describeInstallation(installation),
    url,
    urlFile: keepPostgresUrl(dataDirectory, url),
    instance,
    cluster,
    process,
  };
}
