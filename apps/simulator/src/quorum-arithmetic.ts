/**
 * Quorums and terms once more, in the plainest words.
 *
 * The protocol's own arithmetic is under test too: a wrong core must not get the ledger to agree with it, so the ledger
 * uses nothing of it.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { Configuration, TermHistory } from "@millrace/wal-protocol";

/** Whether those for whom `has` holds are a majority of the members and, if there are any, of the new members. */
export function isQuorum(configuration: Configuration, has: (nodeId: bigint) => boolean): boolean {
  return [configuration.members, configuration.newMembers].every((members) => {
    const count = members.filter(({ nodeId }) => has(nodeId)).length;
    return members.length === 0 || count * 2 > members.length;
  });
}

/** The highest of the given positions that a quorum has reached; 0/0 if a quorum has reached none. */
export function quorumEnd(configuration: Configuration, endOf: (nodeId: bigint) => Lsn): Lsn {
  let best = INVALID_LSN;
  for (const { nodeId } of [...configuration.members, ...configuration.newMembers]) {
    const end = endOf(nodeId);
    if (end > best && isQuorum(configuration, (other) => endOf(other) >= end)) best = end;
  }
  return best;
}

/** The last term whose start a log that ends at `flushLsn` has reached. */
export function logTermAt(history: TermHistory, flushLsn: Lsn): bigint {
  return history.reduce((term, entry) => (entry.lsn <= flushLsn ? entry.term : term), 0n);
}

/** The members of a configuration, in an order of their own. */
export function describeConfiguration(configuration: Configuration): string {
  const ids = (members: Configuration["members"]): string =>
    members
      .map(({ nodeId }) => String(nodeId))
      .toSorted()
      .join(",");
  return `${ids(configuration.members)}|${ids(configuration.newMembers)}`;
}
