/**
 * The messages inside CopyData of a physical replication stream, both directions, as pure functions.
 *
 * A server sends `w` (XLogData) and `k` (keepalive); a client sends `r` (standby status), `h` (hot standby feedback)
 * and, to a safekeeper of Neon only, `z` (pageserver feedback, whose body is left to its owner). All integers are
 * big-endian; timestamps are microseconds since 2000-01-01 00:00 UTC as signed 64-bit. Layouts follow PostgreSQL's
 * walsender.c and walreceiver.c.
 *
 * A message with bytes after its last field is accepted where PostgreSQL's own parser would ignore them; a short one
 * is a protocol error.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { asBuffer } from "./byte-views.js";
import { protocolError } from "./errors.js";

/** 2000-01-01 00:00:00 UTC in milliseconds since the Unix epoch: where PostgreSQL's timestamps start. */
export const PG_EPOCH_MS = 946_684_800_000;

/** Bytes of an XLogData message before the WAL: tag, start, end, timestamp. */
export const XLOG_DATA_HEADER_BYTES = 25;

const KEEPALIVE_BYTES = 18;
const STANDBY_STATUS_BYTES = 34;
const HOT_STANDBY_BYTES = 25;
const PAGESERVER_HEADER_BYTES = 9; // tag and a u64 length that the sender repeats; the reader goes by the frame

const TAG_XLOG_DATA = 0x77; // w
const TAG_KEEPALIVE = 0x6b; // k
const TAG_STANDBY_STATUS = 0x72; // r
const TAG_HOT_STANDBY = 0x68; // h
const TAG_PAGESERVER = 0x7a; // z

/** A piece of WAL. */
export interface XLogData {
  readonly type: "xlog-data";
  /** Position of the first byte of `walData`. */
  readonly startLsn: Lsn;
  /** End of the WAL that the server has, not of this message. */
  readonly endLsn: Lsn;
  /** Microseconds since 2000-01-01 at the server. */
  readonly timestamp: bigint;
  /** A view of the payload it was parsed from. */
  readonly walData: Uint8Array;
}

/** "I am here, and my WAL ends there." */
export interface Keepalive {
  readonly type: "keepalive";
  readonly endLsn: Lsn;
  readonly timestamp: bigint;
  /** The server wants a standby status at once. */
  readonly replyRequested: boolean;
}

/** How far a standby has come. Positions are ends: the byte at `flushLsn` is not yet flushed. */
export interface StandbyStatus {
  readonly type: "standby-status";
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  readonly timestamp: bigint;
  readonly replyRequested: boolean;
}

/**
 * Which old row versions a standby still needs. The ids are full 64-bit transaction ids (epoch in the upper half),
 * 0 where the standby has no demand.
 */
export interface HotStandbyFeedbackMessage {
  readonly type: "hot-standby-feedback";
  readonly timestamp: bigint;
  readonly xmin: bigint;
  readonly catalogXmin: bigint;
}

/** Feedback of a pageserver; `body` (a view) is key-value data understood elsewhere. */
export interface PageserverMessage {
  readonly type: "pageserver-feedback";
  readonly body: Uint8Array;
}

/** A message with a tag that this package does not know. PostgreSQL would refuse it, Neon's safekeeper ignores it. */
export interface UnknownReplicationMessage {
  readonly type: "unknown";
  readonly tag: number;
}

/** Converts Unix milliseconds (fractions are kept to the microsecond) to PostgreSQL's timestamp. */
export function toPgTimestamp(ms: number): bigint {
  return BigInt(Math.round((ms - PG_EPOCH_MS) * 1000));
}

/** Converts PostgreSQL's timestamp to Unix milliseconds; microseconds become a fraction. */
export function fromPgTimestamp(timestamp: bigint): number {
  return Number(timestamp) / 1000 + PG_EPOCH_MS;
}

/**
 * Parses what a server sends inside a replication stream.
 *
 * @param payload borrowed; `walData` of the result is a view of it
 * @throws {WireError} ERR_WIRE_PROTOCOL for a short message or an unknown tag
 */
export function parseReplicationMessage(payload: Uint8Array): XLogData | Keepalive {
  const bytes = asBuffer(payload);
  const tag = bytes[0];
  if (tag === TAG_XLOG_DATA) {
    need(bytes, XLOG_DATA_HEADER_BYTES, "XLogData");
    return {
      type: "xlog-data",
      startLsn: toLsn(bytes.readBigUInt64BE(1)),
      endLsn: toLsn(bytes.readBigUInt64BE(9)),
      timestamp: bytes.readBigInt64BE(17),
      walData: bytes.subarray(XLOG_DATA_HEADER_BYTES),
    };
  }
  if (tag === TAG_KEEPALIVE) {
    need(bytes, KEEPALIVE_BYTES, "keepalive");
    return {
      type: "keepalive",
      endLsn: toLsn(bytes.readBigUInt64BE(1)),
      timestamp: bytes.readBigInt64BE(9),
      replyRequested: bytes[17] !== 0,
    };
  }
  throw protocolError(`unexpected replication message ${tagText(tag)} from the server`);
}

/**
 * Parses what a standby, or a pageserver, sends inside a replication stream. An unknown tag is not an error but a
 * result of its own, for the caller to count or to refuse.
 *
 * @param payload borrowed; `body` of a pageserver's message is a view of it
 * @throws {WireError} ERR_WIRE_PROTOCOL for an empty or short message
 */
export function parseStandbyMessage(
  payload: Uint8Array,
): StandbyStatus | HotStandbyFeedbackMessage | PageserverMessage | UnknownReplicationMessage {
  const bytes = asBuffer(payload);
  const tag = bytes[0];
  if (tag === undefined) throw protocolError("empty replication message");
  if (tag === TAG_STANDBY_STATUS) {
    need(bytes, STANDBY_STATUS_BYTES, "standby status");
    return {
      type: "standby-status",
      writeLsn: toLsn(bytes.readBigUInt64BE(1)),
      flushLsn: toLsn(bytes.readBigUInt64BE(9)),
      applyLsn: toLsn(bytes.readBigUInt64BE(17)),
      timestamp: bytes.readBigInt64BE(25),
      replyRequested: bytes[33] !== 0,
    };
  }
  if (tag === TAG_HOT_STANDBY) {
    need(bytes, HOT_STANDBY_BYTES, "hot standby feedback");
    return {
      type: "hot-standby-feedback",
      timestamp: bytes.readBigInt64BE(1),
      xmin: fullTransactionId(bytes, 9),
      catalogXmin: fullTransactionId(bytes, 17),
    };
  }
  if (tag === TAG_PAGESERVER) {
    need(bytes, PAGESERVER_HEADER_BYTES, "pageserver feedback");
    return { type: "pageserver-feedback", body: bytes.subarray(PAGESERVER_HEADER_BYTES) };
  }
  return { type: "unknown", tag };
}

/** The 25 bytes before the WAL of an XLogData message; send them and the WAL as two parts of one CopyData. */
export function serializeXLogDataHeader(header: {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly timestamp: bigint;
}): Buffer {
  const bytes = Buffer.allocUnsafe(XLOG_DATA_HEADER_BYTES);
  bytes[0] = TAG_XLOG_DATA;
  bytes.writeBigUInt64BE(header.startLsn, 1);
  bytes.writeBigUInt64BE(header.endLsn, 9);
  bytes.writeBigInt64BE(header.timestamp, 17);
  return bytes;
}

/** A whole keepalive message. */
export function serializeKeepalive(message: Omit<Keepalive, "type">): Buffer {
  const bytes = Buffer.allocUnsafe(KEEPALIVE_BYTES);
  bytes[0] = TAG_KEEPALIVE;
  bytes.writeBigUInt64BE(message.endLsn, 1);
  bytes.writeBigInt64BE(message.timestamp, 9);
  bytes[17] = message.replyRequested ? 1 : 0;
  return bytes;
}

/** A whole standby status message. */
export function serializeStandbyStatus(message: Omit<StandbyStatus, "type">): Buffer {
  const bytes = Buffer.allocUnsafe(STANDBY_STATUS_BYTES);
  bytes[0] = TAG_STANDBY_STATUS;
  bytes.writeBigUInt64BE(message.writeLsn, 1);
  bytes.writeBigUInt64BE(message.flushLsn, 9);
  bytes.writeBigUInt64BE(message.applyLsn, 17);
  bytes.writeBigInt64BE(message.timestamp, 25);
  bytes[33] = message.replyRequested ? 1 : 0;
  return bytes;
}

/** A whole hot standby feedback message; full transaction ids are split into id and epoch. */
export function serializeHotStandbyFeedback(message: Omit<HotStandbyFeedbackMessage, "type">): Buffer {
  const bytes = Buffer.allocUnsafe(HOT_STANDBY_BYTES);
  bytes[0] = TAG_HOT_STANDBY;
  bytes.writeBigInt64BE(message.timestamp, 1);
  writeFullTransactionId(bytes, message.xmin, 9);
  writeFullTransactionId(bytes, message.catalogXmin, 17);
  return bytes;
}

/** Tag and length of a pageserver feedback message; `body` follows as the next part. */
export function serializePageserverFeedbackHeader(bodyBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(PAGESERVER_HEADER_BYTES);
  bytes[0] = TAG_PAGESERVER;
  bytes.writeBigUInt64BE(BigInt(bodyBytes), 1);
  return bytes;
}

/** On the wire the 32-bit id comes first and its epoch second. */
function fullTransactionId(bytes: Buffer, offsetBytes: number): bigint {
  return (BigInt(bytes.readUInt32BE(offsetBytes + 4)) << 32n) | BigInt(bytes.readUInt32BE(offsetBytes));
}

function writeFullTransactionId(bytes: Buffer, xid: bigint, offsetBytes: number): void {
  bytes.writeUInt32BE(Number(xid & 0xffff_ffffn), offsetBytes);
  bytes.writeUInt32BE(Number((xid >> 32n) & 0xffff_ffffn), offsetBytes + 4);
}

function need(bytes: Buffer, countBytes: number, what: string): void {
  if (bytes.length < countBytes) throw protocolError(`${what} message of ${bytes.length} bytes is too short`);
}

function tagText(tag: number | undefined): string {
  return tag === undefined ? "(empty)" : `'${String.fromCharCode(tag)}' (${tag})`;
}
