/**
 * Which segments nobody needs any more. Pure: positions in, a segment number out.
 *
 * A segment goes only when everything that may still ask for it has moved past it: recovery (the durable commit
 * position), lagging acceptors (the peer horizon), standbys with a place reserved, the archive, and the amount of WAL
 * the operator wants to keep. The segment that holds the resulting horizon stays.
 */
import { INVALID_LSN, minLsn, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** Everything that holds WAL back. */
export interface RemovalPositions {
  readonly segmentBytes: number;
  /** The commit position of the control file, not the one in memory. */
  readonly persistedCommitLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  /** Restart positions of consumers' slots that have not expired. */
  readonly slotLsns: readonly Lsn[];
  /** Positions from which on somebody is reading a range as a whole. */
  readonly heldLsns?: readonly Lsn[];
  /** Archived up to here; absent when nothing is archived. */
  readonly archivedLsn?: Lsn;
  /** Bytes below the commit position that are kept in any case. */
  readonly walKeepBytes: number;
}

/**
 * The last segment that may be removed together with all before it.
 *
 * @returns undefined if none may; what `WalStore.removeUpTo` takes otherwise
 */
export function removableSegment(positions: RemovalPositions): bigint | undefined {
  const { persistedCommitLsn, walKeepBytes, segmentBytes } = positions;
  const keepBytes = BigInt(walKeepBytes);
  const keepFrom = (persistedCommitLsn > keepBytes ? persistedCommitLsn - keepBytes : 0n) as Lsn;
  const horizon = minLsn(
    keepFrom,
    positions.flushLsn,
    positions.peerHorizonLsn,
    ...positions.slotLsns,
    ...(positions.heldLsns ?? []),
    ...(positions.archivedLsn === undefined ? [] : [positions.archivedLsn]),
  );
  if (horizon === INVALID_LSN) return undefined;
  const last = segmentNumber(horizon, segmentBytes) - 1n;
  return last < 0n ? undefined : last;
}
