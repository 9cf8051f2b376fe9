/**
 * Options of `millrace` without a subcommand, and of `millrace demo`, which runs the same thing.
 */
import type { OptionTable } from "./option.js";
import { SHARED_OPTIONS } from "./shared-options.js";
import type { SharedConfiguration } from "./shared-options.js";
import type { HostPort } from "./values.js";
import { flag, listenAddress, numberBetween, oneOf, path, postgresUrl } from "./values.js";

/** "auto" is what the data directory was made with, else a system installation, else the embedded one. */
export type PostgresOption = "auto" | "system" | "embedded" | `postgres${string}`;

/** Options that decide which PostgreSQL there is and where. */
export interface PostgresConfiguration {
  readonly pg: PostgresOption;
  readonly pgPort?: number;
  readonly listenHttp?: HostPort;
}

/** The configuration of the all-in-one. */
export interface AllInOneConfiguration extends SharedConfiguration, PostgresConfiguration {
  readonly dataDir: string;
}

const POSTGRES_OPTIONS: OptionTable<PostgresConfiguration> = {
  pg: {
    placeholder: "<which>",
    description: "PostgreSQL: system, embedded, or the URL of a running server (postgresql://…)",
    allowed: "auto, system, embedded or a URL that begins with postgresql://",
    schema: oneOf(["auto", "system", "embedded"] as const).or(
      postgresUrl.transform((url) => url as `postgres${string}`),
    ),
    default: "auto",
    defaultText: "a system installation when there is one, else the embedded PostgreSQL 18",
    secret: true,
  },
  pgPort: {
    placeholder: "<port>",
    description: "TCP port of our own PostgreSQL on 127.0.0.1",
    allowed: "a port number from 1 to 65535",
    schema: numberBetween(1, 65_535),
    optional: true,
    defaultText: "a free port, remembered in the data directory",
  },
  listenHttp: {
    placeholder: "<host:port>",
    description: "where the status page listens",
    allowed: "host:port, for example 127.0.0.1:7680",
    schema: listenAddress,
    optional: true,
    defaultText: "a free port on 127.0.0.1, remembered in the data directory",
  },
};

export const ALL_IN_ONE_OPTIONS: OptionTable<AllInOneConfiguration> = {
  dataDir: {
    placeholder: "<directory>",
    description: "everything that is kept between runs",
    allowed: "a path",
    schema: path,
    default: "./millrace-data",
  },
  ...POSTGRES_OPTIONS,
  ...SHARED_OPTIONS,
};

/** The configuration of `millrace status`. */
export interface StatusConfiguration {
  readonly dataDir: string;
  readonly json: boolean;
}

export const STATUS_OPTIONS: OptionTable<StatusConfiguration> = {
  dataDir: { ...ALL_IN_ONE_OPTIONS.dataDir, description: "the directory of the millrace to ask" },
  json: {
    description: "print one JSON document instead of text",
    allowed: "on or off",
    schema: flag,
    default: false,
  },
};

/** The configuration of `millrace demo`. */
export interface DemoConfiguration extends SharedConfiguration, PostgresConfiguration {
  readonly seconds: number;
  readonly connections: number;
  /** A fresh temporary directory, removed at the end, when absent. */
  readonly dataDir?: string;
}

/** Three deaths, one after the other; in less, the load would end before all of them are over. */
const DEMO_SECONDS_MIN = 10;
/** Long enough for a coffee break; WAL is kept for the whole run, so a longer one fills disks. */
const DEMO_SECONDS_MAX = 3600;
/** Our PostgreSQL takes 100 connections by default. */
const DEMO_CONNECTIONS_MAX = 64;

export const DEMO_OPTIONS: OptionTable<DemoConfiguration> = {
  seconds: {
    placeholder: "<n>",
    description: "how long the load runs",
    allowed: `a whole number from ${DEMO_SECONDS_MIN} (three kills and three recoveries take that long) to ${DEMO_SECONDS_MAX}`,
    schema: numberBetween(DEMO_SECONDS_MIN, DEMO_SECONDS_MAX),
    default: 20,
  },
  connections: {
    placeholder: "<n>",
    description: "connections that write at the same time",
    allowed: `a whole number from 1 to ${DEMO_CONNECTIONS_MAX}`,
    schema: numberBetween(1, DEMO_CONNECTIONS_MAX),
    default: 8,
  },
  dataDir: {
    placeholder: "<directory>",
    description: "kept afterwards; must be new or from an earlier demo",
    allowed: "a path",
    schema: path,
    optional: true,
    defaultText: "a temporary directory, removed at the end",
  },
  ...POSTGRES_OPTIONS,
  ...SHARED_OPTIONS,
  // The demo's own lines are what matters; the log speaks up only for trouble.
  logLevel: { ...SHARED_OPTIONS.logLevel, default: "fatal" },
};
