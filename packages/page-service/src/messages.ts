/**
 * The messages of Neon's pagestream protocol, versions 2 and 3: what a compute asks a page server, and the answers.
 *
 * Each is the payload of one CopyData: a tag, a header of positions, then the question; all numbers big-endian. Version 3 numbers
 * its requests and repeats the question in the answer. The layouts are those of Neon's `pagestore_client.h` and
 * `pageserver_api`.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PagestreamError } from "./errors.js";

export type PagestreamVersion = 2 | 3;

/** A relation's fork: 0 main, 1 free space map, 2 visibility map, 3 init. */
export interface RelTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

/** Transaction status, multixact members, multixact offsets. */
export type SlruKind = 0 | 1 | 2;

/** What is asked. */
export type PagestreamQuestion =
  | { readonly kind: "exists"; readonly rel: RelTag }
  | { readonly kind: "nblocks"; readonly rel: RelTag }
  | { readonly kind: "getpage"; readonly rel: RelTag; readonly block: number }
  | { readonly kind: "dbsize"; readonly db: number }
  | { readonly kind: "slru"; readonly slru: SlruKind; readonly segment: number };

/** As of when. */
export interface PagestreamHeader {
  /** Version 3 only; 0 in version 2. */
  readonly requestId: bigint;
  /** The position to look from; 2^64-1 is the latest. */
  readonly requestLsn: Lsn;
  /** What is asked for has not changed between this position and `requestLsn`. */
  readonly notModifiedSinceLsn: Lsn;
}

export interface PagestreamRequest extends PagestreamHeader {
  readonly question: PagestreamQuestion;
}

/** What is answered. */
export type PagestreamAnswer =
  | { readonly kind: "exists"; readonly exists: boolean }
  | { readonly kind: "nblocks"; readonly blocks: number }
  | { readonly kind: "getpage"; readonly page: Uint8Array }
  | { readonly kind: "dbsize"; readonly bytes: bigint }
  | { readonly kind: "slru"; readonly blocks: number; readonly data: Uint8Array }
  | { readonly kind: "error"; readonly message: string };

export interface PagestreamResponse {
  /** Of version 3: the header and the question that the answer belongs to. */
  readonly request: PagestreamRequest | undefined;
  readonly answer: PagestreamAnswer;
}

export const PAGE_BYTES = 8192;
/** Blocks of one SLRU segment file. */
export const SLRU_SEGMENT_BLOCKS = 32;
const FORK_MAX = 3;
const SLRU_KIND_MAX = 2;
const REL_BYTES = 13;

const REQUEST_TAG = { exists: 0, nblocks: 1, getpage: 2, dbsize: 3, slru: 4 } as const;
const KIND_BY_TAG = ["exists", "nblocks", "getpage", "dbsize", "slru"] as const;
const RESPONSE_TAG = { exists: 100, nblocks: 101, getpage: 102, error: 103, dbsize: 104, slru: 105 } as const;
const ANSWER_BY_TAG: ReadonlyMap<number, keyof typeof RESPONSE_TAG> = new Map(
  Object.entries(RESPONSE_TAG).map(([kind, tag]) => [tag, kind as keyof typeof RESPONSE_TAG]),
);

const QUESTION_BYTES = {
  exists: REL_BYTES,
  nblocks: REL_BYTES,
  getpage: REL_BYTES + 4,
  dbsize: 4,
  slru: 5,
} as const;

function headerBytes(version: PagestreamVersion): number {
  return version === 3 ? 24 : 16;
}

/** The longest request there is; whoever frames messages can refuse a longer one before it is read. */
export const REQUEST_BYTES_MAX: number = 1 + 24 + QUESTION_BYTES.getpage;

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function writeHeader(
  bytes: Buffer,
  at: number,
  header: PagestreamHeader,
  version: PagestreamVersion,
): number {
  let next = at;
  if (version === 3) next = bytes.writeBigUInt64BE(header.requestId, next);
  next = bytes.writeBigUInt64BE(header.requestLsn, next);
  return bytes.writeBigUInt64BE(header.notModifiedSinceLsn, next);
}

function writeRel(bytes: Buffer, at: number, { spc, db, rel, fork }: RelTag): number {
  let next = bytes.writeUInt32BE(spc, at);
  next = bytes.writeUInt32BE(db, next);
  next = bytes.writeUInt32BE(rel, next);
  return bytes.writeUInt8(fork, next);
}

function writeQuestion(bytes: Buffer, at: number, question: PagestreamQuestion): number {
  switch (question.kind) {
    case "exists":
    case "nblocks":
      return writeRel(bytes, at, question.rel);
    case "getpage":
      return bytes.writeUInt32BE(question.block, writeRel(bytes, at, question.rel));
    case "dbsize":
      return bytes.writeUInt32BE(question.db, at);
    case "slru":
      break;
  }
  return bytes.writeUInt32BE(question.segment, bytes.writeUInt8(question.slru, at));
}

function readHeader(bytes: Buffer, at: number, version: PagestreamVersion): PagestreamHeader {
  const lsns = version === 3 ? at + 8 : at;
  return {
    requestId: version === 3 ? bytes.readBigUInt64BE(at) : 0n,
    requestLsn: toLsn(bytes.readBigUInt64BE(lsns)),
    notModifiedSinceLsn: toLsn(bytes.readBigUInt64BE(lsns + 8)),
  };
}

function readRel(bytes: Buffer, at: number): RelTag {
  const fork = bytes.readUInt8(at + 12);
  if (fork > FORK_MAX) throw frameError(`fork ${String(fork)}`);
  return {
    spc: bytes.readUInt32BE(at),
    db: bytes.readUInt32BE(at + 4),
    rel: bytes.readUInt32BE(at + 8),
    fork,
  };
}

function readQuestion(bytes: Buffer, at: number, kind: PagestreamQuestion["kind"]): PagestreamQuestion {
  switch (kind) {
    case "exists":
    case "nblocks":
      return { kind, rel: readRel(bytes, at) };
    case "getpage":
      return { kind, rel: readRel(bytes, at), block: bytes.readUInt32BE(at + REL_BYTES) };
    case "dbsize":
      return { kind, db: bytes.readUInt32BE(at) };
    case "slru":
      break;
  }
  const slru = bytes.readUInt8(at);
  if (slru > SLRU_KIND_MAX) throw frameError(`SLRU ${String(slru)}`);
  return { kind, slru: slru as SlruKind, segment: bytes.readUInt32BE(at + 1) };
}

/** A request's message. */
export function encodePagestreamRequest(request: PagestreamRequest, version: PagestreamVersion): Buffer {
  const { question } = request;
  const bytes = Buffer.alloc(1 + headerBytes(version) + QUESTION_BYTES[question.kind]);
  bytes.writeUInt8(REQUEST_TAG[question.kind], 0);
  writeQuestion(bytes, writeHeader(bytes, 1, request, version), question);
  return bytes;
}

/**
 * Reads a request's message.
 *
 * @param message borrowed for the call
 * @throws {PagestreamError} ERR_PAGESTREAM_FRAME: an unknown tag, another length than its kind has, a fork or SLRU that does not
 *   exist
 */
export function parsePagestreamRequest(message: Uint8Array, version: PagestreamVersion): PagestreamRequest {
  const bytes = bufferOf(message);
  const kind = KIND_BY_TAG[bytes[0] ?? 255];
  if (kind === undefined) throw frameError(`request tag ${String(bytes[0])}`);
  const wanted = 1 + headerBytes(version) + QUESTION_BYTES[kind];
  if (bytes.byteLength !== wanted) throw frameError(`${kind} of ${String(bytes.byteLength)} bytes`);
  const question = readQuestion(bytes, 1 + headerBytes(version), kind);
  return { ...readHeader(bytes, 1, version), question };
}

function answerBytes(answer: PagestreamAnswer): Buffer {
  switch (answer.kind) {
    case "exists":
      return Buffer.of(answer.exists ? 1 : 0);
    case "nblocks": {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(answer.blocks);
      return bytes;
    }
    case "getpage":
      return bufferOf(answer.page);
    case "dbsize": {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64BE(answer.bytes);
      return bytes;
    }
    case "slru": {
      const bytes = Buffer.alloc(4 + answer.data.byteLength);
      bytes.writeUInt32BE(answer.blocks);
      bytes.set(answer.data, 4);
      return bytes;
    }
    case "error":
      break;
  }
  return Buffer.from(`${answer.message}\0`, "utf8");
}

/**
 * An answer's message.
 *
 * @param request what it answers; version 3 repeats it
 */
export function encodePagestreamResponse(
  request: PagestreamRequest,
  answer: PagestreamAnswer,
  version: PagestreamVersion,
): Buffer {
  const body = answerBytes(answer);
  // An error repeats the header and not the question.
  const questionBytes = version === 3 && answer.kind !== "error" ? QUESTION_BYTES[request.question.kind] : 0;
  const echoBytes = version === 3 ? headerBytes(3) + questionBytes : 0;
  const bytes = Buffer.allocUnsafe(1 + echoBytes + body.byteLength);
  let at = bytes.writeUInt8(RESPONSE_TAG[answer.kind], 0);
  if (version === 3) at = writeHeader(bytes, at, request, 3);
  if (questionBytes > 0) at = writeQuestion(bytes, at, request.question);
  body.copy(bytes, at);
  return bytes;
}

function readAnswer(bytes: Buffer, kind: PagestreamAnswer["kind"]): PagestreamAnswer {
  const expect = (length: number): void => {
    if (bytes.byteLength !== length)
      throw frameError(`an answer to ${kind} of ${String(bytes.byteLength)} bytes`);
  };
  switch (kind) {
    case "exists":
      expect(1);
      return { kind, exists: bytes[0] !== 0 };
    case "nblocks":
      expect(4);
      return { kind, blocks: bytes.readUInt32BE(0) };
    case "getpage":
      expect(PAGE_BYTES);
      return { kind, page: Uint8Array.from(bytes) };
    case "dbsize":
      expect(8);
      return { kind, bytes: bytes.readBigInt64BE(0) };
    case "slru": {
      if (bytes.byteLength < 4) throw frameError("an SLRU segment without a length");
      const blocks = bytes.readUInt32BE(0);
      if (blocks > SLRU_SEGMENT_BLOCKS) throw frameError(`an SLRU segment of ${String(blocks)} blocks`);
      expect(4 + blocks * PAGE_BYTES);
      return { kind, blocks, data: Uint8Array.from(bytes.subarray(4)) };
    }
    case "error":
      break;
  }
  if (bytes.at(-1) !== 0) throw frameError("an error that does not end");
  return { kind, message: bytes.toString("utf8", 0, bytes.byteLength - 1) };
}

/**
 * Reads an answer's message.
 *
 * @param message borrowed for the call
 * @throws {PagestreamError} ERR_PAGESTREAM_FRAME
 */
export function parsePagestreamResponse(message: Uint8Array, version: PagestreamVersion): PagestreamResponse {
  const bytes = bufferOf(message);
  const kind = ANSWER_BY_TAG.get(bytes[0] ?? 0);
  if (kind === undefined) throw frameError(`response tag ${String(bytes[0])}`);
  if (version === 2) return { request: undefined, answer: readAnswer(bytes.subarray(1), kind) };
  const questionBytes = kind === "error" ? 0 : QUESTION_BYTES[kind];
  const bodyAt = 1 + headerBytes(3) + questionBytes;
  if (bytes.byteLength < bodyAt) throw frameError(`a response of ${String(bytes.byteLength)} bytes`);
  const answer = readAnswer(bytes.subarray(bodyAt), kind);
  const header = readHeader(bytes, 1, 3);
  // An error does not say what it was about; whoever asked knows by the number.
  const question: PagestreamQuestion =
    kind === "error" ? { kind: "dbsize", db: 0 } : readQuestion(bytes, 1 + headerBytes(3), kind);
  return { request: { ...header, question }, answer };
}

function frameError(problem: string): PagestreamError {
  return new PagestreamError("ERR_PAGESTREAM_FRAME", `no pagestream message: ${problem}`);
}
