/**
 * The reading side of one timeline: who streams from it, which slots keep WAL for whom, which of PostgreSQL's
 * timelines its WAL belongs to, and what may therefore be removed.
 *
 * It decides nothing about consensus and never takes the timeline's lock: registrations and slots have files of their
 * own. What may be removed is computed here from positions that are durable; the timeline's manager asks, and removes
 * under the lock.
 */
import type { Lsn } from "@millrace/lsn";

import { AsyncMutex } from "./async-mutex.js";
import type { Clock } from "./clock.js";
import { ConsumerSlots } from "./consumer-slots.js";
import type { AcceptorStateView } from "./core-state.js";
import { PgTimelines } from "./pg-timelines.js";
import type { PgTimeline } from "./pg-timelines.js";
import { PG_TIMELINES_RECORD } from "./timeline-records.js";
import type { TimelineRecords } from "./timeline-records.js";
import { WalHolds } from "./wal-holds.js";
import { removableSegment } from "./wal-removal.js";
import { WalSenderRegistry } from "./walsender-registry.js";
import { Watch } from "./watch.js";

/** WAL below the commit position that is kept in any case, unless configured otherwise: four segments of 16 MiB. */
export const WAL_KEEP_BYTES_DEFAULT: number = 64 * 1024 * 1024;

/** What the operator may set about readers. */
export interface ReaderSettings {
  /** Bytes below the commit position that are kept in any case; default 64 MiB. */
  readonly walKeepBytes?: number | undefined;
  /** Milliseconds after which an unused slot is dropped; default seven days. */
  readonly slotTtlMs?: number | undefined;
}

/** What the reading side is opened with. */
export interface TimelineReadersOptions {
  readonly records: TimelineRecords;
  readonly clock: Clock;
  readonly settings?: ReaderSettings | undefined;
}

/** The reading side of one timeline. */
export class TimelineReaders {
  readonly senders: WalSenderRegistry = new WalSenderRegistry();
  readonly slots: ConsumerSlots;
  readonly holds: WalHolds = new WalHolds();
  /** PostgreSQL's timelines; a new value with every registration. */
  readonly pgTimelines: Watch<PgTimelines>;
  /** Bytes of WAL handed to readers' sockets since the timeline was opened. */
  sentBytes = 0;
  /** Segments removed since the timeline was opened. */
  removedSegments = 0;
  readonly #records: TimelineRecords;
  readonly #walKeepBytes: number;
  readonly #mutex = new AsyncMutex();

  private constructor(options: TimelineReadersOptions, slots: ConsumerSlots, pgTimelines: PgTimelines) {
    this.#records = options.records;
    this.#walKeepBytes = options.settings?.walKeepBytes ?? WAL_KEEP_BYTES_DEFAULT;
    this.slots = slots;
    this.pgTimelines = new Watch(pgTimelines);
  }

  /**
   * Reads what was kept.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_RECORDS_CORRUPT, ERR_ACCEPTOR_IO
   */
  static async open(options: TimelineReadersOptions): Promise<TimelineReaders> {
    const { records, clock, settings } = options;
    const slots = await ConsumerSlots.open({ records, clock, ttlMs: settings?.slotTtlMs });
    const bytes = await records.read(PG_TIMELINES_RECORD);
    return new TimelineReaders(
      options,
      slots,
      bytes === undefined ? new PgTimelines() : PgTimelines.parse(bytes),
    );
  }

  /**
   * Registers one of PostgreSQL's timelines, durably; repeating it changes nothing. Streams on its parent end where it
   * begins.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_PG_TIMELINE_REFUSED, _PG_TIMELINE_CONFLICT; ERR_ACCEPTOR_NO_SPACE, _IO
   */
  registerPgTimeline(timeline: PgTimeline): Promise<PgTimelines> {
    return this.#mutex.run(async () => {
      const next = this.pgTimelines.value.with(timeline);
      if (next !== this.pgTimelines.value) {
        await this.#records.write(PG_TIMELINES_RECORD, next.serialize());
        this.pgTimelines.set(next);
      }
      return next;
    });
  }

  /**
   * Lets slots expire and saves positions that would let WAL go; before asking what is removable.
   *
   * @returns names of the slots that were dropped
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO
   */
  async tidySlots(segmentBytes: number): Promise<readonly string[]> {
    const expired = await this.slots.expire();
    if (this.slots.movedBy(BigInt(segmentBytes))) await this.slots.save();
    return expired;
  }

  /** The last segment that nobody needs, together with all before it; see `removableSegment`. */
  removable(state: AcceptorStateView): bigint | undefined {
    const { persistedCommitLsn, flushLsn, peerHorizonLsn } = state;
    return removableSegment({
      segmentBytes: state.server.segmentBytes,
      persistedCommitLsn,
      flushLsn,
      peerHorizonLsn,
      slotLsns: this.slots.horizons(),
      heldLsns: this.holds.horizons(),
      walKeepBytes: this.#walKeepBytes,
    });
  }

  /** The newest of PostgreSQL's timelines that has begun at `commitLsn`. */
  pgTimelineAt(commitLsn: Lsn): PgTimeline {
    return this.pgTimelines.value.at(commitLsn);
  }

  /** Ends every wait. */
  close(): void {
    this.pgTimelines.close();
    this.senders.changes.close();
  }
}
