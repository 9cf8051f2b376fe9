/**
 * The omniscient ledger: what every node promised and what every node did, compared byte by byte.
 *
 * It sees each message when it is sent, each write when a store gets it, and each recovery, and it decides by itself
 * what is committed: bytes that a quorum of a configuration has acknowledged in one term, from the start of that
 * term on. From then on nobody may show other bytes below that position, and no later leader may do without them.
 * The cores' own opinions (a proposer's commit, an acceptor's commit position) are checked against that, never
 * believed.
 *
 * Each check has the name of an invariant, I1 to I13; the first violation ends the run. The invariants are those of
 * Neon's TLA+ models of the protocol, extended by what the models leave out: disks, restarts and readers.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AcceptorStateView, PersistentState } from "@millrace/wal-acceptor";
import type { AppendResponse, Configuration, TermHistory, VoteResponse } from "@millrace/wal-protocol";
import { ByteLog } from "./byte-log.js";
import type { Coverage } from "./coverage.js";
import { describeConfiguration, isQuorum, logTermAt, quorumEnd } from "./quorum-arithmetic.js";
import { StoredLogs } from "./stored-logs.js";
import type { NodeRecord } from "./stored-logs.js";
import { show, Verdict } from "./verdict.js";
import type { Invariant, Violation } from "./verdict.js";
import type { WalLog } from "./wal-log.js";

/** A term that somebody won. */
export interface ElectedTerm {
  readonly term: bigint;
  readonly generation: number;
  readonly termStartLsn: Lsn;
  readonly history: TermHistory;
  readonly proposer: string;
  /** The winner's WAL, once it has all of what it adopted. */
  log: WalLog | undefined;
}

interface TermAcks {
  readonly byNode: Map<bigint, Lsn>;
  /** What a quorum of them covers. */
  quorumLsn: Lsn;
}

/** See the head of this file. One for each run. */
export class Ledger {
  /** What the acceptors' stores were told. */
  readonly logs: StoredLogs;
  readonly #verdict: Verdict;
  readonly #startLsn: Lsn;
  readonly #coverage: Coverage;
  readonly #committed: ByteLog;
  readonly #configurations = new Map<number, Configuration>();
  readonly #terms = new Map<bigint, ElectedTerm>();
  readonly #acks = new Map<string, TermAcks>();
  readonly #votes = new Map<string, Set<bigint>>();
  readonly #votesByNode = new Map<string, number>();
  /** Commits in the order of their making: ends rise, and so do terms. */
  readonly #commits: { readonly term: bigint; readonly endLsn: Lsn }[] = [];

  constructor(options: { nowMs: () => number; startLsn: Lsn; coverage: Coverage }) {
    this.#verdict = new Verdict(options.nowMs);
    this.#startLsn = options.startLsn;
    this.#coverage = options.coverage;
    this.logs = new StoredLogs({
      verdict: this.#verdict,
      coverage: options.coverage,
      startLsn: options.startLsn,
      termStart: (term) => this.#terms.get(term)?.termStartLsn,
    });
    this.#committed = new ByteLog(options.startLsn);
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

  /** Somebody shows a configuration: a generation has one content. */
  onConfiguration(configuration: Configuration): void {
    if (configuration.generation === 0) return;
    const known = this.#configurations.get(configuration.generation);
    if (known === undefined) this.#configurations.set(configuration.generation, configuration);
    else {
      this.check(
        describeConfiguration(known) === describeConfiguration(configuration),
        "I12 Membership",
        () => `generation ${String(configuration.generation)} has two contents`,
      );
    }
  }

  /** For runs without generations: all listed acceptors under generation 0. */
  setListConfiguration(configuration: Configuration): void {
    this.#configurations.set(0, configuration);
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
    this.onConfiguration(to.configuration);
    if (to.termHistory === from.termHistory) return;
    this.#checkHistory(node, to.termHistory);
    // A later leader that knows nothing of that term takes what was acknowledged in it for part of an earlier one.
    const last = to.termHistory.at(-1)?.term ?? 0n;
    this.check(last >= node.ackedTerm, "I10 VoteCoversAcks", () => {
      return `${node.name} takes over a history up to term ${String(last)} after acknowledging in ${String(node.ackedTerm)}`;
    });
    if (!to.termHistory.some(({ term }) => term === node.ackedTerm)) node.ackedTerm = 0n;
  }

  // Terms rise along a log, and a term begins at one place everywhere.
  #checkHistory(node: NodeRecord, history: TermHistory): void {
    let previous: TermHistory[number] | undefined;
    for (const entry of history) {
      const isOrdered = previous === undefined || (entry.term > previous.term && entry.lsn >= previous.lsn);
      this.check(isOrdered, "I6 LogMatching", () => `${node.name} has an unordered term history`);
      const elected = this.#terms.get(entry.term);
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
    if (flushLsn < node.verifiedLsn) node.verifiedLsn = flushLsn;
    if (flushLsn < node.matchedLsn) node.matchedLsn = flushLsn;
  }

  // What a history ascribes to a term is what the leader of that term wrote there.
  #checkLabels(node: NodeRecord, history: TermHistory, flushLsn: Lsn): void {
    history.forEach(({ term, lsn }, index) => {
      const log = this.#terms.get(term)?.log;
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

  onVote(nodeId: bigint, proposer: number, vote: VoteResponse): void {
    const node = this.logs.get(nodeId);
    this.onTermShown(nodeId, vote.term);
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
    const ballot = `${String(node.copy)}@${String(vote.term)}`;
    const earlier = this.#votesByNode.get(ballot);
    this.check(earlier === undefined, "I4 DurableVote", () => {
      return `${node.name} votes twice in term ${String(vote.term)}, for proposers ${String(earlier)} and ${String(proposer)}`;
    });
    this.#votesByNode.set(ballot, proposer);
    const key = termKey(vote.term, vote.generation);
    const voters = this.#votes.get(key) ?? new Set();
    voters.add(nodeId);
    this.#votes.set(key, voters);
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
    const elected = this.#terms.get(response.term);
    if (elected === undefined) {
      this.violate("I1 ElectionSafety", `${node.name} follows term ${String(response.term)}, nobody won it`);
      return;
    }
    if (response.flushLsn < elected.termStartLsn) return;
    node.ackedTerm = response.term;
    this.#checkMatch(node, elected, response.flushLsn);
    this.#checkCommitted(node, response.term, response.flushLsn);
    const key = termKey(response.term, response.generation);
    const acks = this.#acks.get(key) ?? { byNode: new Map(), quorumLsn: INVALID_LSN };
    this.#acks.set(key, acks);
    acks.byNode.set(nodeId, response.flushLsn);
    this.#considerCommit(elected, response.generation, acks);
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

  // What was committed by this term or before it is part of every log that is acknowledged in this term.
  #checkCommitted(node: NodeRecord, term: bigint, upTo: Lsn): void {
    const end = minimum(upTo, this.#committedBy(term));
    if (end <= node.verifiedLsn) return;
    if (end > node.shadow.endLsn) node.shadow.setEnd(end);
    const mine = node.shadow.view(node.verifiedLsn, end);
    const truth = this.#committed.view(node.verifiedLsn, end);
    this.#verdict.compare(mine, truth, node.verifiedLsn, "I2 LogSafety", (at) => {
      return `${node.name} acknowledges ${show(upTo)} in term ${String(term)} with other bytes at ${at} than were committed`;
    });
    node.verifiedLsn = end;
  }

  #committedBy(term: bigint): Lsn {
    for (let index = this.#commits.length - 1; index >= 0; index -= 1) {
      const commit = this.#commits[index];
      if (commit !== undefined && commit.term <= term) return commit.endLsn;
    }
    return INVALID_LSN;
  }

  // The rule: a quorum of the configuration has acknowledged in this term, at or behind the term's start.
  #considerCommit(elected: ElectedTerm, generation: number, acks: TermAcks): void {
    const configuration = this.#configurations.get(generation);
    if (configuration === undefined || generation !== elected.generation) return;
    const endLsn = quorumEnd(configuration, (nodeId) => acks.byNode.get(nodeId) ?? INVALID_LSN);
    if (endLsn <= acks.quorumLsn) return;
    acks.quorumLsn = endLsn;
    for (const later of this.#terms.values()) {
      this.check(later.term <= elected.term || later.termStartLsn >= endLsn, "I2 LogSafety", () => {
        return `term ${String(later.term)} began at ${show(later.termStartLsn)} without ${show(endLsn)}, committed in term ${String(elected.term)}`;
      });
    }
    if (endLsn <= this.#committed.endLsn) return;
    const holders = [...acks.byNode].filter(([, flushLsn]) => flushLsn >= endLsn);
    for (const [nodeId] of holders) this.#commitFrom(this.logs.get(nodeId), elected, endLsn);
    this.#commits.push({ term: elected.term, endLsn });
    this.#coverage.count("commit");
  }

  #commitFrom(node: NodeRecord, elected: ElectedTerm, endLsn: Lsn): void {
    if (endLsn > node.shadow.endLsn) node.shadow.setEnd(endLsn);
    const from = this.#committed.endLsn;
    if (from < endLsn) this.#committed.put(from, node.shadow.view(from, endLsn));
    const mine = node.shadow.view(node.verifiedLsn, endLsn);
    const truth = this.#committed.view(node.verifiedLsn, endLsn);
    this.#verdict.compare(mine, truth, node.verifiedLsn, "I2 LogSafety", (at) => {
      return `${node.name} is counted for ${show(endLsn)} in term ${String(elected.term)} with other bytes at ${at}`;
    });
    node.verifiedLsn = endLsn;
  }

  /** A proposer says that it was elected. */
  onElected(elected: ElectedTerm): void {
    const other = this.#terms.get(elected.term);
    this.check(other === undefined, "I1 ElectionSafety", () => {
      return `${elected.proposer} and ${other?.proposer ?? ""} are both elected in term ${String(elected.term)}`;
    });
    const configuration = this.#configurations.get(elected.generation);
    const voters = this.#votes.get(termKey(elected.term, elected.generation));
    this.check(
      configuration !== undefined && isQuorum(configuration, (nodeId) => voters?.has(nodeId) ?? false),
      "I12 Membership",
      () =>
        `${elected.proposer} is elected in term ${String(elected.term)} of generation ${String(elected.generation)} without a quorum of votes`,
    );
    for (const commit of this.#commits) {
      this.check(
        commit.term >= elected.term || commit.endLsn <= elected.termStartLsn,
        "I2 LogSafety",
        () =>
          `${elected.proposer} begins term ${String(elected.term)} at ${show(elected.termStartLsn)} without ${show(commit.endLsn)}, committed in term ${String(commit.term)}`,
      );
    }
    this.#terms.set(elected.term, elected);
    this.#coverage.count("election");
  }

  /** The winner has all WAL below its term's start; `log` is what it will stream. */
  onLogReady(elected: ElectedTerm, log: WalLog): void {
    const end = minimum(elected.termStartLsn, this.#committedBy(elected.term));
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
    const { term, generation, proposer } = elected;
    this.check(commitLsn >= elected.termStartLsn, "I11 CommitFromOwnTerm", () => {
      return `${proposer} commits ${show(commitLsn)}, its term ${String(term)} starts at ${show(elected.termStartLsn)}`;
    });
    this.check(commitLsn > previousLsn, "I7 CommitWithinLog", () => {
      return `${proposer} commits ${show(commitLsn)} after ${show(previousLsn)}`;
    });
    const configuration = this.#configurations.get(generation);
    const acks = this.#acks.get(termKey(term, generation));
    const backed =
      configuration === undefined
        ? INVALID_LSN
        : quorumEnd(configuration, (nodeId) => acks?.byNode.get(nodeId) ?? INVALID_LSN);
    this.check(commitLsn <= backed, "I11 CommitFromOwnTerm", () => {
      return `${proposer} commits ${show(commitLsn)} in term ${String(term)}, a quorum has acknowledged ${show(backed)} in it`;
    });
    // A term's start is looked at when its leader has the log.
    const isBoundary = commitLsn === elected.termStartLsn || elected.log?.isBoundary(commitLsn) === true;
    this.check(isBoundary, "I7 CommitWithinLog", () => {
      return `${proposer} commits ${show(commitLsn)}, where no record ends`;
    });
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
    this.#checkOwnCommit(node, commitLsn);
    node.commitLsn = commitLsn;
  }

  // A node that lags takes as much for committed as it has, which is the end of some record in a leader's log.
  #isRecordEnd(lsn: Lsn): boolean {
    if (lsn === this.#startLsn) return true;
    for (const { termStartLsn, log } of this.#terms.values()) {
      if (termStartLsn === lsn || log?.isBoundary(lsn) === true) return true;
    }
    return false;
  }

  #checkOwnCommit(node: NodeRecord, commitLsn: Lsn): void {
    const end = minimum(commitLsn, this.#committed.endLsn);
    if (end <= node.verifiedLsn) return;
    if (end > node.shadow.endLsn) node.shadow.setEnd(end);
    const mine = node.shadow.view(node.verifiedLsn, end);
    const truth = this.#committed.view(node.verifiedLsn, end);
    this.#verdict.compare(mine, truth, node.verifiedLsn, "I2 LogSafety", (at) => {
      return `${node.name} takes other bytes at ${at} for committed`;
    });
    node.verifiedLsn = end;
  }

  /** An append request of a lower term than was voted for was handled; nothing may have moved. */
  onStaleAppend(nodeId: bigint, term: bigint, changed: boolean): void {
    const node = this.logs.get(nodeId);
    this.check(!changed || term >= node.votedTerm, "I5 VotePromise", () => {
      return `${node.name} lets an append of term ${String(term)} change its log after voting in ${String(node.votedTerm)}`;
    });
  }

  /** A reader was given bytes; without a term it may see only what is committed. */
  onRead(reader: string, fromLsn: Lsn, bytes: Uint8Array): void {
    const endLsn = (fromLsn + BigInt(bytes.byteLength)) as Lsn;
    this.check(endLsn <= this.#committed.endLsn, "I13 ReaderLimits", () => {
      return `${reader} is given WAL up to ${show(endLsn)}, committed is ${show(this.#committed.endLsn)}`;
    });
    const truth = this.#committed.view(fromLsn, endLsn);
    this.#verdict.compare(bytes, truth, fromLsn, "I13 ReaderLimits", (at) => {
      return `${reader} is given other bytes at ${at} than were committed`;
    });
  }
}

function termKey(term: bigint, generation: number): string {
  return `${String(term)}/${String(generation)}`;
}

function minimum(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}
