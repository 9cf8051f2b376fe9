/**
 * A stream of PostgreSQL's WAL that follows its timelines: what lies below a promotion is asked for under the id it was
 * written with, as PostgreSQL has files of that name only.
 *
 * PostgreSQL ends a stream of an old timeline where that was left. The next piece is a stream of its own; whoever reads
 * sees one stream without a seam.
 */
import { addBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { CatchUpStream, WalChunk } from "./catch-up.js";
import { ProposerError } from "./errors.js";
import type { PostgresHistory } from "./postgres-history.js";

/** Opens a stream of one timeline. */
export type OpenOnTimeline = (fromLsn: Lsn, timelineId: number) => Promise<CatchUpStream>;

/** See the header. */
export class TimelineStream implements CatchUpStream {
  readonly #history: PostgresHistory;
  readonly #open: OpenOnTimeline;
  #stream: CatchUpStream;
  #timelineId: number;
  #nextLsn: Lsn;
  #closed = false;

  private constructor(
    history: PostgresHistory,
    open: OpenOnTimeline,
    stream: CatchUpStream,
    timelineId: number,
    fromLsn: Lsn,
  ) {
    this.#history = history;
    this.#open = open;
    this.#stream = stream;
    this.#timelineId = timelineId;
    this.#nextLsn = fromLsn;
  }

  /** Opens the first piece. @throws what `open` throws */
  static async open(history: PostgresHistory, fromLsn: Lsn, open: OpenOnTimeline): Promise<TimelineStream> {
    const { timelineId } = history.at(fromLsn);
    return new TimelineStream(history, open, await open(fromLsn, timelineId), timelineId, fromLsn);
  }

  /** @throws what the pieces throw; ERR_BRIDGE_POSTGRES after `close` */
  async next(): Promise<WalChunk> {
    const endLsn = this.#history.endOf(this.#timelineId);
    if (endLsn !== undefined && this.#nextLsn >= endLsn) await this.#nextTimeline();
    const chunk = await this.#stream.next();
    this.#nextLsn = addBytes(chunk.startLsn, chunk.bytes.byteLength);
    return chunk;
  }

  close(): void {
    this.#closed = true;
    this.#stream.close();
  }

  async #nextTimeline(): Promise<void> {
    this.#stream.close();
    this.#timelineId = this.#history.at(this.#nextLsn).timelineId;
    const stream = await this.#open(this.#nextLsn, this.#timelineId);
    this.#stream = stream;
    if (!this.#closed) return;
    stream.close();
    throw new ProposerError("ERR_BRIDGE_POSTGRES", "the stream was closed between two timelines");
  }
}
