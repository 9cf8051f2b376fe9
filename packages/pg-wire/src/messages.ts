/**
 * Typed messages: the tags of both sides, and the bytes of every message that this package writes. Pure functions; a
 * state machine (server-session.ts, client-session.ts) decides when a message may be sent.
 */
import { COLUMN_TYPES } from "./columns.js";
import type { Column } from "./columns.js";
import { serializeErrorFields } from "./error-response.js";
import type { ErrorFields } from "./errors.js";

/** Type bytes. Several letters mean one thing from a client and another from a server. */
export const TAG = {
  // from a client
  query: 0x51, // Q
  terminate: 0x58, // X
  password: 0x70, // p, also SASL messages
  copyFail: 0x66, // f
  // from either
  copyData: 0x64, // d
  copyDone: 0x63, // c
  // from a server
  authentication: 0x52, // R
  parameterStatus: 0x53, // S
  backendKeyData: 0x4b, // K
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
  dataRow: 0x44, // D
  commandComplete: 0x43, // C
  emptyQueryResponse: 0x49, // I
  errorResponse: 0x45, // E
  noticeResponse: 0x4e, // N
  notificationResponse: 0x41, // A
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  copyBothResponse: 0x57, // W
  negotiateProtocolVersion: 0x76, // v
} as const;

/** Codes of an Authentication message. */
export const AUTHENTICATION = {
  ok: 0,
  cleartext: 3,
  md5: 5,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

/** Bytes of type and length before a body. */
export const FRAME_HEADER_BYTES = 5;

/** Writes type and length of a message whose body has `bodyBytes` bytes at the start of `target`. */
export function writeFrameHeader(target: Buffer, tag: number, bodyBytes: number): void {
  target[0] = tag;
  target.writeUInt32BE(bodyBytes + 4, 1);
}

/** A message of the given bodies, copied into one buffer. Not for CopyData, whose payload is not copied. */
export function frame(tag: number, ...bodies: readonly Uint8Array[]): Buffer {
  let bodyBytes = 0;
  for (const body of bodies) bodyBytes += body.length;
  const message = Buffer.allocUnsafe(FRAME_HEADER_BYTES + bodyBytes);
  writeFrameHeader(message, tag, bodyBytes);
  let offset = FRAME_HEADER_BYTES;
  for (const body of bodies) {
    message.set(body, offset);
    offset += body.length;
  }
  return message;
}

/** A message whose body is one NUL-terminated string: Query, CommandComplete, CopyFail, cleartext password. */
export function textMessage(tag: number, text: string): Buffer {
  return frame(tag, Buffer.from(`${text.replaceAll("\0", " ")}\0`));
}

/** Authentication request or result; `data` is salt, mechanism list or SASL data. */
export function authenticationMessage(code: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return frame(TAG.authentication, int32(code), data);
}

/** One ParameterStatus. */
export function parameterStatus(name: string, value: string): Buffer {
  return frame(TAG.parameterStatus, Buffer.from(`${name}\0${value}\0`));
}

/** What a client would put into a CancelRequest. */
export function backendKeyData(processId: number, secretKey: number): Buffer {
  return frame(TAG.backendKeyData, int32(processId), int32(secretKey));
}

/** ReadyForQuery; always idle, as neither walsenders nor acceptors know transactions. */
export function readyForQuery(): Buffer {
  return frame(TAG.readyForQuery, Buffer.from("I"));
}

/**
 * The newest protocol that the server speaks, and which `_pq_.` options it does not know. The version is the full
 * code and not the minor number alone; PostgreSQL's servers and libpq agree on that against the words of the manual.
 */
export function negotiateProtocolVersion(version: number, unknownOptions: readonly string[]): Buffer {
  const names = Buffer.from(unknownOptions.map((name) => `${name}\0`).join(""));
  return frame(TAG.negotiateProtocolVersion, int32(version), int32(unknownOptions.length), names);
}

/** RowDescription of columns in text format that belong to no table. */
export function rowDescription(columns: readonly Column[]): Buffer {
  const fields = columns.map((column) => {
    const name = Buffer.from(`${column.name}\0`);
    const type = COLUMN_TYPES[column.type ?? "text"];
    const field = Buffer.alloc(name.length + 18); // table oid 0 and column number 0: not from a table
    field.set(name);
    field.writeUInt32BE(type.oid, name.length + 6);
    field.writeInt16BE(type.lengthBytes, name.length + 10);
    field.writeInt32BE(-1, name.length + 12); // no type modifier; format 0 follows
    return field;
  });
  return frame(TAG.rowDescription, int16(columns.length), ...fields);
}

/** One row; null is SQL's NULL. */
export function dataRow(values: readonly (string | null)[]): Buffer {
  const parts: Buffer[] = [int16(values.length)];
  for (const value of values) {
    if (value === null) {
      parts.push(int32(-1));
      continue;
    }
    const text = Buffer.from(value);
    parts.push(int32(text.length), text);
  }
  return frame(TAG.dataRow, ...parts);
}

/** ErrorResponse. */
export function errorResponse(fields: ErrorFields): Buffer {
  return frame(TAG.errorResponse, serializeErrorFields(fields));
}

/** NoticeResponse. */
export function noticeResponse(fields: ErrorFields): Buffer {
  return frame(TAG.noticeResponse, serializeErrorFields(fields));
}

/** CopyBothResponse: text format, no columns, which is what every replication stream says. */
export function copyBothResponse(): Buffer {
  return frame(TAG.copyBothResponse, Buffer.alloc(3));
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
