/**
 * The control file: how a timeline's durable state looks as bytes.
 *
 * Layout: 8 bytes magic "WALACPT1", u32 format version, u32 body length, the body, u32 CRC-32C over everything
 * before it; integers little-endian. The body is JSON with a fixed order of members, one a line, every u64 as a
 * decimal string, so that an operator can read and compare it with standard tools. The reader trusts nothing: the
 * checksum comes first, then magic and version, then each member's type and range. A file that fails is never
 * replaced by a fresh one, because forgetting a vote would break the protocol.
 */
import { crc32c } from "@millrace/checksums";
import { isSegmentBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { checkConfiguration, checkTermHistory, ProtocolError } from "@millrace/wal-protocol";
import type { Configuration, Member, TermHistory } from "@millrace/wal-protocol";
import { AcceptorError } from "./errors.js";
import type { PersistentState, ServerInfo } from "./persistent-state.js";

/** Name of the control file in a timeline's directory. */
export const CONTROL_FILE_NAME = "safekeeper.control";
/** Name of the file that is written before it replaces the control file. */
export const CONTROL_FILE_PARTIAL_NAME = "safekeeper.control.partial";

const MAGIC = new TextEncoder().encode("WALACPT1");
const FORMAT_VERSION = 1;
const HEADER_BYTES = 16;
const TRAILER_BYTES = 4;
/** Far above what a term history that fits one protocol message (16 MiB) needs; a longer file is not ours. */
export const CONTROL_FILE_BYTES_MAX: number = 128 * 1024 * 1024;

const U64_MAX = 2n ** 64n - 1n;
const U32_MAX = 0xffff_ffff;
const PORT_MAX = 0xffff;
const ID = /^[0-9a-f]{32}$/;
const DECIMAL = /^(?:0|[1-9][0-9]{0,19})$/;

/** The file's bytes for a state: equal states give equal bytes. */
export function encodeControlFile(state: PersistentState): Uint8Array {
  const body = new TextEncoder().encode(`${JSON.stringify(toJson(state), undefined, 1)}\n`);
  const file = new Uint8Array(HEADER_BYTES + body.byteLength + TRAILER_BYTES);
  const view = new DataView(file.buffer);
  file.set(MAGIC, 0);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setUint32(12, body.byteLength, true);
  file.set(body, HEADER_BYTES);
  const end = HEADER_BYTES + body.byteLength;
  view.setUint32(end, crc32c(file.subarray(0, end)), true);
  return file;
}

/**
 * Reads a control file.
 *
 * @param file borrowed for the call
 * @throws {AcceptorError} ERR_ACCEPTOR_CONTROL_CORRUPT for anything but a file that `encodeControlFile` made;
 *   ERR_ACCEPTOR_CONTROL_VERSION for an intact file of an unknown format version
 */
export function decodeControlFile(file: Uint8Array): PersistentState {
  const end = file.byteLength - TRAILER_BYTES;
  if (end < HEADER_BYTES) throw corrupt(`only ${String(file.byteLength)} bytes`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(end, true) !== crc32c(file.subarray(0, end))) throw corrupt("checksum mismatch");
  if (MAGIC.some((byte, index) => file[index] !== byte)) throw corrupt("wrong magic");
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_CONTROL_VERSION",
      `control file has format version ${String(version)}, known is ${String(FORMAT_VERSION)}`,
    );
  }
  const bodyBytes = view.getUint32(12, true);
  if (bodyBytes !== end - HEADER_BYTES) throw corrupt(`body length ${String(bodyBytes)}`);
  let body: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(file.subarray(HEADER_BYTES, end));
    body = JSON.parse(text);
  } catch (error) {
    throw corrupt("the body is not JSON", error);
  }
  return fromJson(new Fields(body, "state"));
}

function toJson(state: PersistentState): unknown {
  const { server, configuration } = state;
  return {
    tenantId: state.tenantId,
    timelineId: state.timelineId,
    createdAtMs: state.createdAtMs,
    server: {
      pgVersion: server.pgVersion,
      systemId: String(server.systemId),
      segmentBytes: server.segmentBytes,
    },
    configuration: {
      generation: configuration.generation,
      members: configuration.members.map(memberToJson),
      newMembers: configuration.newMembers.map(memberToJson),
    },
    term: String(state.term),
    termHistory: state.termHistory.map(({ term, lsn }) => ({ term: String(term), lsn: String(lsn) })),
    timelineStartLsn: String(state.timelineStartLsn),
    localStartLsn: String(state.localStartLsn),
    commitLsn: String(state.commitLsn),
    backupLsn: String(state.backupLsn),
    peerHorizonLsn: String(state.peerHorizonLsn),
    remoteConsistentLsn: String(state.remoteConsistentLsn),
  };
}

function memberToJson(member: Member): unknown {
  return { nodeId: String(member.nodeId), host: member.host, port: member.port };
}

function fromJson(fields: Fields): PersistentState {
  return {
    tenantId: fields.id("tenantId"),
    timelineId: fields.id("timelineId"),
    createdAtMs: fields.number("createdAtMs", Number.MAX_SAFE_INTEGER),
    server: serverFromJson(fields.object("server")),
    configuration: configurationFromJson(fields.object("configuration")),
    term: fields.u64("term"),
    termHistory: historyFromJson(fields.list("termHistory")),
    timelineStartLsn: fields.lsn("timelineStartLsn"),
    localStartLsn: fields.lsn("localStartLsn"),
    commitLsn: fields.lsn("commitLsn"),
    backupLsn: fields.lsn("backupLsn"),
    peerHorizonLsn: fields.lsn("peerHorizonLsn"),
    remoteConsistentLsn: fields.lsn("remoteConsistentLsn"),
  };
}

function serverFromJson(fields: Fields): ServerInfo {
  const segmentBytes = fields.number("segmentBytes", U32_MAX);
  if (!isSegmentBytes(segmentBytes)) throw corrupt(`segment size ${String(segmentBytes)}`);
  return {
    pgVersion: fields.number("pgVersion", U32_MAX),
    systemId: fields.u64("systemId"),
    segmentBytes,
  };
}

function configurationFromJson(fields: Fields): Configuration {
  const configuration = {
    generation: fields.number("generation", U32_MAX),
    members: fields.list("members").map(memberFromJson),
    newMembers: fields.list("newMembers").map(memberFromJson),
  };
  rethrowCorrupt(() => checkConfiguration(configuration));
  return configuration;
}

function memberFromJson(fields: Fields): Member {
  return {
    nodeId: fields.u64("nodeId"),
    host: fields.string("host"),
    port: fields.number("port", PORT_MAX),
  };
}

function historyFromJson(list: readonly Fields[]): TermHistory {
  const history = list.map((fields) => ({ term: fields.u64("term"), lsn: fields.lsn("lsn") }));
  rethrowCorrupt(() => checkTermHistory(history));
  return history;
}

function rethrowCorrupt(check: () => void): void {
  try {
    check();
  } catch (error) {
    if (error instanceof ProtocolError) throw corrupt(error.message, error);
    throw error;
  }
}

function corrupt(reason: string, cause?: unknown): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_CONTROL_CORRUPT", `control file is corrupt: ${reason}`, { cause });
}

/** A parsed object whose members are checked as they are taken out. */
class Fields {
  readonly #members: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw corrupt(`${path} is not an object`);
    }
    this.#members = value as Readonly<Record<string, unknown>>;
    this.#path = path;
  }

  string(name: string): string {
    const value = this.#members[name];
    if (typeof value !== "string") throw this.#wrong(name, "a string");
    return value;
  }

  id(name: string): string {
    const value = this.string(name);
    if (!ID.test(value)) throw this.#wrong(name, "32 hexadecimal digits");
    return value;
  }

  /** An integer from 0 to `max`. */
  number(name: string, max: number): number {
    const value = this.#members[name];
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max) {
      throw this.#wrong(name, `an integer from 0 to ${String(max)}`);
    }
    return value;
  }

  u64(name: string): bigint {
    const text = this.string(name);
    const value = DECIMAL.test(text) ? BigInt(text) : -1n;
    if (value < 0n || value > U64_MAX) throw this.#wrong(name, "a decimal u64");
    return value;
  }

  lsn(name: string): Lsn {
    return toLsn(this.u64(name));
  }

  object(name: string): Fields {
    return new Fields(this.#members[name], `${this.#path}.${name}`);
  }

  list(name: string): readonly Fields[] {
    const value = this.#members[name];
    if (!Array.isArray(value)) throw this.#wrong(name, "a list");
    return value.map((item: unknown, index) => new Fields(item, `${this.#path}.${name}[${String(index)}]`));
  }

  #wrong(name: string, expected: string): AcceptorError {
    return corrupt(`${this.#path}.${name} is not ${expected}`);
  }
}
