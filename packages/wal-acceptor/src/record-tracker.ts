/**
 * Finds record ends in the WAL as it is written: the decoder with the errors and the life cycle of a store.
 *
 * The decoder is made when the first byte comes, because the timeline may not know its PostgreSQL version earlier.
 * It runs over the bytes in the order in which they are written and never looks at the disk.
 */
import { BLOCK_BYTES, blockOffset, INVALID_LSN, segmentNumber, segmentStart } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { RECORD_HEADER_BYTES, SHORT_HEADER_BYTES, WalDecodeError, WalDecoder } from "@millrace/wal-decoder";
import { AcceptorError } from "./errors.js";
import type { ServerInfo } from "./persistent-state.js";

/** Padding behind a record is at most this long; a longer way to its end is the rest of a switched-off segment. */
const PADDING_BYTES_MAX = 7n;

/** A segment that PostgreSQL left before its end. */
export interface SegmentSwitch {
  /** Start of the next segment: where the switch record ends as far as positions are concerned. */
  readonly boundaryLsn: Lsn;
  /** End of the switch record's bytes: zeros follow up to the boundary. */
  readonly dataEndLsn: Lsn;
}

/** Where the bytes of a switch record end: it is a bare record header, torn at most by one page's end. */
export function switchDataEnd(recordLsn: Lsn): Lsn {
  const torn = blockOffset(recordLsn) + RECORD_HEADER_BYTES > BLOCK_BYTES;
  return (recordLsn + BigInt(RECORD_HEADER_BYTES + (torn ? SHORT_HEADER_BYTES : 0))) as Lsn;
}

/** Turns what a decoder threw into this package's error; other errors come back as they are. */
export function walError(error: unknown): unknown {
  if (!(error instanceof WalDecodeError)) return error;
  const code = error.code === "ERR_WAL_VERSION" ? "ERR_ACCEPTOR_PG_VERSION" : "ERR_ACCEPTOR_WAL_INVALID";
  return new AcceptorError(code, error.message, { cause: error });
}

/** What decoders of this server's WAL are made with. */
export function decoderSettings(server: ServerInfo): {
  pgMajor: number;
  segmentBytes: number;
  systemId?: bigint;
} {
  const pgMajor = Math.floor(server.pgVersion / 10_000);
  const { segmentBytes, systemId } = server;
  return systemId === 0n ? { pgMajor, segmentBytes } : { pgMajor, segmentBytes, systemId };
}

/** Decoder of what a store writes. */
export class RecordTracker {
  readonly #server: () => ServerInfo;
  #decoder: WalDecoder | undefined;
  #startLsn: Lsn = INVALID_LSN;

  constructor(server: () => ServerInfo) {
    this.#server = server;
  }

  /** The next byte comes at `lsn`, which is where a record or a page begins. */
  reset(lsn: Lsn): void {
    this.#startLsn = lsn;
    this.#decoder = undefined;
  }

  /** End of the last whole record. */
  get recordEndLsn(): Lsn {
    return this.#decoder?.recordEndLsn ?? this.#startLsn;
  }

  /** The segment switch that was written last, while the rest of its segment has not arrived. */
  get pendingSwitch(): SegmentSwitch | undefined {
    const decoder = this.#decoder;
    const recordLsn = decoder?.lastRecordLsn;
    if (decoder === undefined || recordLsn === undefined) return undefined;
    const boundaryLsn = decoder.recordEndLsn;
    if (boundaryLsn - decoder.nextLsn <= PADDING_BYTES_MAX) return undefined;
    return { boundaryLsn, dataEndLsn: switchDataEnd(recordLsn) };
  }

  /**
   * Takes the bytes that follow.
   *
   * @param buffers borrowed for the call
   * @throws {AcceptorError} ERR_ACCEPTOR_WAL_INVALID, ERR_ACCEPTOR_PG_VERSION; reset before going on
   */
  feed(buffers: readonly Uint8Array[]): void {
    try {
      this.#decoder ??= new WalDecoder({ ...decoderSettings(this.#server()), startLsn: this.#startLsn });
      for (const buffer of buffers) this.#decoder.feed(buffer);
    } catch (error) {
      throw walError(error);
    }
  }

  /** Whether a transaction's end became complete since this was last asked. */
  takeTransactionEnd(): boolean {
    return this.#decoder?.takeTransactionEnd() ?? false;
  }
}

/** First position of the segment after the one that holds `lsn`. */
export function segmentEnd(lsn: Lsn, segmentBytes: number): Lsn {
  return segmentStart(segmentNumber(lsn, segmentBytes) + 1n, segmentBytes);
}
