/**
 * Options of `millrace acceptor`. Names and defaults follow Neon's safekeeper where that has the same option.
 */
import type { OptionTable } from "./option.js";
import { SHARED_OPTIONS } from "./shared-options.js";
import type { SharedConfiguration } from "./shared-options.js";
import type { HostPort } from "./values.js";
import { byteCount, flag, listenAddress, numberBetween, oneOf, path, peerAddress, u64 } from "./values.js";

/** More than any disk has, for whoever wants to keep everything; a petabyte is far below 2^53. */
export const WAL_KEEP_MAX: number = 1024 ** 5;

/** The configuration of one acceptor. */
export interface AcceptorConfiguration extends SharedConfiguration {
  readonly dataDir: string;
  readonly id?: bigint;
  readonly listenPg: HostPort;
  readonly listenHttp: HostPort;
  readonly advertisePg?: HostPort;
  readonly pgAuthPublicKeyPath?: string;
  readonly httpAuthPublicKeyPath?: string;
  readonly noSync: boolean;
  readonly flushOnCommit: boolean;
  readonly minFlushGapMs: number;
  readonly queueBytes: number;
  readonly controlFileSaveInterval: number;
  readonly walKeepSize: number;
  readonly allowTimelineCreation: boolean;
  readonly onSystemIdMismatch: "reject" | "adopt";
}

export const ACCEPTOR_OPTIONS: OptionTable<AcceptorConfiguration> = {
  dataDir: {
    placeholder: "<directory>",
    description: "timelines, their WAL and the node id",
    allowed: "a path",
    schema: path,
  },
  id: {
    placeholder: "<n>",
    description: "node id; kept in the data directory, another one later is refused",
    allowed: "a whole number from 1 to 2^64 - 1",
    schema: u64(1n),
    optional: true,
    defaultText: "the one in the data directory",
  },
  listenPg: {
    placeholder: "<host:port>",
    description: "where proposers connect (PostgreSQL protocol)",
    allowed: "host:port, for example 127.0.0.1:5454",
    schema: listenAddress,
    default: { host: "127.0.0.1", port: 5454 },
    defaultText: "127.0.0.1:5454",
  },
  listenHttp: {
    placeholder: "<host:port>",
    description: "where the HTTP API listens",
    allowed: "host:port, for example 127.0.0.1:7676",
    schema: listenAddress,
    default: { host: "127.0.0.1", port: 7676 },
    defaultText: "127.0.0.1:7676",
  },
  advertisePg: {
    placeholder: "<host:port>",
    description: "the WAL address as others reach it",
    allowed: "host:port",
    schema: peerAddress,
    optional: true,
    defaultText: "the address of --listen-pg",
  },
  pgAuthPublicKeyPath: {
    placeholder: "<path>",
    description: "public key (PEM) or a directory of them: the WAL port wants a JWT signed with one (EdDSA)",
    allowed: "a path",
    schema: path,
    optional: true,
    defaultText: "off: whoever reaches the port is trusted",
  },
  httpAuthPublicKeyPath: {
    placeholder: "<path>",
    description: "the same for the HTTP API, as a Bearer token",
    allowed: "a path",
    schema: path,
    optional: true,
    defaultText: "off",
  },
  noSync: {
    description: "never wait for the disk; for tests, because a power cut then loses acknowledged WAL",
    allowed: "on or off",
    schema: flag,
    default: false,
  },
  flushOnCommit: {
    placeholder: "<on|off>",
    description: "flush as soon as a commit record has come in",
    allowed: "on or off",
    schema: flag,
    default: true,
    defaultText: "on",
  },
  minFlushGapMs: {
    placeholder: "<ms>",
    description: "least time between two such flushes",
    allowed: "a number from 0 to 1000",
    schema: numberBetween(0, 1000, false),
    default: 0.5,
  },
  queueBytes: {
    placeholder: "<bytes>",
    description: "how much received WAL one stream may have waiting for the disk",
    allowed: "1MiB to 1GiB",
    schema: byteCount(1024 ** 2, 1024 ** 3),
    default: 32 * 1024 ** 2,
    defaultText: "32MiB",
  },
  controlFileSaveInterval: {
    placeholder: "<seconds>",
    description: "how often positions that may be lost in a crash are saved anyway",
    allowed: "a number of seconds from 1 to 86400",
    schema: numberBetween(1, 86_400),
    default: 300,
  },
  walKeepSize: {
    placeholder: "<bytes>",
    description: "WAL below the commit position that is kept whether or not anybody needs it",
    allowed: "0 to 1048576GiB, for example 1GiB",
    schema: byteCount(0, WAL_KEEP_MAX),
    default: 64 * 1024 ** 2,
    defaultText: "64MiB",
  },
  allowTimelineCreation: {
    placeholder: "<on|off>",
    description: "whether a proposer's greeting may create a timeline; the HTTP API always may",
    allowed: "on or off",
    schema: flag,
    default: true,
    defaultText: "on",
  },
  onSystemIdMismatch: {
    placeholder: "<reject|adopt>",
    description: "what to do with a proposer of another PostgreSQL cluster",
    allowed: "reject or adopt",
    schema: oneOf(["reject", "adopt"] as const),
    default: "reject",
  },
  ...SHARED_OPTIONS,
};
