/**
 * Cuts a byte stream into protocol messages: `type, length, body` after the startup, `length, body` before it.
 *
 * What it keeps true: a body is a view of the chunk it arrived in whenever it lies within one; a body that spans
 * chunks is copied once, when it is complete, so the work is linear however the stream was cut. Chunks that continue
 * each other in the same ArrayBuffer (a socket that reads into one slab) count as one chunk. Tiny chunks are
 * gathered, so that a peer sending single bytes cannot make each of them cost an object. The length of a message is
 * checked against its type's limit as soon as its header is here, before any of its body is kept.
 *
 * No object is made per message: `next()` says whether there is one, `type` and `body` are it. Bodies stay valid.
 * The reader does not limit how much is pushed while complete messages lie unread; whoever owns the socket stops
 * reading from it by `bufferedBytes` and `hasFrame`.
 */
import { asBuffer } from "./byte-views.js";
import { protocolError } from "./errors.js";
import type { WireError } from "./errors.js";

/**
 * The largest body, in bytes, that a message of this type may have; a negative number refuses the type. Called once
 * a message, with the type byte.
 */
export type FrameLimit = (type: number) => number;

/** A chunk below this size that cannot be joined to the one before it is copied into a gathering block. */
const SMALL_CHUNK_BYTES = 2048;
/** Size of a gathering block: at most this much is allocated for at least one small chunk. */
const GATHER_BLOCK_BYTES = 8192;
/** Consumed chunks are forgotten at once, but the array that held them is only shortened after this many. */
const COMPACT_AFTER_CHUNKS = 64;

const TYPED_HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
const NO_HEADER = -1;

/** Smallest and largest startup packet, its length word included, as in PostgreSQL's ProcessStartupPacket. */
export const STARTUP_PACKET_BYTES_MIN = 8;
/** See STARTUP_PACKET_BYTES_MIN; PostgreSQL's MAX_STARTUP_PACKET_LENGTH. */
export const STARTUP_PACKET_BYTES_MAX = 10_000;

/** Incremental message reader. One instance serves a connection's whole life, across its untyped and typed phases. */
export class FrameReader {
  readonly #limit: FrameLimit;
  readonly #chunks: (Buffer | undefined)[] = [];
  #head = 0; // index of the chunk being read
  #offset = 0; // bytes of it already consumed
  #bufferedBytes = 0;
  #gatherFree = 0; // bytes of the last chunk's block that may still be written to; 0 if the block is not ours
  #type = 0;
  #bodyBytes = NO_HEADER; // of the message whose header was consumed
  #body: Buffer = Buffer.alloc(0);
  #failure: WireError | undefined;

  constructor(limit: FrameLimit) {
    this.#limit = limit;
  }

  /** Type byte of the message that the last successful `next()` found; 0 for a startup packet. */
  get type(): number {
    return this.#type;
  }

  /** Body of that message, given: it is never written to again and stays valid. */
  get body(): Buffer {
    return this.#body;
  }

  /** Bytes pushed and not consumed. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** True where the stream may end cleanly: between messages. */
  get atBoundary(): boolean {
    return this.#bufferedBytes === 0 && this.#bodyBytes === NO_HEADER;
  }

  /**
   * Appends bytes of the stream.
   *
   * @param chunk given: it must not be written to afterwards, as bodies will be views of it
   */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#bufferedBytes += chunk.length;
    const last = this.#chunks.length - 1;
    const tail = last >= this.#head ? this.#chunks[last] : undefined;
    if (tail === undefined) {
      this.#append(asBuffer(chunk));
      return;
    }
    if (tail.buffer === chunk.buffer && tail.byteOffset + tail.length === chunk.byteOffset) {
      this.#chunks[last] = Buffer.from(tail.buffer, tail.byteOffset, tail.length + chunk.length);
      return;
    }
    if (chunk.length >= SMALL_CHUNK_BYTES) this.#append(asBuffer(chunk));
    else this.#gather(chunk, tail, last);
  }

  /**
   * Moves to the next complete typed message.
   *
   * @returns false if it is not complete yet
   * @throws {WireError} ERR_WIRE_PROTOCOL for a length below 4, above the type's limit, or a refused type. Final.
   */
  next(): boolean {
    if (this.#bodyBytes === NO_HEADER && !this.#readTypedHeader()) return false;
    return this.#takeBody();
  }

  /**
   * Moves to the next complete startup packet: `body` is what follows the length word, at least 4 bytes.
   *
   * @returns false if it is not complete yet
   * @throws {WireError} ERR_WIRE_PROTOCOL for a length outside STARTUP_PACKET_BYTES_MIN..MAX. Final.
   */
  nextStartup(): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#bodyBytes === NO_HEADER) {
      if (this.#bufferedBytes < LENGTH_BYTES) return false;
      const lengthBytes = this.#takeUint32();
      if (lengthBytes < STARTUP_PACKET_BYTES_MIN || lengthBytes > STARTUP_PACKET_BYTES_MAX) {
        throw this.#fail(`startup packet of ${lengthBytes} bytes`);
      }
      this.#type = 0;
      this.#bodyBytes = lengthBytes - LENGTH_BYTES;
    }
    return this.#takeBody();
  }

  /**
   * Whether `next()` would not return false: a message is complete, or its header is wrong. Reads no further than the
   * header of the next message.
   */
  get hasFrame(): boolean {
    if (this.#failure !== undefined) return true;
    if (this.#bodyBytes === NO_HEADER) {
      try {
        if (!this.#readTypedHeader()) return false;
      } catch {
        return true; // kept in #failure for whoever reads
      }
    }
    return this.#bufferedBytes >= this.#bodyBytes;
  }

  /** The next byte without consuming it; undefined if there is none, or inside a message. */
  peekByte(): number | undefined {
    const none = this.#bufferedBytes === 0 || this.#bodyBytes !== NO_HEADER;
    return none ? undefined : this.#chunks[this.#head]?.[this.#offset];
  }

  /** Consumes one byte that is no message: the answer to an SSLRequest. Undefined if there is none. */
  takeByte(): number | undefined {
    return this.#bufferedBytes === 0 ? undefined : this.#takeUint8();
  }

  /** Takes all bytes that were not consumed: for handing a stream over to TLS. Only between messages. */
  takeRest(): Buffer {
    return this.#take(this.#bufferedBytes);
  }

  #append(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#gatherFree = 0;
  }

  #gather(chunk: Uint8Array, tail: Buffer, last: number): void {
    if (this.#gatherFree >= chunk.length) {
      const block = Buffer.from(tail.buffer, tail.byteOffset, tail.length + chunk.length);
      block.set(chunk, tail.length);
      this.#chunks[last] = block;
      this.#gatherFree -= chunk.length;
      return;
    }
    const block = Buffer.allocUnsafeSlow(GATHER_BLOCK_BYTES);
    block.set(chunk);
    this.#append(block.subarray(0, chunk.length));
    this.#gatherFree = GATHER_BLOCK_BYTES - chunk.length;
  }

  #readTypedHeader(): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#bufferedBytes < TYPED_HEADER_BYTES) return false;
    const type = this.#takeUint8();
    const lengthBytes = this.#takeUint32();
    const limitBytes = this.#limit(type);
    if (limitBytes < 0) throw this.#fail(`unexpected message type ${typeText(type)}`);
    if (lengthBytes < LENGTH_BYTES) throw this.#fail(`message ${typeText(type)} of length ${lengthBytes}`);
    if (lengthBytes - LENGTH_BYTES > limitBytes) {
      throw this.#fail(
        `message ${typeText(type)} of length ${lengthBytes} exceeds ${limitBytes + LENGTH_BYTES}`,
      );
    }
    this.#type = type;
    this.#bodyBytes = lengthBytes - LENGTH_BYTES;
    return true;
  }

  #takeBody(): boolean {
    if (this.#bufferedBytes < this.#bodyBytes) return false;
    this.#body = this.#take(this.#bodyBytes);
    this.#bodyBytes = NO_HEADER;
    return true;
  }

  /** Consumes `countBytes`, which are here: a view if they lie in one chunk, otherwise a copy. */
  #take(countBytes: number): Buffer {
    const chunk = this.#chunks[this.#head];
    if (countBytes === 0 || chunk === undefined) return EMPTY;
    const offset = this.#offset;
    if (chunk.length - offset >= countBytes) {
      this.#consume(chunk, countBytes);
      return countBytes === chunk.length ? chunk : chunk.subarray(offset, offset + countBytes);
    }
    const target = Buffer.allocUnsafeSlow(countBytes);
    for (let filled = 0; filled < countBytes;) {
      const source = this.#chunks[this.#head];
      if (source === undefined) break; // impossible: #bufferedBytes counts the chunks
      const here = Math.min(countBytes - filled, source.length - this.#offset);
      source.copy(target, filled, this.#offset, this.#offset + here);
      filled += here;
      this.#consume(source, here);
    }
    return target;
  }

  #takeUint8(): number {
    const chunk = this.#chunks[this.#head];
    const value = chunk?.[this.#offset];
    if (chunk === undefined || value === undefined) return 0; // impossible: callers checked #bufferedBytes
    this.#consume(chunk, 1);
    return value;
  }

  #takeUint32(): number {
    const chunk = this.#chunks[this.#head];
    if (chunk !== undefined && chunk.length - this.#offset >= LENGTH_BYTES) {
      const value = chunk.readUInt32BE(this.#offset);
      this.#consume(chunk, LENGTH_BYTES);
      return value;
    }
    let value = 0;
    for (let index = 0; index < LENGTH_BYTES; index++) value = value * 256 + this.#takeUint8();
    return value;
  }

  #consume(chunk: Buffer, countBytes: number): void {
    this.#bufferedBytes -= countBytes;
    this.#offset += countBytes;
    if (this.#offset < chunk.length) return;
    this.#chunks[this.#head] = undefined; // let go of it now: the views handed out decide how long it lives
    this.#head += 1;
    this.#offset = 0;
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0;
      this.#head = 0;
      this.#gatherFree = 0;
    } else if (this.#head >= COMPACT_AFTER_CHUNKS && this.#head * 2 >= this.#chunks.length) {
      this.#chunks.splice(0, this.#head);
      this.#head = 0;
    }
  }

  #fail(message: string): WireError {
    this.#failure = protocolError(message);
    return this.#failure;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);

function typeText(type: number): string {
  return type > 0x20 && type < 0x7f
    ? `'${String.fromCharCode(type)}'`
    : `0x${type.toString(16).padStart(2, "0")}`;
}
