/**
 * Options of `millrace bridge`.
 */
import type { OptionTable } from "./option.js";
import { SHARED_OPTIONS } from "./shared-options.js";
import type { SharedConfiguration } from "./shared-options.js";
import type { HostPort } from "./values.js";
import {
  listenAddress,
  byteCount,
  hexId,
  httpUrls,
  identifier,
  numberBetween,
  oneOf,
  path,
  peerAddresses,
  postgresUrl,
  u64,
} from "./values.js";

/** The configuration of the bridge. */
export interface BridgeConfiguration extends SharedConfiguration {
  /** One of `pg` and `pgUrlFile` is there; the command checks it. */
  readonly pg?: string;
  readonly pgUrlFile?: string;
  readonly acceptors: readonly HostPort[];
  readonly acceptorHttp?: readonly string[];
  readonly acceptorTokenFile?: string;
  readonly listenHttp?: HostPort;
  readonly tenant: string;
  readonly timeline: string;
  readonly applicationName: string;
  readonly retainSlot: string;
  readonly reportApply: "commit" | "none";
  readonly ringBytes: number;
  readonly reconnectMs: number;
  readonly connectionTimeoutMs: number;
  readonly expectSysid?: bigint;
  readonly protoVersion: "2" | "3";
}

const MIB = 1024 * 1024;
/** The ring holds at least eight of the largest appends. */
const RING_BYTES_MIN = MIB;
const RING_BYTES_MAX = 1024 * MIB;

export const BRIDGE_OPTIONS: OptionTable<BridgeConfiguration> = {
  pg: {
    placeholder: "<url>",
    description: "the primary, with a user that may replicate",
    allowed: "a URL that begins with postgresql://",
    schema: postgresUrl,
    optional: true,
    secret: true,
  },
  pgUrlFile: {
    placeholder: "<path>",
    description: "file with that URL (mode 0600) instead, so that no password shows in the process list",
    allowed: "a path",
    schema: path,
    optional: true,
  },
  acceptors: {
    placeholder: "<host:port,…>",
    description: "WAL addresses of all acceptors",
    allowed: "host:port,host:port,… with at most 31 entries",
    schema: peerAddresses,
  },
  acceptorHttp: {
    placeholder: "<url,…>",
    description: "HTTP addresses of all acceptors, in the same order; needed until the timeline exists",
    allowed: "http://host:port,http://host:port,…",
    schema: httpUrls,
    optional: true,
  },
  listenHttp: {
    placeholder: "<host:port>",
    description: "where to serve this bridge's status and metrics",
    allowed: "host:port, for example 127.0.0.1:7677",
    schema: listenAddress,
    optional: true,
    defaultText: "off",
  },
  acceptorTokenFile: {
    placeholder: "<path>",
    description: "file with the JWT for acceptors that want one (mode 0600)",
    allowed: "a path",
    schema: path,
    optional: true,
  },
  tenant: {
    placeholder: "<hex>",
    description: "tenant id",
    allowed: "32 hexadecimal digits",
    schema: hexId,
  },
  timeline: {
    placeholder: "<hex>",
    description: "timeline id; belongs to this PostgreSQL cluster for good",
    allowed: "32 hexadecimal digits",
    schema: hexId,
  },
  applicationName: {
    placeholder: "<name>",
    description: "the name in synchronous_standby_names",
    allowed: "1 to 63 lower-case letters, digits and underscores",
    schema: identifier,
    default: "walbridge",
  },
  retainSlot: {
    placeholder: "<name>",
    description: "replication slot that keeps WAL for acceptors that lag",
    allowed: "1 to 63 lower-case letters, digits and underscores",
    schema: identifier,
    default: "walbridge_retain",
  },
  reportApply: {
    placeholder: "<commit|none>",
    description: "what synchronous_commit = remote_apply sees: the quorum's position, or nothing",
    allowed: "commit or none",
    schema: oneOf(["commit", "none"] as const),
    default: "commit",
  },
  ringBytes: {
    placeholder: "<bytes>",
    description: "recent WAL kept in memory for acceptors that lag a little",
    allowed: "1MiB to 1GiB",
    schema: byteCount(RING_BYTES_MIN, RING_BYTES_MAX),
    default: 128 * MIB,
    defaultText: "128MiB",
  },
  reconnectMs: {
    placeholder: "<ms>",
    description: "pause before an acceptor is tried again",
    allowed: "a whole number from 10 to 60000",
    schema: numberBetween(10, 60_000),
    default: 1000,
  },
  connectionTimeoutMs: {
    placeholder: "<ms>",
    description: "an acceptor that is silent for this long is disconnected",
    allowed: "a whole number from 1500 to 600000",
    schema: numberBetween(1500, 600_000),
    default: 10_000,
  },
  expectSysid: {
    placeholder: "<n>",
    description: "refuse a PostgreSQL with another system identifier",
    allowed: "a whole number from 1 to 2^64 - 1",
    schema: u64(1n),
    optional: true,
  },
  protoVersion: {
    placeholder: "<2|3>",
    description: "version of the proposer protocol",
    allowed: "2 or 3",
    schema: oneOf(["2", "3"] as const),
    default: "3",
  },
  ...SHARED_OPTIONS,
};
