/**
 * What acceptors acknowledge, and what follows from it: the commit position, the truncate position, the end of a
 * synchronisation, and the feedback that is passed on.
 *
 * Only answers in our own term and generation get as far as the ledger. A position that goes back, or that is ahead
 * of everything that was sent, cannot be true and counts for nothing.
 */
import { formatLsn, INVALID_LSN } from "@millrace/lsn";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { AppendResponse, HotStandbyFeedback } from "@millrace/wal-protocol";
import type { AcceptorProgress } from "./acceptor-progress.js";
import { forgetAcknowledged } from "./commit-position.js";
import { mergeHotStandby, PageserverMerge, sameHotStandby } from "./feedback-merge.js";
import type { TermState } from "./term-state.js";

/** Decides the commit and truncate positions of the term it is made for. */
export class Acknowledgements {
  readonly #shared: TermState;
  readonly #pageservers = new PageserverMerge();
  #hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;

  constructor(shared: TermState) {
    this.#shared = shared;
  }

  onAppendResponse(acceptor: AcceptorProgress, response: AppendResponse): void {
    if (!this.#shared.checkGeneration(acceptor, response.generation)) return;
    if (response.term > this.#shared.term) {
      this.#shared.onHigherTerm(acceptor, response.term);
      return;
    }
    if (response.term < this.#shared.term) {
      this.#shared.disconnect(acceptor, "stale_term", `append-response of term ${String(response.term)}`);
      return;
    }
    if (!this.#acknowledge(acceptor, response)) return;
    if (!sameHotStandby(response.hotStandby, acceptor.hotStandby)) {
      acceptor.hotStandby = response.hotStandby;
      this.#shared.standbysChanged = true;
    }
    if (response.pageserver !== undefined) {
      const feedback = this.#pageservers.add(response.pageserver);
      if (feedback !== undefined) this.#shared.emit({ type: "pageserver", feedback });
    }
  }

  /** Enters an acknowledgement and what follows from it; false if it cannot be true. */
  #acknowledge(acceptor: AcceptorProgress, { flushLsn, commitLsn }: AppendResponse): boolean {
    const record = this.#shared.recordOf(acceptor);
    if (flushLsn < record.flushLsn) {
      const detail = `${formatLsn(flushLsn)} after acknowledging ${formatLsn(record.flushLsn)}`;
      forgetAcknowledged(record);
      return this.#shared.refuse(acceptor, "lost_wal", detail);
    }
    if (flushLsn > this.#highestPossibleFlush(acceptor)) {
      const detail = `${formatLsn(flushLsn)} acknowledged, ${formatLsn(acceptor.streamingLsn ?? INVALID_LSN)} sent`;
      return this.#shared.refuse(acceptor, "impossible_position", detail);
    }
    record.commitLsn = commitLsn;
    if (flushLsn !== record.flushLsn) {
      record.flushLsn = flushLsn;
      this.#advanceCommit();
      this.#advanceTruncate();
    }
    return true;
  }

  /**
   * An acceptor never has more than it was sent, with one exception: the record that switches to the next segment is
   * complete before the zeros behind it have come, and ends where that segment begins.
   */
  #highestPossibleFlush(acceptor: AcceptorProgress): bigint {
    const segmentBytes = BigInt(this.#shared.options.segmentBytes);
    const sentLsn = acceptor.streamingLsn ?? INVALID_LSN;
    return ((sentLsn + segmentBytes - 1n) / segmentBytes) * segmentBytes;
  }

  #advanceCommit(): void {
    const candidate = this.#shared.ledger.commitCandidate(
      this.#shared.membership.quorum,
      this.#shared.termStartLsn,
    );
    if (candidate <= this.#shared.commitLsn) return;
    this.#shared.commitLsn = candidate;
    this.#shared.emit({ type: "commit", commitLsn: candidate });
    for (const acceptor of this.#shared.acceptors)
      if (acceptor.state === "active") this.#shared.requestHeartbeat(acceptor);
  }

  #advanceTruncate(): void {
    const listed = this.#shared.acceptors.map((acceptor) => this.#shared.membership.keyOf(acceptor));
    const candidate = this.#shared.ledger.slowest(
      this.#shared.membership.quorum,
      listed,
      this.#shared.commitLsn,
    );
    if (candidate <= this.#shared.truncateLsn) return;
    this.#shared.truncateLsn = candidate;
    this.#shared.emit({ type: "truncate", truncateLsn: candidate });
  }

  /** Tells what the standbys behind the streaming acceptors ask for, if that has changed. */
  mergeHotStandby(): void {
    if (!this.#shared.standbysChanged) return;
    this.#shared.standbysChanged = false;
    const streaming = this.#shared.acceptors.filter(({ state }) => state === "active");
    const merged = mergeHotStandby(streaming.map(({ hotStandby }) => hotStandby));
    if (sameHotStandby(merged, this.#hotStandby)) return;
    this.#hotStandby = merged;
    this.#shared.emit({ type: "hot-standby", feedback: merged });
  }

  /** Mode "sync": done when a quorum has persisted our commit and every connected acceptor has been waited for. */
  checkSynced(): void {
    if (this.#shared.options.mode !== "sync" || this.#shared.state !== "elected" || !this.#shared.released)
      return;
    if (this.#shared.commitLsn < this.#shared.termStartLsn) return;
    if (this.#shared.ledger.persistedCommit(this.#shared.membership.quorum) < this.#shared.termStartLsn)
      return;
    for (const acceptor of this.#shared.acceptors) {
      if (acceptor.state === "offline" || acceptor.state === "connecting" || acceptor.state === "closing")
        continue;
      if ((this.#shared.find(acceptor)?.commitLsn ?? INVALID_LSN) < this.#shared.termStartLsn) return;
    }
    // One last word, so that nobody is left with an older commit LSN than the others.
    for (const acceptor of this.#shared.acceptors)
      if (acceptor.state === "active") this.#shared.requestHeartbeat(acceptor);
    this.#shared.finish({ type: "synced", lsn: this.#shared.termStartLsn });
  }
}
