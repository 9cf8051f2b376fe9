/**
 * What proposers send: bytes to message and back, in both versions.
 *
 * Parsing is lenient where real proposers are sloppy (bytes after a complete message are ignored, of a version 2 tag
 * only the low byte counts) and strict where a wrong value would reach the log (LSN order, lengths, versions). An
 * append-request is the hot path: it costs one DataView, one message object and one view of the WAL bytes.
 *
 * Layouts: version 3 is a tag byte and big-endian fields, version 2 the packed little-endian structs of Neon's
 * walproposer, whose greeting has the two ids in the opposite order.
 */
import { Buffer } from "node:buffer";
import type { Lsn } from "@millrace/lsn";
import { ByteReader } from "./byte-reader.js";
import { ByteWriter } from "./byte-writer.js";
import { EMPTY_CONFIGURATION } from "./configuration.js";
import { configurationBytes, readConfiguration, writeConfiguration } from "./configuration-codec.js";
import { ProtocolError } from "./errors.js";
import { idFromBytes, ID_BYTES, idToBytes, parseId } from "./ids.js";
import { MAX_APPEND_BYTES } from "./messages.js";
import type {
  AppendRequest,
  AppendRequestFields,
  ProposerElected,
  ProposerGreeting,
  ProposerMessage,
  ProtocolVersion,
  VoteRequest,
} from "./messages.js";
import { checkVersion, readTag, TAG, writeTag } from "./tags.js";

const APPEND_HEADER_BYTES = { 2: 72, 3: 45 } as const;
const V2_PROPOSER_UUID_BYTES = 16; // no longer used by anybody, zero
const V2_TIMELINE_ID = 1; // PostgreSQL's timeline number, always 1 in Neon and not read by acceptors
const PG_VERSION_MIN = 140000;
const PG_VERSION_MAX = 189999;

/**
 * Parses what a proposer sent.
 *
 * @param payload one CopyData body. The `walData` of an append-request is a view of it: leave it alone as long as
 *   the message is in use. Bytes after the message are ignored.
 * @throws {ProtocolError} any of ERR_PROTOCOL_*; nothing else, whatever the bytes are
 */
export function parseProposerMessage(payload: Uint8Array, version: ProtocolVersion): ProposerMessage {
  checkVersion(version);
  switch (payload[0]) {
    case TAG.append:
      return parseAppendRequest(payload, version);
    case TAG.greeting:
      return version === 2 ? parseGreetingV2(payload) : parseGreetingV3(payload);
    case TAG.vote:
      return parseVoteRequest(payload, version);
    case TAG.elected:
      return parseElected(payload, version);
    case undefined:
      throw new ProtocolError("ERR_PROTOCOL_TRUNCATED", "empty message");
    default:
      throw new ProtocolError("ERR_PROTOCOL_TAG", `unknown proposer message tag ${String(payload[0])}`);
  }
}

/**
 * Serialises what a proposer sends. The result is given to the caller. For append-requests prefer
 * {@link appendRequestHeader}, which leaves the WAL bytes where they are.
 *
 * @throws {RangeError} a value that does not fit its field, WAL of a length other than `endLsn - beginLsn`, or a
 *   generation other than 0 in version 2, which has no place for it
 */
export function serializeProposerMessage(message: ProposerMessage, version: ProtocolVersion): Uint8Array {
  checkVersion(version);
  if (message.type === "append-request") return serializeAppendRequest(message, version);
  if (message.type === "vote-request") return serializeVoteRequest(message, version);
  if (message.type === "elected") return serializeElected(message, version);
  return version === 2 ? serializeGreetingV2(message) : serializeGreetingV3(message);
}

/**
 * The header of an append-request, 45 bytes in version 3 and 72 in version 2; the WAL bytes follow it on the wire.
 * Given to the caller.
 *
 * @throws {RangeError} `endLsn` below `beginLsn` or more than MAX_APPEND_BYTES past it; as serializeProposerMessage
 */
export function appendRequestHeader(fields: AppendRequestFields, version: ProtocolVersion): Uint8Array {
  checkVersion(version);
  const { beginLsn, endLsn } = fields;
  if (endLsn < beginLsn || endLsn - beginLsn > BigInt(MAX_APPEND_BYTES)) {
    throw new RangeError(`${String(endLsn - beginLsn)} WAL bytes do not fit an append-request`);
  }
  const writer = new ByteWriter(APPEND_HEADER_BYTES[version], version === 2);
  writeTag(writer, TAG.append, version);
  if (version === 2) checkNoGeneration(fields.generation);
  else writer.u32(fields.generation);
  writer.u64(fields.term);
  if (version === 2) writer.u64(0n); // start of the term; acceptors know it from the history
  writer.u64(beginLsn).u64(endLsn).u64(fields.commitLsn).u64(fields.truncateLsn);
  if (version === 2) writer.zeros(V2_PROPOSER_UUID_BYTES);
  return writer.bytes;
}

function parseAppendRequest(payload: Uint8Array, version: ProtocolVersion): AppendRequest {
  const headerBytes = APPEND_HEADER_BYTES[version];
  if (payload.byteLength < headerBytes) throw tooShort("append-request", payload);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const littleEndian = version === 2;
  const lsnOffset = littleEndian ? 24 : 13;
  const beginLsn = view.getBigUint64(lsnOffset, littleEndian) as Lsn;
  const endLsn = view.getBigUint64(lsnOffset + 8, littleEndian) as Lsn;
  const walBytes = Number(endLsn - beginLsn);
  if (walBytes < 0 || walBytes > MAX_APPEND_BYTES) {
    throw new ProtocolError(
      "ERR_PROTOCOL_FIELD",
      walBytes < 0
        ? "append-request ends before it begins"
        : `append-request of ${String(walBytes)} WAL bytes`,
    );
  }
  if (walBytes > payload.byteLength - headerBytes) throw tooShort("append-request", payload);
  return {
    type: "append-request",
    generation: littleEndian ? 0 : view.getUint32(1),
    term: view.getBigUint64(littleEndian ? 8 : 5, littleEndian),
    beginLsn,
    endLsn,
    commitLsn: view.getBigUint64(lsnOffset + 16, littleEndian) as Lsn,
    truncateLsn: view.getBigUint64(lsnOffset + 24, littleEndian) as Lsn,
    walData: payload.subarray(headerBytes, headerBytes + walBytes),
  };
}

function serializeAppendRequest(message: AppendRequest, version: ProtocolVersion): Uint8Array {
  const { walData } = message;
  if (BigInt(walData.byteLength) !== message.endLsn - message.beginLsn) {
    throw new RangeError(`${String(walData.byteLength)} WAL bytes do not fill the announced range`);
  }
  return Buffer.concat([appendRequestHeader(message, version), walData]);
}

function parseGreetingV3(payload: Uint8Array): ProposerGreeting {
  const reader = new ByteReader(payload, false);
  readTag(reader, 3);
  const tenantId = parseId(reader.string(), "tenant id");
  const timelineId = parseId(reader.string(), "timeline id");
  const configuration = readConfiguration(reader);
  const pgVersion = readPgVersion(reader);
  const systemId = reader.u64();
  return {
    type: "greeting",
    tenantId,
    timelineId,
    configuration,
    pgVersion,
    systemId,
    segmentBytes: reader.u32(),
  };
}

function parseGreetingV2(payload: Uint8Array): ProposerGreeting {
  const reader = new ByteReader(payload, true);
  readTag(reader, 2);
  reader.skip(4); // protocol version, already agreed on when the stream was started
  const pgVersion = readPgVersion(reader);
  reader.skip(V2_PROPOSER_UUID_BYTES);
  const systemId = reader.u64();
  const timelineId = idFromBytes(reader.view(ID_BYTES));
  const tenantId = idFromBytes(reader.view(ID_BYTES));
  reader.skip(4); // PostgreSQL's timeline number
  return {
    type: "greeting",
    tenantId,
    timelineId,
    configuration: EMPTY_CONFIGURATION,
    pgVersion,
    systemId,
    segmentBytes: reader.u32(),
  };
}

function readPgVersion(reader: ByteReader): number {
  const pgVersion = reader.u32();
  if (pgVersion !== 0 && (pgVersion < PG_VERSION_MIN || pgVersion > PG_VERSION_MAX)) {
    throw new ProtocolError("ERR_PROTOCOL_FIELD", `PostgreSQL version ${String(pgVersion)} is not supported`);
  }
  return pgVersion;
}

function parseVoteRequest(payload: Uint8Array, version: ProtocolVersion): VoteRequest {
  const reader = new ByteReader(payload, version === 2);
  readTag(reader, version);
  const generation = version === 2 ? 0 : reader.u32();
  const term = reader.u64();
  if (version === 2) reader.skip(V2_PROPOSER_UUID_BYTES);
  return { type: "vote-request", generation, term };
}

function parseElected(payload: Uint8Array, version: ProtocolVersion): ProposerElected {
  const reader = new ByteReader(payload, version === 2);
  readTag(reader, version);
  const generation = version === 2 ? 0 : reader.u32();
  const term = reader.u64();
  const startStreamingAt = reader.lsn();
  const history = reader.termHistory();
  if (version === 2) reader.skip(8); // start of the timeline, which the first history entry says too
  return { type: "elected", generation, term, startStreamingAt, history };
}

function serializeGreetingV3(message: ProposerGreeting): Uint8Array {
  const { configuration } = message;
  const idTextBytes = 2 * ID_BYTES + 1;
  const writer = new ByteWriter(1 + 2 * idTextBytes + configurationBytes(configuration) + 16, false);
  writeTag(writer, TAG.greeting, 3);
  for (const id of [message.tenantId, message.timelineId]) {
    const text = idFromBytes(idToBytes(id)); // checked and lower-cased
    writer.copy(Buffer.from(text, "latin1")).u8(0);
  }
  writeConfiguration(writer, configuration);
  writer.u32(message.pgVersion).u64(message.systemId).u32(message.segmentBytes);
  return writer.bytes;
}

function serializeGreetingV2(message: ProposerGreeting): Uint8Array {
  checkNoGeneration(message.configuration.generation);
  const writer = new ByteWriter(80, true);
  writeTag(writer, TAG.greeting, 2);
  writer.u32(2).u32(message.pgVersion).zeros(V2_PROPOSER_UUID_BYTES).u64(message.systemId);
  writer.copy(idToBytes(message.timelineId)).copy(idToBytes(message.tenantId));
  writer.u32(V2_TIMELINE_ID).u32(message.segmentBytes);
  return writer.bytes;
}

function serializeVoteRequest(message: VoteRequest, version: ProtocolVersion): Uint8Array {
  const writer = new ByteWriter(version === 2 ? 32 : 13, version === 2);
  writeTag(writer, TAG.vote, version);
  if (version === 2) checkNoGeneration(message.generation);
  else writer.u32(message.generation);
  writer.u64(message.term);
  if (version === 2) writer.zeros(V2_PROPOSER_UUID_BYTES);
  return writer.bytes;
}

function serializeElected(message: ProposerElected, version: ProtocolVersion): Uint8Array {
  const { history } = message;
  const writer = new ByteWriter((version === 2 ? 36 : 25) + 16 * history.length, version === 2);
  writeTag(writer, TAG.elected, version);
  if (version === 2) checkNoGeneration(message.generation);
  else writer.u32(message.generation);
  writer.u64(message.term).u64(message.startStreamingAt).termHistory(history);
  if (version === 2) writer.u64(history[0]?.lsn ?? 0n);
  return writer.bytes;
}

function checkNoGeneration(generation: number): void {
  if (generation !== 0) throw new RangeError(`version 2 cannot carry generation ${String(generation)}`);
}

function tooShort(what: string, payload: Uint8Array): ProtocolError {
  return new ProtocolError(
    "ERR_PROTOCOL_TRUNCATED",
    `${what} of ${String(payload.byteLength)} bytes is too short`,
  );
}
