/**
 * Watches that what comes from PostgreSQL is WAL: of this cluster and its timelines, whole, with right checksums, each
 * record naming the one before as its predecessor.
 *
 * One decoder follows the log through a whole term. It may have begun below the term's start, at the divergence
 * check, and goes on when the stream begins again at an earlier position; what it has seen already is passed over.
 * So the chain of records is never interrupted where a connection was. It never delays sending, and it ends the
 * bridge if it disagrees.
 */
import type { Lsn } from "@millrace/lsn";
import { distanceBytes, formatLsn, minLsn } from "@millrace/lsn";
import { WalDecodeError, WalDecoder } from "@millrace/wal-decoder";
import type { WalStartMode } from "@millrace/wal-decoder";
import { ProposerError } from "./errors.js";
import type { PostgresIdentity } from "./postgres-connection.js";

/** One for each term. */
export class StreamDecoder {
  readonly #decoder: WalDecoder;
  #skipBytes = 0;

  /**
   * @param timelines those of PostgreSQL's history; the decoder sees to it that they only rise
   * @param start "record" if one begins at `startLsn`; "anywhere" if that is a page's start with one under way
   */
  constructor(
    identity: Pick<PostgresIdentity, "major" | "segmentBytes" | "systemId">,
    timelines: ReadonlySet<number>,
    startLsn: Lsn,
    start: WalStartMode,
  ) {
    this.#decoder = new WalDecoder({
      startLsn,
      pgMajor: identity.major,
      segmentBytes: identity.segmentBytes,
      systemId: identity.systemId,
      timelines,
      start,
    });
  }

  /** Where the next byte that has not been seen belongs. */
  get nextLsn(): Lsn {
    return this.#decoder.nextLsn;
  }

  /** End of the last whole record; may be ahead of the bytes by padding or by the rest of a segment. */
  get recordEndLsn(): Lsn {
    return this.#decoder.recordEndLsn;
  }

  /** The last position at or below `nextLsn` where a record may begin. */
  get boundaryLsn(): Lsn {
    return minLsn(this.#decoder.recordEndLsn, this.#decoder.nextLsn);
  }

  /** Start of the last whole record, if one was seen. */
  get lastRecordLsn(): Lsn | undefined {
    return this.#decoder.lastRecordLsn;
  }

  /** The bytes fed next begin at `lsn`, which is not beyond `nextLsn`: what was seen already is passed over. */
  resumeAt(lsn: Lsn): void {
    const skipBytes = distanceBytes(lsn, this.#decoder.nextLsn);
    if (skipBytes < 0n) {
      throw new RangeError(`${formatLsn(lsn)} leaves a gap behind ${formatLsn(this.#decoder.nextLsn)}`);
    }
    this.#skipBytes = Number(skipBytes);
  }

  /**
   * Takes the bytes that follow.
   *
   * @param bytes borrowed for the call
   * @throws {ProposerError} ERR_BRIDGE_WAL_INVALID
   */
  feed(bytes: Uint8Array): void {
    const skipped = Math.min(this.#skipBytes, bytes.byteLength);
    this.#skipBytes -= skipped;
    try {
      this.#decoder.feed(skipped === 0 ? bytes : bytes.subarray(skipped));
    } catch (error) {
      if (!(error instanceof WalDecodeError)) throw error;
      const message = `PostgreSQL's stream is not valid WAL: ${error.message}`;
      throw new ProposerError("ERR_BRIDGE_WAL_INVALID", message, { cause: error });
    }
  }
}
