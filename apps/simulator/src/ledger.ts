/**
 * The omniscient ledger: what every node promised and what every node did, compared byte by byte.
 *
 * It sees each message when it is sent, each write when a store gets it, and each recovery. What follows from them is
 * decided in parts of its own: who was elected (elections.ts), what is committed (committed-log.ts), what a store has
 * (stored-logs.ts), what a reader may get (reader-checks.ts). Here are the checks that compare what somebody says with
 * all of that. The cores' own opinions (a proposer's commit, an acceptor's commit position) are never believed.
 *
 * Each check has the name of an invariant, I1 to I13; the first violation ends the run. The invariants are those of
 * Neon's TLA+ models of the protocol, extended by what the models leave out: disks, restarts and readers.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AcceptorStateView, PersistentState } from "@millrace/wal-acceptor";
import type { AppendResponse, TermHistory, VoteResponse } from "@millrace/wal-protocol";
import { CommittedLog } from "./committed-log.js";
import type { Coverage } from "./coverage.js";
import { Elections } from "./elections.js";
import type { ElectedTerm } from "./elections.js";
import { isQuorum, logTermAt } from "./quorum-arithmetic.js";
import { ReaderChecks } from "./reader-checks.js";
import { StoredLogs } from "./stored-logs.js";
import type { NodeRecord } from "./stored-logs.js";
import { show, Verdict } from "./verdict.js";
import type { Invariant, Violation } from "./verdict.js";
import type { WalLog } from "./wal-log.js";

/** See the head of this file. One for each run. */
export class Ledger {
  /** What the acceptors' stores were told. */
  readonly logs: StoredLogs;
  readonly elections: Elections;
  /** What readers may be given. */
  readonly readers: ReaderChecks;
  readonly #verdict: Verdict;
  readonly #startLsn: Lsn;
  readonly #coverage: Coverage;
  readonly #committed: CommittedLog;

  constructor(options: { nowMs: () => number; startLsn: Lsn; coverage: Coverage }) {
    const { startLsn, coverage } = options;
    const verdict = new Verdict(options.nowMs);
    const elections = new Elections(verdict);
    const termStart = (term: bigint): Lsn | undefined => elections.find(term)?.termStartLsn;
    const logs = new StoredLogs({ verdict, coverage, startLsn, termStart });
    this.#verdict = verdict;
    this.#startLsn = startLsn;
    this.#coverage = coverage;
    this.elections = elections;
    this.logs = logs;
    this.#committed = new CommittedLog({ verdict, coverage, startLsn, elections, logs });
    this.readers = new ReaderChecks(verdict, this.#committed, logs);
  }

  get violation(): Violation | undefined {
    return this.#verdict.violation;
  }

  /** End of what is committed. */
  get commitLsn(): Lsn {
    return this.#committed.endLsn;
  }

  /** Records a violation; only the first counts. */
  violate(invariant: Invariant, detail: string): void {
    this.#verdict.violate(invariant, detail);
  }

  check(holds: boolean, invariant: Invariant, detail: () => string): void {
    this.#verdict.check(holds, invariant, detail);
  }

  /** A control file is about to be replaced. */
  onPersist(nodeId: bigint, from: PersistentState, to: PersistentState): void {
    const node = this.logs.get(nodeId);
    this.check(to.term >= from.term, "I4 DurableVote", () => {
      return `${node.name} goes back from term ${String(from.term)} to ${String(to.term)}`;
    });
    this.check(to.commitLsn >= from.commitLsn, "I7 CommitWithinLog", () => {
      return `${node.name} persists commit ${show(to.commitLsn)} after ${show(from.commitLsn)}`;
    });
    this.check(to.configuration.generation >= from.configuration.generation, "I12 Membership", () => {
      return `${node.name} goes back to generation ${String(to.configuration.generation)}`;
    });
    this.elections.onConfiguration(to.configuration);
    if (to.termHistory === from.termHistory) return;
    this.#checkHistory(node, to.termHistory);
    // A later leader that knows nothing of that term takes what was acknowledged in it for part of an earlier one.
    const last = to.termHistory.at(-1)?.term ?? 0n;
    this.check(last >= node.ackedTerm, "I10 VoteCoversAcks", () => {
      return `${node.name} takes over a history up to term ${String(last)} after acknowledging in ${String(node.ackedTerm)}`;
    });
    if (!to.termHistory.some(({ term }) => term === node.ackedTerm)) node.ackedTerm = 0n;
  }

  /** A control file was replaced; only now does a restart find it. */
  onPersisted(nodeId: bigint, state: PersistentState): void {
    this.logs.get(nodeId).persistedCommitLsn = state.commitLsn;
  }

  // Terms rise along a log, and a term begins at one place everywhere.
  #checkHistory(node: NodeRecord, history: TermHistory): void {
    let previous: TermHistory[number] | undefined;
    for (const entry of history) {
      const isOrdered = previous === undefined || (entry.term > previous.term && entry.lsn >= previous.lsn);
      this.check(isOrdered, "I6 LogMatching", () => `${node.name} has an unordered term history`);
      const elected = this.elections.find(entry.term);
      this.check(
        entry.term === 0n || elected?.termStartLsn === entry.lsn,
        "I6 LogMatching",
        () =>
          `${node.name} has term ${String(entry.term)} start at ${show(entry.lsn)}, it was won at ${show(elected?.termStartLsn)}`,
      );
      previous = entry;
    }
  }

  /** A process has opened its stores again and found this; `bytes` is what is on its disk. */
  onRecovered(nodeId: bigint, state: AcceptorStateView, bytes: Uint8Array): void {
    const node = this.logs.get(nodeId);
    const { flushLsn } = state;
    this.check(state.term >= node.shownTerm, "I4 DurableVote", () => {
      return `${node.name} restarts in term ${String(state.term)} after showing ${String(node.shownTerm)}`;
    });
    this.check(flushLsn >= node.ackedLsn, "I3 DurableAcknowledgement", () => {
      return `${node.name} restarts with WAL up to ${show(flushLsn)} after acknowledging ${show(node.ackedLsn)}`;
    });
    if (flushLsn > node.shadow.endLsn) node.shadow.setEnd(flushLsn); // the rest of a switched segment
    const expected = node.shadow.view(this.#startLsn, flushLsn);
    this.#verdict.compare(bytes, expected, this.#startLsn, "I3 DurableAcknowledgement", (at) => {
      return `${node.name} restarts with other bytes at ${at} than it was given`;
    });
    if (flushLsn !== INVALID_LSN) node.shadow.setEnd(flushLsn);
    this.#checkLabels(node, state.effectiveHistory, flushLsn);
    node.nextWriteLsn = undefined;
    node.commitLsn = state.commitLsn;
    node.persistedCommitLsn = state.commitLsn;
    if (flushLsn < node.verifiedLsn) node.verifiedLsn = flushLsn;
    if (flushLsn < node.matchedLsn) node.matchedLsn = flushLsn;
  }

  // What a history ascribes to a term is what the leader of that term wrote there.
  #checkLabels(node: NodeRecord, history: TermHistory, flushLsn: Lsn): void {
    history.forEach(({ term, lsn }, index) => {
      const log = this.elections.find(term)?.log;
      const end = minimum(history[index + 1]?.lsn ?? flushLsn, flushLsn);
      if (log === undefined || end <= lsn) return;
      const mine = node.shadow.view(lsn, end);
      const leaders = log.view(lsn, end);
      this.#verdict.compare(mine, leaders, lsn, "I6 LogMatching", (at) => {
        return `${node.name} restarts with other bytes at ${at} than the leader of term ${String(term)} wrote there`;
      });
    });
  }

  /** Any message shows a term. */
  onTermShown(nodeId: bigint, term: bigint): void {
    const node = this.logs.get(nodeId);
    this.check(term >= node.shownTerm, "I4 DurableVote", () => {
      return `${node.name} shows term ${String(term)} after ${String(node.shownTerm)}`;
    });
    if (term > node.shownTerm) node.shownTerm = term;
  }

  /** @param writtenLsn end of the last whole record that was written, synced or not */
  onVote(nodeId: bigint, proposer: number, vote: VoteResponse, writtenLsn: Lsn): void {
    const node = this.logs.get(nodeId);
    this.onTermShown(nodeId, vote.term);
    this.check(vote.flushLsn >= writtenLsn, "I10 VoteCoversAcks", () => {
      return `${node.name} votes with a log up to ${show(vote.flushLsn)}, it has written ${show(writtenLsn)} in terms before`;
    });
    this.check(vote.flushLsn >= node.ackedLsn, "I10 VoteCoversAcks", () => {
      return `${node.name} votes with a log up to ${show(vote.flushLsn)}, it acknowledged ${show(node.ackedLsn)}`;
    });
    const logTerm = logTermAt(vote.history, vote.flushLsn);
    this.check(logTerm >= node.ackedTerm, "I10 VoteCoversAcks", () => {
      return `${node.name} votes with a log of term ${String(logTerm)}, it acknowledged in term ${String(node.ackedTerm)}`;
    });
    // What a vote shows of the log counts in the election like an acknowledgement: it must not be lost either.
    if (vote.flushLsn > node.ackedLsn) node.ackedLsn = vote.flushLsn;
    if (!vote.voteGiven) return;
    node.votedTerm = vote.term;
    this.elections.onVote(node, proposer, vote);
  }

  /**
   * An acceptor is about to send an append-response to the proposer of `term`.
   *
   * @param isOfElected whether this connection has told the acceptor that `term` was won
   */
  onAcknowledge(nodeId: bigint, response: AppendResponse, isOfElected: boolean): void {
    const node = this.logs.get(nodeId);
    this.onTermShown(nodeId, response.term);
    if (response.flushLsn === INVALID_LSN) return;
    this.check(response.commitLsn <= response.flushLsn, "I7 CommitWithinLog", () => {
      return `${node.name} reports commit ${show(response.commitLsn)} above flush ${show(response.flushLsn)}`;
    });
    if (response.flushLsn > node.ackedLsn) node.ackedLsn = response.flushLsn;
    if (!isOfElected) return;
    const elected = this.elections.find(response.term);
    if (elected === undefined) {
      this.violate("I1 ElectionSafety", `${node.name} follows term ${String(response.term)}, nobody won it`);
      return;
    }
    if (response.flushLsn < elected.termStartLsn) return;
    node.ackedTerm = response.term;
    this.#checkMatch(node, elected, response.flushLsn);
    // What was committed by this term or before it is part of every log that is acknowledged in this term.
    const end = minimum(response.flushLsn, this.#committed.endBy(response.term));
    this.#committed.verify(node, end, (at) => {
      return `${node.name} acknowledges ${show(response.flushLsn)} in term ${String(response.term)} with other bytes at ${at} than were committed`;
    });
    this.#committed.onAcknowledged(nodeId, elected, response.generation, response.flushLsn);
  }

  // An acceptor that acknowledges in a term has the log of the term's leader, byte for byte.
  #checkMatch(node: NodeRecord, elected: ElectedTerm, flushLsn: Lsn): void {
    if (node.matchedTerm !== elected.term) {
      node.matchedTerm = elected.term;
      node.matchedLsn = this.#startLsn;
    }
    if (elected.log === undefined || flushLsn <= node.matchedLsn) return;
    if (flushLsn > node.shadow.endLsn) node.shadow.setEnd(flushLsn);
    const mine = node.shadow.view(node.matchedLsn, flushLsn);
    const leaders = elected.log.view(node.matchedLsn, flushLsn);
    this.#verdict.compare(mine, leaders, node.matchedLsn, "I6 LogMatching", (at) => {
      return `${node.name} acknowledges ${show(flushLsn)} in term ${String(elected.term)}, at ${at} it has other bytes than ${elected.proposer}`;
    });
    node.matchedLsn = flushLsn;
  }

  /** A proposer says that it was elected. */
  onElected(elected: ElectedTerm): void {
    this.elections.onElected(elected);
    this.#committed.checkStart(elected);
    this.#coverage.count("election");
  }

  /** The winner has all WAL below its term's start; `log` is what it will stream. */
  onLogReady(elected: ElectedTerm, log: WalLog): void {
    const end = minimum(elected.termStartLsn, this.#committed.endBy(elected.term));
    if (end > this.#startLsn) {
      const mine = log.view(this.#startLsn, end);
      const truth = this.#committed.view(this.#startLsn, end);
      this.#verdict.compare(mine, truth, this.#startLsn, "I2 LogSafety", (at) => {
        return `${elected.proposer} adopts a log for term ${String(elected.term)} with other bytes at ${at} than were committed`;
      });
    }
    elected.log = log;
  }

  /** A proposer reports a commit. */
  onProposerCommit(elected: ElectedTerm, commitLsn: Lsn, previousLsn: Lsn): void {
    const { term, proposer } = elected;
    this.check(commitLsn >= elected.termStartLsn, "I11 CommitFromOwnTerm", () => {
      return `${proposer} commits ${show(commitLsn)}, its term ${String(term)} starts at ${show(elected.termStartLsn)}`;
    });
    this.check(commitLsn > previousLsn, "I7 CommitWithinLog", () => {
      return `${proposer} commits ${show(commitLsn)} after ${show(previousLsn)}`;
    });
    const backed = this.#committed.backedBy(elected);
    this.check(commitLsn <= backed, "I11 CommitFromOwnTerm", () => {
      return `${proposer} commits ${show(commitLsn)} in term ${String(term)}, a quorum has acknowledged ${show(backed)} in it`;
    });
    // A term's start is looked at when its leader has the log.
    const isBoundary = commitLsn === elected.termStartLsn || elected.log?.isBoundary(commitLsn) === true;
    this.check(isBoundary, "I7 CommitWithinLog", () => {
      return `${proposer} commits ${show(commitLsn)}, where no record ends`;
    });
  }

  /** A synchronising proposer has ended: a quorum must find its term's start committed even after a restart. */
  onSynced({ generation, termStartLsn, proposer }: ElectedTerm, lsn: Lsn): void {
    const configuration = this.elections.configuration(generation);
    const hasPersisted = (nodeId: bigint): boolean =>
      this.logs.get(nodeId).persistedCommitLsn >= termStartLsn;
    this.check(
      configuration !== undefined && isQuorum(configuration, hasPersisted),
      "I11 CommitFromOwnTerm",
      () => `${proposer} ends its synchronisation at ${show(lsn)}, no quorum has that commit on disk`,
    );
  }

  onProposerTruncate(proposer: string, truncateLsn: Lsn): void {
    this.check(truncateLsn <= this.#committed.endLsn, "I11 CommitFromOwnTerm", () => {
      return `${proposer} lets WAL up to ${show(truncateLsn)} go, ${show(this.#committed.endLsn)} is committed`;
    });
  }

  /** An acceptor's positions after any call. */
  onPositions(nodeId: bigint, commitLsn: Lsn, flushLsn: Lsn): void {
    const node = this.logs.get(nodeId);
    if (commitLsn === node.commitLsn) return;
    this.check(commitLsn >= node.commitLsn && commitLsn <= flushLsn, "I7 CommitWithinLog", () => {
      return `${node.name} moves commit from ${show(node.commitLsn)} to ${show(commitLsn)}, flush is ${show(flushLsn)}`;
    });
    this.check(commitLsn <= this.#committed.endLsn, "I7 CommitWithinLog", () => {
      return `${node.name} takes ${show(commitLsn)} for committed, committed is ${show(this.#committed.endLsn)}`;
    });
    this.check(this.#isRecordEnd(commitLsn), "I7 CommitWithinLog", () => {
      return `${node.name} takes ${show(commitLsn)} for committed, where no record ends`;
    });
    // What it takes for committed must be the committed bytes: standbys read them.
    this.#committed.verify(node, commitLsn, (at) => `${node.name} takes other bytes at ${at} for committed`);
    node.commitLsn = commitLsn;
  }

  // A node that lags takes as much for committed as it has, which is the end of some record in a leader's log.
  #isRecordEnd(lsn: Lsn): boolean {
    if (lsn === this.#startLsn) return true;
    for (const { termStartLsn, log } of this.elections.terms) {
      if (termStartLsn === lsn || log?.isBoundary(lsn) === true) return true;
    }
    return false;
  }

  /** An append request of a lower term than was voted for was handled; nothing may have moved. */
  onStaleAppend(nodeId: bigint, term: bigint, changed: boolean): void {
    const node = this.logs.get(nodeId);
    this.check(!changed || term >= node.votedTerm, "I5 VotePromise", () => {
      return `${node.name} lets an append of term ${String(term)} change its log after voting in ${String(node.votedTerm)}`;
    });
  }
}

function minimum(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}
