/**
 * Replies of the other side, as pages and errors of the requests that they belong to.
 *
 * In "x1" each reply names its request. In "neon" they come in the order of the requests and are bare pages, so that a byte
 * too many would make every later page a wrong one: what does not look like a page ends the connection.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import { RedoError } from "./errors.js";
import { PAGE_HEADER_BYTES } from "./page.js";
import { FRAME, FrameReader, REPLY_CODE } from "./wire.js";
import type { RedoDialect } from "./wire.js";

/** What a reply is taken by. */
export interface ReplySink {
  /** @param page the receiver's */
  page(id: number, page: Uint8Array): void;
  failure(id: number, error: RedoError): void;
  pong(): void;
}

/** What was asked and not answered, oldest first: a request's number, or a ping. */
type Asked = number | "ping";

const SIZE_AND_VERSION = 0x2004;

export class ReplyReader {
  readonly #dialect: RedoDialect;
  readonly #sink: ReplySink;
  readonly #frames = new FrameReader();
  readonly #asked: Asked[] = [];

  constructor(dialect: RedoDialect, sink: ReplySink) {
    this.#dialect = dialect;
    this.#sink = sink;
  }

  /** Must be told in the order in which requests and pings are sent. */
  expect(asked: Asked): void {
    if (this.#dialect === "neon") this.#asked.push(asked);
  }

  /**
   * @param chunk borrowed for the call
   * @throws {RedoError} ERR_REDO_PROTOCOL: this is no reply; nothing more is to be read
   */
  take(chunk: Uint8Array): void {
    this.#frames.push(chunk);
    if (this.#dialect === "neon") this.#takePages();
    else this.#takeFrames();
  }

  #takeFrames(): void {
    for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) {
      const { type, payload } = frame;
      if (type === FRAME.pong && payload.byteLength === 0) this.#sink.pong();
      else if (type === FRAME.page && payload.byteLength === 4 + BLOCK_BYTES) {
        this.#sink.page(payload.readUInt32BE(0), Uint8Array.from(payload.subarray(4)));
      } else if (type === FRAME.error && payload.byteLength >= 6) {
        const code = payload.readUInt16BE(4);
        const message = payload.toString("utf8", 6);
        if (code === REPLY_CODE.badFrame) throw protocolError(message);
        const isUnsupported = code === REPLY_CODE.unsupported;
        const kind = isUnsupported ? "ERR_REDO_UNSUPPORTED" : "ERR_REDO_INVARIANT";
        this.#sink.failure(payload.readUInt32BE(0), new RedoError(kind, undefined, message));
      } else throw protocolError(`a reply of type ${String(type)} with ${String(payload.byteLength)} bytes`);
    }
  }

  #takePages(): void {
    while (this.#frames.pendingBytes > 0) {
      const [asked] = this.#asked;
      if (asked === undefined) throw protocolError("a page that nobody asked for");
      const page = this.#frames.take(BLOCK_BYTES);
      if (page === undefined) return;
      this.#asked.shift();
      if (!looksLikePage(page)) throw protocolError("a reply that is no page");
      if (asked === "ping") this.#sink.pong();
      else this.#sink.page(asked, Uint8Array.from(page));
    }
  }
}

/** Whether these bytes can be a page: all zeros, or a header whose parts are in order. */
function looksLikePage(page: Buffer): boolean {
  const [lower, upper, special] = [page.readUInt16LE(12), page.readUInt16LE(14), page.readUInt16LE(16)];
  if (page.readUInt16LE(18) === SIZE_AND_VERSION) {
    return lower >= PAGE_HEADER_BYTES && lower <= upper && upper <= special && special <= BLOCK_BYTES;
  }
  return page.readUInt16LE(18) === 0 && upper === 0 && page.every((byte) => byte === 0);
}

function protocolError(problem: string): RedoError {
  return new RedoError("ERR_REDO_PROTOCOL", undefined, problem);
}
