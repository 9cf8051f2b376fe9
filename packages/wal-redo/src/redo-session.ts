/**
 * The side that replays: frames in, replies out. The same for a worker thread and for a child process.
 *
 * In the dialect "x1" a record that cannot be replayed fails its request and no other; in "neon" it ends the session, as does
 * any frame that is none in both: whoever sent it is not to be trusted with the next one.
 */
import { BLOCK_BYTES, toLsn } from "@millrace/lsn";
import { WalDecodeError, WalRecord } from "@millrace/wal-decoder";
import { redoBlock } from "./apply.js";
import { RedoError } from "./errors.js";
import { Page } from "./page.js";
import type { PageKey } from "./redo-request.js";
import {
  encodeErrorReply,
  encodePageReply,
  encodePong,
  FRAME,
  FrameReader,
  readTag,
  REPLY_CODE,
  TAG_BYTES,
  X1_PROTOCOL,
} from "./wire.js";
import type { Frame, RedoDialect } from "./wire.js";

export interface RedoSessionOptions {
  readonly dialect: RedoDialect;
  /** What is replayed until a hello says otherwise. */
  readonly pgMajor: number;
  readonly hintLsn: boolean;
  /** Takes a reply, which is the receiver's. */
  readonly reply: (bytes: Buffer) => void;
}

/** The request at hand. */
interface Request {
  readonly id: number;
  readonly page: PageKey;
  /** Why it cannot be answered with a page; the rest of its frames are passed over. */
  failure: { readonly code: number; readonly message: string } | undefined;
}

export class RedoSession {
  readonly #dialect: RedoDialect;
  readonly #reply: (bytes: Buffer) => void;
  readonly #frames = new FrameReader();
  readonly #page = new Page(new Uint8Array(BLOCK_BYTES));
  #record: WalRecord;
  #environment: { readonly hintLsn: boolean };
  #request: Request | undefined;

  constructor(options: RedoSessionOptions) {
    this.#dialect = options.dialect;
    this.#reply = options.reply;
    this.#record = new WalRecord(options.pgMajor);
    this.#environment = { hintLsn: options.hintLsn };
  }

  /** Whether a request has begun that has not been asked for. */
  get isMidRequest(): boolean {
    return this.#request !== undefined || this.#frames.pendingBytes > 0;
  }

  /**
   * Takes bytes, cut anywhere, and answers every request that is complete.
   *
   * @param chunk borrowed for the call
   * @throws {RedoError} ERR_REDO_PROTOCOL in both dialects, and in "neon" whatever a record fails with; the session is over
   */
  feed(chunk: Uint8Array): void {
    this.#frames.push(chunk);
    for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) this.#take(frame);
  }

  #take({ type, payload }: Frame): void {
    switch (type) {
      case FRAME.hello:
        this.#hello(payload);
        break;
      case FRAME.begin:
        this.#begin(payload);
        break;
      case FRAME.push:
        this.#push(payload);
        break;
      case FRAME.apply:
        this.#apply(payload);
        break;
      case FRAME.get:
        this.#get(payload);
        break;
      case FRAME.ping:
        expectLength(payload, 0);
        this.#reply(this.#dialect === "x1" ? encodePong() : Buffer.alloc(BLOCK_BYTES));
        break;
      default:
        throw protocolError(`a frame of type ${String(type)}`);
    }
  }

  #hello(payload: Buffer): void {
    if (this.#dialect !== "x1") throw protocolError("a hello in the dialect neon");
    expectLength(payload, 5);
    const protocol = payload.readUInt16BE(0);
    if (protocol !== X1_PROTOCOL) throw protocolError(`protocol ${String(protocol)}`);
    const pgMajor = payload.readUInt16BE(2);
    if (pgMajor !== this.#record.pgMajor) this.#record = new WalRecord(pgMajor);
    this.#environment = { hintLsn: payload.readUInt8(4) !== 0 };
  }

  #begin(payload: Buffer): void {
    if (this.#request !== undefined) throw protocolError("a request begins within another one");
    const numbered = this.#dialect === "x1";
    expectLength(payload, TAG_BYTES + (numbered ? 4 : 0));
    const id = numbered ? payload.readUInt32BE(TAG_BYTES) : 0;
    this.#request = { id, page: readTag(payload, 0), failure: undefined };
    this.#page.bytes.fill(0);
  }

  #push(payload: Buffer): void {
    expectLength(payload, TAG_BYTES + BLOCK_BYTES);
    this.#current(payload);
    this.#page.bytes.set(payload.subarray(TAG_BYTES));
  }

  #apply(payload: Buffer): void {
    const request = this.#request;
    if (request === undefined) throw protocolError("a record outside of a request");
    if (payload.byteLength < 12 || payload.readUInt32LE(8) !== payload.byteLength - 8) {
      throw protocolError("a record of another length than it says");
    }
    if (request.failure !== undefined) return;
    const endLsn = toLsn(payload.readBigUInt64BE(0));
    try {
      // Where the record begins is not told, and matters for messages only.
      const record = this.#record.decodeBytes(payload.subarray(8), { startLsn: endLsn, endLsn });
      for (const ref of record.refs) {
        if (isSame(ref, ref.fork, request.page)) redoBlock(record, ref, this.#page, this.#environment);
      }
    } catch (error) {
      if (!(error instanceof RedoError || error instanceof WalDecodeError) || this.#dialect !== "x1")
        throw error;
      const isUnsupported = error.code === "ERR_REDO_UNSUPPORTED" || error.code === "ERR_WAL_COMPRESSION";
      const code = isUnsupported ? REPLY_CODE.unsupported : REPLY_CODE.invariant;
      request.failure = { code, message: error.message };
    }
  }

  #get(payload: Buffer): void {
    expectLength(payload, TAG_BYTES);
    const { id, failure } = this.#current(payload);
    this.#request = undefined;
    if (this.#dialect === "neon") this.#reply(Buffer.from(this.#page.bytes));
    else if (failure === undefined) this.#reply(encodePageReply(id, this.#page.bytes));
    else this.#reply(encodeErrorReply(id, failure.code, failure.message));
  }

  /** The request at hand, which must be about the page that the frame names. */
  #current(payload: Buffer): Request {
    const request = this.#request;
    if (request === undefined) throw protocolError("a page outside of a request");
    const tag = readTag(payload, 0);
    if (!isSame(tag, tag.fork, request.page)) throw protocolError("another page than the request began with");
    return request;
  }
}

function isSame(place: Omit<PageKey, "fork">, fork: number, page: PageKey): boolean {
  return (
    place.block === page.block &&
    place.rel === page.rel &&
    fork === page.fork &&
    place.db === page.db &&
    place.spc === page.spc
  );
}

function expectLength(payload: Buffer, bytes: number): void {
  if (payload.byteLength !== bytes) throw protocolError(`a frame of ${String(payload.byteLength)} bytes`);
}

function protocolError(problem: string): RedoError {
  return new RedoError("ERR_REDO_PROTOCOL", undefined, problem);
}
