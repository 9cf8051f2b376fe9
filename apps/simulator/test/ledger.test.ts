/**
 * Every check of the ledger can fail: a run that violates nothing proves nothing if its judge never objects.
 */
import type { Lsn } from "@millrace/lsn";
import { initialState } from "@millrace/wal-acceptor";
import type { AcceptorStateView, PersistentState } from "@millrace/wal-acceptor";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { AppendResponse, Configuration, TermHistory, VoteResponse } from "@millrace/wal-protocol";
import { expect, test } from "vitest";
import { Coverage } from "../src/coverage.js";
import { Ledger } from "../src/ledger.js";
import type { ServedWal } from "../src/reader-checks.js";
import type { ElectedTerm } from "../src/elections.js";
import type { Invariant } from "../src/verdict.js";
import { Random } from "../src/random.js";
import { WAL_SHAPE, WalLog } from "../src/wal-log.js";

const START = 0x0100_0028n as Lsn;
const NODES = [1n, 2n, 3n] as const;

function configurationOf(generation: number, ...ids: readonly bigint[]): Configuration {
  return { generation, members: ids.map((nodeId) => ({ nodeId, host: "h", port: 1 })), newMembers: [] };
}

function later(lsn: Lsn, bytes: number): Lsn {
  return (lsn + BigInt(bytes)) as Lsn;
}

/** A ledger of three acceptors, and the log of the leader of term 1. */
class Bench {
  readonly coverage = new Coverage();
  readonly ledger = new Ledger({ nowMs: () => 1, startLsn: START, coverage: this.coverage });
  readonly log = new WalLog(START, 1);
  readonly state: PersistentState;
  history: TermHistory = [{ term: 0n, lsn: START }];

  constructor() {
    for (const nodeId of NODES) this.ledger.logs.add(nodeId, `A${String(nodeId)}`);
    this.ledger.elections.setListConfiguration(configurationOf(0, ...NODES));
    this.log.writeSome(new Random(1, "ledger test"), 20);
    this.state = initialState({
      tenantId: "a".repeat(32),
      timelineId: "b".repeat(32),
      server: {
        pgVersion: WAL_SHAPE.pgVersion,
        systemId: WAL_SHAPE.systemId,
        segmentBytes: WAL_SHAPE.segmentBytes,
      },
      createdAtMs: 0,
      startLsn: START,
    });
  }

  vote(nodeId: bigint, term: bigint, change: Partial<VoteResponse> = {}, writtenLsn: Lsn = START): void {
    const vote = {
      type: "vote-response",
      generation: 0,
      term,
      voteGiven: true,
      flushLsn: START,
      truncateLsn: START,
      history: [{ term: 0n, lsn: START }],
      ...change,
    } as const;
    this.ledger.onVote(nodeId, 50, vote, writtenLsn);
  }

  /** Votes of a quorum, with all that was acknowledged. */
  voteFor(term: bigint, flushLsn: Lsn): void {
    for (const nodeId of [1n, 2n]) this.vote(nodeId, term, { flushLsn, history: this.history });
  }

  /** Votes of a quorum, and the election. */
  elect(term: bigint, termStartLsn: Lsn = START): ElectedTerm {
    this.voteFor(term, termStartLsn);
    this.history = [...this.history, { term, lsn: termStartLsn }];
    const elected = {
      term,
      generation: 0,
      termStartLsn,
      history: this.history,
      proposer: `P${String(term)}`,
      log: this.log,
    };
    this.ledger.onElected(elected);
    return elected;
  }

  /** The node has the leader's log up to `endLsn` and says so. */
  acknowledge(nodeId: bigint, term: bigint, endLsn: Lsn, bytes?: Uint8Array): void {
    this.ledger.logs.onTruncate(nodeId, START, START);
    this.ledger.logs.onTruncated(nodeId, START);
    this.ledger.logs.onWrite(nodeId, START, [bytes ?? this.log.view(START, endLsn).slice()]);
    this.ledger.logs.onWritten(nodeId, endLsn);
    this.ledger.onAcknowledge(nodeId, this.response(term, endLsn), true);
  }

  response(term: bigint, flushLsn: Lsn): AppendResponse {
    return {
      type: "append-response",
      generation: 0,
      term,
      flushLsn,
      commitLsn: START,
      hotStandby: NO_HOT_STANDBY_FEEDBACK,
    };
  }

  /** All of the leader's log, on its way from the first node to a reader who may go as far as `limitLsn`. */
  served(limitLsn: Lsn): ServedWal {
    return { nodeId: 1n, startLsn: START, bytes: this.log.view(START, this.log.endLsn), limitLsn };
  }

  recover(nodeId: bigint, change: Partial<AcceptorStateView>, bytes: Uint8Array): void {
    const view = { term: 1n, flushLsn: START, commitLsn: START, effectiveHistory: [], ...change };
    this.ledger.onRecovered(nodeId, view as unknown as AcceptorStateView, bytes);
  }
}

const VIOLATIONS: readonly (readonly [Invariant, string, (bench: Bench) => void])[] = [
  [
    "I1 ElectionSafety",
    "two winners of one term",
    (bench) => {
      bench.ledger.onElected(bench.elect(1n));
    },
  ],
  [
    "I1 ElectionSafety",
    "an acknowledgement in a term that nobody won",
    (bench) => {
      bench.ledger.onAcknowledge(1n, bench.response(4n, START), true);
    },
  ],
  [
    "I2 LogSafety",
    "a term that begins without what was committed",
    (bench) => {
      bench.elect(1n);
      for (const nodeId of [1n, 2n]) bench.acknowledge(nodeId, 1n, bench.log.endLsn);
      bench.voteFor(2n, bench.log.endLsn);
      bench.ledger.onElected({
        term: 2n,
        generation: 0,
        termStartLsn: START,
        history: bench.history,
        proposer: "P2",
        log: undefined,
      });
    },
  ],
  [
    "I3 DurableAcknowledgement",
    "a restart with less than was acknowledged",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      bench.recover(1n, {}, new Uint8Array(0));
    },
  ],
  [
    "I3 DurableAcknowledgement",
    "a restart with other bytes",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      const bytes = bench.log.view(START, bench.log.endLsn).slice();
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      bench.recover(1n, { flushLsn: bench.log.endLsn }, bytes);
    },
  ],
  [
    "I4 DurableVote",
    "a restart in a lower term than was shown",
    (bench) => {
      bench.vote(1n, 5n);
      bench.recover(1n, { term: 4n }, new Uint8Array(0));
    },
  ],
  [
    "I4 DurableVote",
    "two votes in one term",
    (bench) => {
      bench.vote(1n, 5n);
      bench.vote(1n, 5n);
    },
  ],
  [
    "I5 VotePromise",
    "an append of a term below the vote that changes the log",
    (bench) => {
      bench.vote(1n, 5n);
      bench.ledger.onStaleAppend(1n, 4n, true);
    },
  ],
  [
    "I6 LogMatching",
    "an acknowledgement over other bytes than the leader's",
    (bench) => {
      bench.elect(1n);
      const other = new WalLog(START, 2);
      other.writeSome(new Random(1, "ledger test"), 20);
      bench.acknowledge(1n, 1n, bench.log.endLsn, other.view(START, bench.log.endLsn).slice());
    },
  ],
  [
    "I6 LogMatching",
    "a term that starts at two places",
    (bench) => {
      bench.elect(1n);
      const termHistory = [{ term: 1n, lsn: later(START, 8) }];
      bench.ledger.onPersist(1n, bench.state, { ...bench.state, termHistory });
    },
  ],
  [
    "I7 CommitWithinLog",
    "a commit position beyond what is committed",
    (bench) => {
      bench.ledger.onPositions(1n, later(START, 100), later(START, 200));
    },
  ],
  [
    "I7 CommitWithinLog",
    "a commit inside a record",
    (bench) => {
      const elected = bench.elect(1n);
      for (const nodeId of [1n, 2n]) bench.acknowledge(nodeId, 1n, bench.log.endLsn);
      bench.ledger.onProposerCommit(elected, (bench.log.endLsn - 1n) as Lsn, START);
    },
  ],
  [
    "I8 TruncateAboveCommit",
    "a cut below the commit position",
    ({ ledger }) => {
      ledger.logs.onTruncate(1n, START, later(START, 8));
    },
  ],
  [
    "I9 WriteOnce",
    "a write that leaves a gap",
    ({ ledger }) => {
      ledger.logs.onTruncate(1n, START, START);
      ledger.logs.onTruncated(1n, START);
      ledger.logs.onWrite(1n, later(START, 8), [new Uint8Array(8)]);
    },
  ],
  [
    "I10 VoteCoversAcks",
    "a vote with less than was acknowledged",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      bench.vote(1n, 2n);
    },
  ],
  [
    "I10 VoteCoversAcks",
    "a vote with less than was written",
    (bench) => {
      bench.vote(1n, 2n, {}, later(START, 8));
    },
  ],
  [
    "I11 CommitFromOwnTerm",
    "a synchronisation whose commit one acceptor has on disk",
    (bench) => {
      const elected = bench.elect(1n, bench.log.endLsn);
      bench.ledger.onPersisted(1n, { ...bench.state, commitLsn: bench.log.endLsn });
      bench.ledger.onSynced(elected, bench.log.endLsn);
    },
  ],
  [
    "I11 CommitFromOwnTerm",
    "a commit that one acceptor has acknowledged",
    (bench) => {
      const elected = bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      bench.ledger.onProposerCommit(elected, bench.log.endLsn, START);
    },
  ],
  [
    "I12 Membership",
    "an election by a minority",
    (bench) => {
      bench.vote(1n, 1n);
      bench.ledger.onElected({
        term: 1n,
        generation: 0,
        termStartLsn: START,
        history: [],
        proposer: "P",
        log: undefined,
      });
    },
  ],
  [
    "I12 Membership",
    "a generation with two contents",
    ({ ledger }) => {
      ledger.elections.onConfiguration(configurationOf(3, 1n, 2n));
      ledger.elections.onConfiguration(configurationOf(3, 1n, 3n));
    },
  ],
  [
    "I13 ReaderLimits",
    "a reader that sees what is not committed",
    ({ ledger }) => {
      ledger.readers.onRead("reader", START, new Uint8Array(8));
    },
  ],
  [
    "I13 ReaderLimits",
    "an acceptor that serves committed WAL beyond its own commit position",
    (bench) => {
      bench.elect(1n);
      for (const nodeId of [1n, 2n]) bench.acknowledge(nodeId, 1n, bench.log.endLsn);
      bench.ledger.readers.onCommitted(bench.served(START));
    },
  ],
  [
    "I13 ReaderLimits",
    "a reader in a term that is over",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      bench.ledger.readers.onDurable(1n, 2n, bench.served(bench.log.endLsn));
    },
  ],
  [
    "I13 ReaderLimits",
    "a reader in a term beyond what is durable",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      bench.ledger.readers.onDurable(1n, 1n, bench.served(START));
    },
  ],
  [
    "I13 ReaderLimits",
    "a reader in a term that gets other bytes than there are",
    (bench) => {
      bench.elect(1n);
      bench.acknowledge(1n, 1n, bench.log.endLsn);
      const served = bench.served(bench.log.endLsn);
      bench.ledger.readers.onDurable(1n, 1n, { ...served, bytes: new Uint8Array(served.bytes.byteLength) });
    },
  ],
  [
    "I13 ReaderLimits",
    "a stream with a gap",
    ({ ledger }) => {
      ledger.readers.onReceived("reader", later(START, 8), START);
    },
  ],
  [
    "I6 LogMatching",
    "a donor with other bytes than the leader of the term",
    (bench) => {
      const elected = bench.elect(1n);
      bench.ledger.readers.onDonated(elected, START, new Uint8Array(64));
    },
  ],
];

// Aim: each check objects to what it is there for. Method: the smallest history that violates it.
test.each(VIOLATIONS)("%s: %s", (invariant, _, violate) => {
  const bench = new Bench();
  violate(bench);
  expect(bench.ledger.violation?.invariant).toBe(invariant);
});

// Aim: the checks do not object to what is right. Method: an election, a quorum's acknowledgements, the commit, a
// reader and a restart, all as they should be.
test("a sound history is committed without objection", () => {
  const bench = new Bench();
  const { ledger, log } = bench;
  const elected = bench.elect(1n);
  bench.acknowledge(1n, 1n, log.endLsn);
  expect(ledger.commitLsn).toBe(START);
  bench.acknowledge(2n, 1n, log.endLsn);
  expect(ledger.commitLsn).toBe(log.endLsn);
  ledger.onProposerCommit(elected, log.endLsn, START);
  ledger.onPositions(1n, log.endLsn, log.endLsn);
  ledger.readers.onRead("reader", START, log.view(START, log.endLsn));
  ledger.readers.onCommitted(bench.served(log.endLsn));
  ledger.readers.onDurable(1n, 1n, bench.served(log.endLsn));
  ledger.readers.onDonated(elected, START, log.view(START, log.endLsn));
  for (const nodeId of [1n, 2n]) ledger.onPersisted(nodeId, { ...bench.state, commitLsn: log.endLsn });
  ledger.onSynced(elected, log.endLsn);
  const effectiveHistory = [{ term: 1n, lsn: START }];
  bench.recover(
    1n,
    { flushLsn: log.endLsn, commitLsn: log.endLsn, effectiveHistory },
    log.view(START, log.endLsn).slice(),
  );
  bench.elect(2n, log.endLsn);
  expect(ledger.violation).toBeUndefined();
  expect(bench.coverage.of("commit")).toBe(1);
});
