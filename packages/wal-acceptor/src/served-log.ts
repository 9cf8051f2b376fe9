/**
 * Keeps one reader in term mode on one log.
 *
 * An acceptor is in a term from its vote on, but its log is brought in line with the winner's only when it is told of
 * the election. A reader that asks in that term may come in between and be given a tail that is cut right afterwards;
 * going on behind the cut would give it two logs in one stream, and a read under way may even bring bytes of both. The
 * term alone does not show that. The histories do: as far as they agree below a position, so do the bytes.
 */
import type { Lsn } from "@millrace/lsn";
import type { TermHistory } from "@millrace/wal-protocol";

/** What one stream has been served from. */
export class ServedLog {
  #history: TermHistory;

  /** @param history of the log at the beginning of the stream */
  constructor(history: TermHistory) {
    this.#history = history;
  }

  /**
   * Whether the log still is the one that was served so far, up to `untilLsn`. Once false, the stream has to end.
   *
   * @param log as it is now; its history is changed only by replacing it
   */
  goesOn(log: { readonly termHistory: TermHistory; readonly flushLsn: Lsn }, untilLsn: Lsn): boolean {
    // A cut shows first in the position, then in the history.
    if (log.flushLsn < untilLsn) return false;
    if (log.termHistory === this.#history) return true;
    if (!agreeBelow(this.#history, log.termHistory, untilLsn)) return false;
    this.#history = log.termHistory;
    return true;
  }
}

/** Whether every byte below `lsn` was written in the same term by both histories. */
function agreeBelow(a: TermHistory, b: TermHistory, lsn: Lsn): boolean {
  for (let index = 0; ; index += 1) {
    const [ours, theirs] = [a[index], b[index]];
    const ourEnd = ours === undefined || ours.lsn >= lsn;
    const theirEnd = theirs === undefined || theirs.lsn >= lsn;
    if (ourEnd || theirEnd) return ourEnd && theirEnd;
    if (ours.term !== theirs.term || ours.lsn !== theirs.lsn) return false;
  }
}
