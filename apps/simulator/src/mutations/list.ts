/**
 * The ways in which the cores are made wrong on purpose. Each must be found, or the simulator is blind there.
 *
 * They are mistakes that have been made, or nearly, in systems of this kind: acknowledging too early, forgetting a
 * vote, trusting length over term, counting the wrong members, leaving out a directory's sync.
 */
import type { Mutation } from "./mutant.js";

const ACCEPTOR = "packages/wal-acceptor/src";
const PROPOSER = "packages/wal-proposer/src";
const PROTOCOL = "packages/wal-protocol/src";

/** Wrong acceptors: what they promise and what they keep. */
const ACCEPTOR_MUTATIONS: readonly Mutation[] = [
  {
    name: "acknowledge-before-sync",
    what: "WAL counts as durable without the sync",
    patches: [
      {
        file: `${ACCEPTOR}/memory-wal-store.ts`,
        find: "await this.#sync();\n      this.#positions.synced(",
        replace: "this.#positions.synced(",
      },
      {
        file: `${ACCEPTOR}/disk-wal-store.ts`,
        find: "await tail.flush();\n    } catch (error) {\n      throw this.#fail(`flush WAL",
        replace: "} catch (error) {\n      throw this.#fail(`flush WAL",
      },
    ],
  },
  {
    name: "acknowledge-written",
    what: "an append response reports what was written instead of what was synced",
    patches: [
      {
        file: `${ACCEPTOR}/core-append.ts`,
        find: "flushLsn: state.flushLsn,\n    commitLsn: state.persistedCommitLsn,",
        replace:
          "flushLsn: maxLsn(state.flushLsn, state.wal.writeRecordLsn),\n    commitLsn: state.persistedCommitLsn,",
      },
      {
        file: `${ACCEPTOR}/core-append.ts`,
        find: "if (!flush && state.flushLsn === flushBefore) return undefined;",
        replace: "void flushBefore;",
      },
    ],
  },
  {
    name: "vote-not-persisted",
    what: "a vote is given without writing the term down",
    patches: [
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "if (voteGiven) await state.persist({ term: message.term });",
        replace: "",
      },
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "term: state.term,\n    voteGiven,",
        replace: "term: voteGiven ? message.term : state.term,\n    voteGiven,",
      },
    ],
  },
  {
    name: "vote-twice",
    what: "a second vote is given in one term",
    patches: [
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "const voteGiven = state.term < message.term;",
        replace: "const voteGiven = state.term <= message.term;",
      },
    ],
  },
  {
    name: "vote-for-any-term",
    what: "a vote is given whatever term the acceptor is in",
    patches: [
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "const voteGiven = state.term < message.term;",
        replace: "const voteGiven = state.term !== message.term;",
      },
    ],
  },
  {
    name: "vote-without-flush",
    what: "a vote promises only what happened to be synced, not what was written before it",
    patches: [
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "await state.wal.flush().catch(",
        replace: "await Promise.resolve().catch(",
      },
    ],
  },
  {
    name: "append-without-term-check",
    what: "an append of a term that is over is written",
    patches: [
      {
        file: `${ACCEPTOR}/core-append.ts`,
        find: 'if (state.term > message.term) return "stale-term";',
        replace: "",
      },
    ],
  },
  {
    name: "keep-divergent-tail",
    what: "a new leader's log is appended to a tail that another leader left",
    patches: [
      {
        file: `${ACCEPTOR}/core-elected.ts`,
        find: "await state.wal.truncate(start);",
        replace: "await state.wal.truncate(maxLsn(start, state.wal.writeRecordLsn));",
      },
    ],
  },
  {
    name: "control-write-before-truncate",
    what: "the new history is written before the old tail is cut",
    patches: [
      { file: `${ACCEPTOR}/core-elected.ts`, find: "await state.wal.truncate(start);\n", replace: "\n" },
      {
        file: `${ACCEPTOR}/core-elected.ts`,
        find: "state.termStartLsn = last.lsn;",
        replace: "await state.wal.truncate(start);\n  state.termStartLsn = last.lsn;",
      },
    ],
  },
  {
    name: "truncate-below-commit",
    what: "the log is cut back to where it agrees for certain, to the start of its last term, and nobody looks at commit",
    patches: [
      {
        file: `${ACCEPTOR}/core-elected.ts`,
        find: "if (start < state.commitLsn) {",
        replace: "if (start === INVALID_LSN) {",
      },
      {
        file: `${PROTOCOL}/term-history.ts`,
        find: "if (proposerTermEnd === undefined) return { term: common.term, lsn: acceptorEndLsn };",
        replace: "if (proposerTermEnd === undefined) return common;",
      },
      {
        file: `${PROTOCOL}/term-history.ts`,
        find: "return { term: common.term, lsn: acceptorTermEnd < proposerTermEnd ? acceptorTermEnd : proposerTermEnd };",
        replace:
          "return acceptorTermEnd < proposerTermEnd ? common : { term: common.term, lsn: proposerTermEnd };",
      },
    ],
  },
  {
    name: "history-not-persisted",
    what: "the elected leader's term history is not taken over",
    patches: [
      { file: `${ACCEPTOR}/core-elected.ts`, find: "termHistory: message.history,", replace: "" },
      {
        file: `${ACCEPTOR}/core-append.ts`,
        find: "state.term < message.term || state.termHistory.at(-1)?.term !== message.term",
        replace: "state.term < message.term",
      },
    ],
  },
  {
    name: "commit-beyond-flush",
    what: "the commit position runs ahead of the log",
    patches: [
      {
        file: `${ACCEPTOR}/core-state.ts`,
        find: "minLsn(maxLsn(candidate, this.#commitLsn), this.flushLsn)",
        replace: "maxLsn(candidate, this.#commitLsn)",
      },
    ],
  },
  {
    name: "peer-commit-of-another-term",
    what: "a peer's commit position is believed although its log is of another term",
    patches: [
      {
        file: `${ACCEPTOR}/safekeeper-core.ts`,
        find: "if (peer.lastLogTerm === state.lastLogTerm) await",
        replace: "await",
      },
    ],
  },
];

/** Wrong senders: what readers of WAL are given. */
const READER_MUTATIONS: readonly Mutation[] = [
  {
    name: "reader-beyond-commit",
    what: "a reader without a term gets what is durable, committed or not",
    patches: [
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "const endLsn = term === undefined ? state.commitLsn : state.flushLsn;",
        replace: "void term;\n    const endLsn = state.flushLsn;",
      },
    ],
  },
  {
    name: "reader-beyond-term",
    what: "a reader with a term is served whatever term the acceptor is in",
    patches: [
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "if (term === state.term && this.#served.goesOn(state, untilLsn)) return;",
        replace: "if (this.#served !== undefined) return;",
      },
    ],
  },
  {
    name: "reader-term-checked-before-read",
    what: "the term is looked at before WAL is read for a reader, and not once more before it is sent",
    patches: [
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "// The log may have been cut and written anew while it was read.\n    this.#checkTerm((this.#position + BigInt(chunk)) as Lsn);",
        replace: "",
      },
    ],
  },
  {
    name: "reader-over-a-cut",
    what: "a reader in a term goes on over the cut with which the election of that term brings the log in line",
    patches: [
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "if (term === state.term && this.#served.goesOn(state, untilLsn)) return;",
        replace: "if (term === state.term && this.#served !== undefined) return;",
      },
    ],
  },
  {
    name: "donor-of-a-stale-term",
    what: "an acceptor that has moved on to a higher term still gives its WAL away in the old one",
    patches: [
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "if (term === state.term && this.#served.goesOn(state, untilLsn)) return;",
        replace: "if (term <= state.term) return;",
      },
      {
        file: `${ACCEPTOR}/walsender.ts`,
        find: "if (lastLogTerm === term) return undefined;",
        replace: "if (lastLogTerm >= term) return undefined;",
      },
    ],
  },
];

/** Wrong stores on files: only the simulated file system shows them. */
const STORE_MUTATIONS: readonly Mutation[] = [
  {
    name: "control-file-without-directory-sync",
    what: "the control file's new name is not made durable",
    patches: [
      {
        file: "packages/virtual-file/src/crashsafe-overwrite.ts",
        find: "  await syncDirectory(dirname(finalPath), environment);\n",
        replace: "",
      },
    ],
  },
  {
    name: "control-file-without-sync",
    what: "the control file is renamed before its bytes are durable",
    patches: [
      {
        file: "packages/virtual-file/src/crashsafe-overwrite.ts",
        find: '    await attempt(temporaryPath, "fsync", () => file.sync(false));\n',
        replace: "",
      },
    ],
  },
  {
    name: "log-without-o-dsync",
    what: "files that are taken for durable by themselves are opened without O_DSYNC",
    patches: [
      {
        file: "packages/virtual-file/src/open-flags.ts",
        find: "(dataSync ? (DATA_SYNC ?? 0) : 0)",
        replace: "0",
      },
    ],
  },
  {
    name: "cut-without-zeros",
    what: "a truncation leaves what was written behind its end",
    patches: [
      {
        file: `${ACCEPTOR}/segment-files.ts`,
        find: 'await this.#attempt("cut", name, () => this.#zeroBehind(file, offsetBytes, zeroFromBytes));',
        replace: "",
      },
    ],
  },
  {
    name: "recovery-without-sync",
    what: "a restarted process trusts WAL that its predecessor had only written",
    patches: [
      {
        file: `${ACCEPTOR}/disk-recovery.ts`,
        find: "for (const segno of files.from(first)) await files.settle(segno);",
        replace: "",
      },
    ],
  },
];

/** Wrong proposers: whose log they adopt and what they count. */
const PROPOSER_MUTATIONS: readonly Mutation[] = [
  {
    name: "commit-below-term-start",
    what: "an earlier term's WAL is committed by counting copies",
    patches: [
      {
        file: `${PROPOSER}/commit-position.ts`,
        find: "return flushLsn < termStartLsn ? INVALID_LSN : flushLsn;",
        replace: "return flushLsn;",
      },
    ],
  },
  {
    name: "commit-by-first-acknowledgement",
    what: "one acceptor's acknowledgement is enough for a commit",
    patches: [
      {
        file: `${PROPOSER}/commit-position.ts`,
        find: "return flushLsn < termStartLsn ? INVALID_LSN : flushLsn;",
        replace:
          "void flushLsn;\n      let most = INVALID_LSN;\n      for (const record of this.#records.values()) if (record.flushLsn > most) most = record.flushLsn;\n      return most < termStartLsn ? INVALID_LSN : most;",
      },
    ],
  },
  {
    name: "commit-counts-votes",
    what: "what an acceptor had when it voted counts as acknowledged in the new term",
    patches: [
      {
        file: `${PROPOSER}/commit-position.ts`,
        find: "const flushLsn = this.#records.get(key)?.flushLsn ?? INVALID_LSN;\n      return",
        replace:
          "const record = this.#records.get(key);\n      const voted = record?.vote?.flushLsn ?? INVALID_LSN;\n      const flushLsn = record !== undefined && record.flushLsn > voted ? record.flushLsn : voted;\n      return",
      },
    ],
  },
  {
    name: "adopt-first-voter",
    what: "the first voter's log is adopted instead of the most advanced one",
    patches: [
      {
        file: `${PROPOSER}/election.ts`,
        find: "if (donor === undefined || compareLogPosition(position(ballot.vote), position(donor.vote)) > 0)",
        replace: "void compareLogPosition;\n    void position;\n    if (donor === undefined)",
      },
    ],
  },
  {
    name: "elected-without-quorum",
    what: "votes of fewer than a majority win an election",
    patches: [
      {
        file: `${PROPOSER}/commit-position.ts`,
        find: "return hasQuorum(configuration, (key) => this.#records.get(key)?.vote?.voteGiven === true);",
        replace:
          "void hasQuorum;\n    return configuration.members.filter(({ nodeId }) => this.#records.get(nodeId)?.vote?.voteGiven === true).length * 2 >= configuration.members.length - 1;",
      },
    ],
  },
  {
    name: "count-non-members",
    what: "acceptors outside the configuration vote and are counted",
    patches: [
      {
        file: `${PROPOSER}/commit-position.ts`,
        find: "return hasQuorum(configuration, (key) => this.#records.get(key)?.vote?.voteGiven === true);",
        replace:
          "void hasQuorum;\n    return [...this.#records.values()].filter(({ vote }) => vote?.voteGiven === true).length * 2 > configuration.members.length;",
      },
    ],
  },
  {
    name: "donor-by-length",
    what: "laggards and the winner are fed by the voter with the longest log, whatever term it ends in",
    patches: [
      {
        file: `${PROPOSER}/proposer-core.ts`,
        find: 'const flushLsn = acceptor.state === "active" ? this.acceptorView(acceptor.index).flushLsn : INVALID_LSN;',
        replace: "const flushLsn = this.#shared.find(acceptor)?.vote?.flushLsn ?? INVALID_LSN;",
      },
    ],
  },
  {
    name: "synced-before-persisted",
    what: "a synchronisation ends at its commit, although no acceptor has that on disk",
    patches: [
      {
        file: `${PROPOSER}/acknowledgements.ts`,
        find: "if (this.#shared.ledger.persistedCommit(this.#shared.membership.quorum) < this.#shared.termStartLsn)\n      return;",
        replace: "",
      },
      {
        file: `${PROPOSER}/acknowledgements.ts`,
        find: "if ((this.#shared.find(acceptor)?.commitLsn ?? INVALID_LSN) < this.#shared.termStartLsn) return;",
        replace: "",
      },
    ],
  },
  {
    name: "forget-refused-vote",
    what: "a refused vote is counted as given",
    patches: [
      {
        file: `${PROPOSER}/campaign.ts`,
        find: 'if (!vote.voteGiven && this.#shared.state === "campaign") {\n      this.#onRefusal(acceptor);\n      return;\n    }',
        replace: "",
      },
      {
        file: `${PROPOSER}/campaign.ts`,
        find: "record.vote = vote;",
        replace: "record.vote = { ...vote, voteGiven: true };",
      },
    ],
  },
];

/** Wrong rules that both sides share. */
const PROTOCOL_MUTATIONS: readonly Mutation[] = [
  {
    name: "compare-logs-by-length",
    what: "the longer log wins whatever term it ends in",
    patches: [
      {
        file: `${PROTOCOL}/term-history.ts`,
        find: "if (a.lastLogTerm !== b.lastLogTerm) return a.lastLogTerm < b.lastLogTerm ? -1 : 1;",
        replace: "",
      },
    ],
  },
  {
    name: "common-point-by-flush",
    what: "the common point of two logs is where the shorter one ends",
    patches: [
      {
        file: `${PROTOCOL}/term-history.ts`,
        find: "const acceptorTermEnd = acceptorNext?.lsn ?? acceptorEndLsn;",
        replace: "void acceptorNext;\n  const acceptorTermEnd = acceptorEndLsn;",
      },
    ],
  },
  {
    name: "term-begins-with-a-record",
    what: "a term counts only once a record of it is there, not from its start on",
    patches: [
      {
        file: `${PROTOCOL}/term-history.ts`,
        find: "if (entry !== undefined && entry.lsn <= flushLsn) return length;",
        replace: "if (entry !== undefined && entry.lsn < flushLsn) return length;",
      },
    ],
  },
  {
    name: "joint-by-old-members",
    what: "during a change of members only the old ones are asked",
    patches: [
      {
        file: `${PROTOCOL}/configuration.ts`,
        find: "hasMajority(configuration.members, has) &&\n    (!isJoint(configuration) || hasMajority(configuration.newMembers, has))",
        replace: "hasMajority(configuration.members, has)",
      },
      {
        file: `${PROTOCOL}/configuration.ts`,
        find: "if (!isJoint(configuration)) return first;",
        replace: "if (first >= INVALID_LSN) return first;",
      },
    ],
  },
  {
    name: "joint-as-one-set",
    what: "during a change of members a majority of all old and new ones together decides",
    patches: [
      {
        file: `${PROTOCOL}/configuration.ts`,
        find: "hasMajority(configuration.members, has) &&\n    (!isJoint(configuration) || hasMajority(configuration.newMembers, has))",
        replace: "hasMajority(everybody(configuration), has)",
      },
      {
        file: `${PROTOCOL}/configuration.ts`,
        find: "const first = kthLargest(configuration.members, memberLsn);\n  if (!isJoint(configuration)) return first;",
        replace:
          "const first = kthLargest(everybody(configuration), memberLsn);\n  if (first >= INVALID_LSN) return first;",
      },
      {
        file: `${PROTOCOL}/configuration.ts`,
        find: "function includes(set: readonly Member[], nodeId: bigint): boolean {",
        replace:
          "function everybody({ members, newMembers }: Configuration): readonly Member[] {\n  return [...members, ...newMembers.filter(({ nodeId }) => !includes(members, nodeId))];\n}\n\nfunction includes(set: readonly Member[], nodeId: bigint): boolean {",
      },
    ],
  },
  {
    name: "ignore-generation",
    what: "messages of another generation are taken like those of one's own",
    patches: [
      {
        file: `${ACCEPTOR}/core-greeting.ts`,
        find: "if (generation === ours) return;",
        replace: "if (generation >= 0) return;",
      },
      {
        file: `${PROPOSER}/term-state.ts`,
        find: "if (generation === this.membership.generation) return true;",
        replace: "if (generation >= 0) return true;",
      },
    ],
  },
];

/** All of them. */
export const MUTATIONS: readonly Mutation[] = [
  ...ACCEPTOR_MUTATIONS,
  ...READER_MUTATIONS,
  ...STORE_MUTATIONS,
  ...PROPOSER_MUTATIONS,
  ...PROTOCOL_MUTATIONS,
];
