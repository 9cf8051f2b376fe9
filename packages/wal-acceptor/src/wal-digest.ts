/**
 * A digest of a range of WAL, for whoever compares logs without moving them.
 *
 * The range is read in chunks without the timeline's lock, so that writing goes on meanwhile. A log that was cut and
 * written anew in between would give a digest of neither state; such a cut comes with another term or another term
 * history, so these are compared before and after. WAL of the range is held back from removal.
 */
import { createHash } from "node:crypto";
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { AcceptorError } from "./errors.js";
import type { Timeline } from "./timeline.js";

/** Bytes of one read: large enough for the disk, small enough to let other work in between. */
const READ_BYTES: number = 256 * 1024;

/**
 * SHA-256 over the bytes of [fromLsn, untilLsn).
 *
 * @returns 64 lower-case hexadecimal digits
 * @throws {AcceptorError} ERR_ACCEPTOR_RANGE (empty, or not all of it is durable here), _SEGMENT_REMOVED,
 *   _TERM_CHANGED (ask again), _CANCELLED, _IO
 */
export async function digestWal(timeline: Timeline, fromLsn: Lsn, untilLsn: Lsn): Promise<string> {
  const guard = timeline.enter();
  try {
    const { state } = timeline;
    const { term, termHistory } = state;
    if (fromLsn >= untilLsn || untilLsn > state.flushLsn) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_RANGE",
        `no WAL from ${formatLsn(fromLsn)} to ${formatLsn(untilLsn)}, the log ends at ${formatLsn(state.flushLsn)}`,
      );
    }
    const hold = timeline.readers.holds.hold(fromLsn);
    let digest: string;
    try {
      digest = await readAll(timeline, fromLsn, untilLsn);
    } finally {
      hold[Symbol.dispose]();
    }
    if (state.term === term && state.termHistory === termHistory) return digest;
    throw new AcceptorError("ERR_ACCEPTOR_TERM_CHANGED", `term changed from ${term} while WAL was read`);
  } finally {
    guard.release();
  }
}

async function readAll(timeline: Timeline, fromLsn: Lsn, untilLsn: Lsn): Promise<string> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  await using reader = timeline.openReader(fromLsn);
  for (let left = untilLsn - fromLsn; left > 0n;) {
    if (timeline.cancelSignal.aborted) {
      throw new AcceptorError("ERR_ACCEPTOR_CANCELLED", "the timeline is being closed or deleted");
    }
    const wanted = left < BigInt(READ_BYTES) ? buffer.subarray(0, Number(left)) : buffer;
    const count = await reader.read(wanted);
    if (count === 0)
      throw new AcceptorError("ERR_ACCEPTOR_TERM_CHANGED", `WAL was cut at ${formatLsn(reader.lsn)}`);
    hash.update(wanted.subarray(0, count));
    left -= BigInt(count);
  }
  return hash.digest("hex");
}
