/**
 * How far a quorum has been sent WAL: what decides whether reading from the database may go on. Pure.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { majority, quorumLsn } from "@millrace/wal-protocol";
import type { Configuration } from "@millrace/wal-protocol";

/** The position that a majority has reached, of the members of the configuration or, without one, of the list. */
export function quorumCursor(
  configuration: Configuration | undefined,
  cursors: readonly { readonly nodeId: bigint | undefined; readonly lsn: Lsn }[],
): Lsn {
  if (configuration !== undefined) {
    const cursorOf = (nodeId: bigint): Lsn =>
      cursors.find((cursor) => cursor.nodeId === nodeId)?.lsn ?? INVALID_LSN;
    return quorumLsn(configuration, cursorOf);
  }
  const lsns = cursors.map(({ lsn }) => lsn).toSorted((a, b) => (a < b ? 1 : a > b ? -1 : 0));
  return lsns[majority(lsns.length) - 1] ?? INVALID_LSN;
}
