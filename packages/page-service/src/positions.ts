/**
 * As of which position a request is answered, and whether it must wait for it.
 *
 * A compute gives two positions: where it wants to look from, and since when what it asks for has not changed. What lies between
 * them is the same, so that nobody has to wait for the first one as long as the second one is there. These are the rules of
 * Neon's page server (`wait_or_get_last_lsn`).
 */
import { formatLsn, MAX_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PagestreamError } from "./errors.js";
import type { PagestreamHeader } from "./messages.js";

/** What is known of a timeline's positions. */
export interface TimelinePositions {
  /** Everything up to here has been taken in. */
  readonly lastRecordLsn: Lsn;
  /** What was before is not kept, unless a lease covers it. */
  readonly gcCutoffLsn: Lsn;
  /** Whether a lease keeps the state at `lsn`. */
  isLeased(lsn: Lsn): boolean;
}

/** The position that means the latest state. */
export const LATEST_LSN: Lsn = MAX_LSN;

/**
 * The position to wait for before the request can be answered; undefined if it can be now.
 *
 * @throws {PagestreamError} ERR_PAGESTREAM_REQUEST: positions that contradict each other, or that are not kept any more
 */
export function positionToAwait(header: PagestreamHeader, timeline: TimelinePositions): Lsn | undefined {
  const { requestLsn, notModifiedSinceLsn } = header;
  if (requestLsn === 0n || notModifiedSinceLsn > requestLsn) {
    throw new PagestreamError(
      "ERR_PAGESTREAM_REQUEST",
      `request at ${formatLsn(requestLsn)}, not modified since ${formatLsn(notModifiedSinceLsn)}`,
    );
  }
  if (requestLsn < timeline.gcCutoffLsn && !timeline.isLeased(requestLsn)) {
    throw new PagestreamError(
      "ERR_PAGESTREAM_REQUEST",
      `what was at ${formatLsn(requestLsn)} has been garbage collected; kept since ${formatLsn(timeline.gcCutoffLsn)}`,
    );
  }
  return notModifiedSinceLsn > timeline.lastRecordLsn ? notModifiedSinceLsn : undefined;
}

/** The position as of which a request is answered, when it does not have to wait any more. */
export function effectiveLsn(header: PagestreamHeader, timeline: TimelinePositions): Lsn {
  const { requestLsn, notModifiedSinceLsn } = header;
  const { lastRecordLsn } = timeline;
  const reached = requestLsn < lastRecordLsn ? requestLsn : lastRecordLsn;
  return notModifiedSinceLsn > reached ? notModifiedSinceLsn : reached;
}
