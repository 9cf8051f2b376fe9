/**
 * The frames between a redo manager and whoever replays for it: a worker thread, a child process, or a PostgreSQL.
 *
 * A request is a row of frames: begin, perhaps a base page, records, get. The dialect "neon" is that of Neon's patched
 * PostgreSQL (`--wal-redo`): replies are bare pages in the order of the requests, and a failure is the end of the process.
 * The dialect "x1" has the same frames, names the version first, numbers its requests, and frames its replies, so that a
 * record that cannot be replayed is an answer and not a death. Numbers are big-endian; a frame's length counts itself.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { RedoError } from "./errors.js";
import type { PageKey } from "./redo-request.js";

export type RedoDialect = "neon" | "x1";

/** Types of frames. */
export const FRAME = {
  hello: 0x56,
  begin: 0x42,
  push: 0x50,
  apply: 0x41,
  get: 0x47,
  ping: 0x48,
  page: 0x4b,
  error: 0x45,
  pong: 0x5a,
} as const;

/** Why a request failed, in an error frame. */
export const REPLY_CODE = { unsupported: 1, invariant: 2, badFrame: 3 } as const;

export const X1_PROTOCOL = 1;
const FRAME_HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
export const TAG_BYTES = 17;
const ID_BYTES = 4;
/** A record of 1020 MiB and what is around it. */
const FRAME_BYTES_MAX = 1_069_547_520 + 64;
/** A reader's buffer beyond this is given back when it is empty. */
const READER_BUFFER_BYTES_MAX = 4 * 1024 * 1024;

/** A record with the position where it ends. */
export interface WireRecord {
  readonly endLsn: Lsn;
  readonly bytes: Uint8Array;
}

/** What one request says. */
export interface WireRequest {
  readonly id: number;
  readonly page: PageKey;
  readonly base: Uint8Array | undefined;
  readonly records: readonly WireRecord[];
}

/** Writes frames into one buffer of a known size. */
class FrameWriter {
  readonly bytes: Buffer;
  #at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }

  begin(type: number, payloadBytes: number): this {
    this.#at = this.bytes.writeUInt8(type, this.#at);
    return this.u32(LENGTH_BYTES + payloadBytes);
  }

  u8(value: number): this {
    this.#at = this.bytes.writeUInt8(value, this.#at);
    return this;
  }

  u16(value: number): this {
    this.#at = this.bytes.writeUInt16BE(value, this.#at);
    return this;
  }

  u32(value: number): this {
    this.#at = this.bytes.writeUInt32BE(value, this.#at);
    return this;
  }

  u64(value: bigint): this {
    this.#at = this.bytes.writeBigUInt64BE(value, this.#at);
    return this;
  }

  tag({ fork, spc, db, rel, block }: PageKey): this {
    return this.u8(fork).u32(spc).u32(db).u32(rel).u32(block);
  }

  copy(source: Uint8Array): this {
    this.bytes.set(source, this.#at);
    this.#at += source.byteLength;
    return this;
  }
}

/** All frames of a request. */
export function encodeRequest(request: WireRequest, dialect: RedoDialect): Buffer {
  const { id, page, base, records } = request;
  const idBytes = dialect === "x1" ? ID_BYTES : 0;
  let size = 2 * (FRAME_HEADER_BYTES + TAG_BYTES) + idBytes;
  if (base !== undefined) size += FRAME_HEADER_BYTES + TAG_BYTES + BLOCK_BYTES;
  for (const { bytes } of records) size += FRAME_HEADER_BYTES + 8 + bytes.byteLength;
  const writer = new FrameWriter(size);
  writer.begin(FRAME.begin, TAG_BYTES + idBytes).tag(page);
  if (dialect === "x1") writer.u32(id);
  if (base !== undefined)
    writer
      .begin(FRAME.push, TAG_BYTES + BLOCK_BYTES)
      .tag(page)
      .copy(base);
  for (const { endLsn, bytes } of records) {
    writer
      .begin(FRAME.apply, 8 + bytes.byteLength)
      .u64(endLsn)
      .copy(bytes);
  }
  writer.begin(FRAME.get, TAG_BYTES).tag(page);
  return writer.bytes;
}

export function encodePing(): Buffer {
  return new FrameWriter(FRAME_HEADER_BYTES).begin(FRAME.ping, 0).bytes;
}

/** What the following requests are about; may be sent again when it changes. */
export function encodeHello(pgMajor: number, hintLsn: boolean): Buffer {
  const writer = new FrameWriter(FRAME_HEADER_BYTES + 5).begin(FRAME.hello, 5);
  return writer
    .u16(X1_PROTOCOL)
    .u16(pgMajor)
    .u8(hintLsn ? 1 : 0).bytes;
}

export function encodePageReply(id: number, page: Uint8Array): Buffer {
  const writer = new FrameWriter(FRAME_HEADER_BYTES + ID_BYTES + BLOCK_BYTES);
  return writer
    .begin(FRAME.page, ID_BYTES + BLOCK_BYTES)
    .u32(id)
    .copy(page).bytes;
}

export function encodeErrorReply(id: number, code: number, message: string): Buffer {
  const text = Buffer.from(message, "utf8");
  const writer = new FrameWriter(FRAME_HEADER_BYTES + ID_BYTES + 2 + text.byteLength);
  return writer
    .begin(FRAME.error, ID_BYTES + 2 + text.byteLength)
    .u32(id)
    .u16(code)
    .copy(text).bytes;
}

export function encodePong(): Buffer {
  return new FrameWriter(FRAME_HEADER_BYTES).begin(FRAME.pong, 0).bytes;
}

export function readTag(payload: Buffer, at: number): PageKey {
  return {
    fork: payload.readUInt8(at),
    spc: payload.readUInt32BE(at + 1),
    db: payload.readUInt32BE(at + 5),
    rel: payload.readUInt32BE(at + 9),
    block: payload.readUInt32BE(at + 13),
  };
}

/** A frame that has arrived whole. */
export interface Frame {
  readonly type: number;
  /** Valid until the next frame is asked for. */
  readonly payload: Buffer;
}

/** Cuts a stream of bytes into frames, however they come. */
export class FrameReader {
  #buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** Bytes that are part of no complete frame yet, or of one that was not asked for. */
  get pendingBytes(): number {
    return this.#end - this.#start;
  }

  push(chunk: Uint8Array): void {
    const pending = this.pendingBytes;
    if (pending === 0 && this.#buffer.byteLength > READER_BUFFER_BYTES_MAX) this.#buffer = Buffer.alloc(0);
    if (this.#buffer.byteLength - this.#end < chunk.byteLength) {
      const needed = pending + chunk.byteLength;
      const next =
        needed <= this.#buffer.byteLength
          ? this.#buffer
          : Buffer.allocUnsafeSlow(Math.max(needed, 2 * pending));
      // Within one buffer this moves what is left to the front.
      next.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = next;
      this.#start = 0;
      this.#end = pending;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.byteLength;
  }

  /**
   * The next frame, or undefined until more bytes come.
   *
   * @throws {RedoError} ERR_REDO_PROTOCOL: a length that no frame has
   */
  next(): Frame | undefined {
    if (this.pendingBytes < FRAME_HEADER_BYTES) return undefined;
    const length = this.#buffer.readUInt32BE(this.#start + 1);
    if (length < LENGTH_BYTES || length > FRAME_BYTES_MAX) {
      throw new RedoError("ERR_REDO_PROTOCOL", undefined, `a frame of ${String(length)} bytes`);
    }
    if (this.pendingBytes < 1 + length) return undefined;
    const type = this.#buffer.readUInt8(this.#start);
    const payload = this.#buffer.subarray(this.#start + FRAME_HEADER_BYTES, this.#start + 1 + length);
    this.#start += 1 + length;
    return { type, payload };
  }

  /** Takes exactly `count` bytes that are no frame; undefined until they are there. */
  take(count: number): Buffer | undefined {
    if (this.pendingBytes < count) return undefined;
    const bytes = this.#buffer.subarray(this.#start, this.#start + count);
    this.#start += count;
    return bytes;
  }
}
