/**
 * Who may decide, and who was elected: configurations, votes and terms, as they were shown.
 *
 * Knows nothing of anybody's bytes. Quorums are counted here once more, by the plain rules of quorum-arithmetic.ts.
 */
import type { Lsn } from "@millrace/lsn";
import type { Configuration, TermHistory } from "@millrace/wal-protocol";
import { describeConfiguration, isQuorum } from "./quorum-arithmetic.js";
import type { Verdict } from "./verdict.js";
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

/** All elections of one run. */
export class Elections {
  readonly #verdict: Verdict;
  readonly #configurations = new Map<number, Configuration>();
  readonly #terms = new Map<bigint, ElectedTerm>();
  readonly #votes = new Map<string, Set<bigint>>();
  readonly #ballots = new Map<string, number>();

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
  }

  /** Every term that was won. */
  get terms(): Iterable<ElectedTerm> {
    return this.#terms.values();
  }

  find(term: bigint): ElectedTerm | undefined {
    return this.#terms.get(term);
  }

  configuration(generation: number): Configuration | undefined {
    return this.#configurations.get(generation);
  }

  /** Somebody shows a configuration: a generation has one content. */
  onConfiguration(configuration: Configuration): void {
    if (configuration.generation === 0) return;
    const known = this.#configurations.get(configuration.generation);
    if (known === undefined) this.#configurations.set(configuration.generation, configuration);
    else {
      this.#verdict.check(
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

  /** A vote was given, by one copy of a node's timeline. */
  onVote(
    voter: { readonly nodeId: bigint; readonly name: string; readonly copy: number },
    proposer: number,
    vote: { readonly term: bigint; readonly generation: number },
  ): void {
    const ballot = `${String(voter.copy)}@${String(vote.term)}`;
    const earlier = this.#ballots.get(ballot);
    this.#verdict.check(earlier === undefined, "I4 DurableVote", () => {
      return `${voter.name} votes twice in term ${String(vote.term)}, for proposers ${String(earlier)} and ${String(proposer)}`;
    });
    this.#ballots.set(ballot, proposer);
    const key = termKey(vote.term, vote.generation);
    const voters = this.#votes.get(key) ?? new Set();
    voters.add(voter.nodeId);
    this.#votes.set(key, voters);
  }

  /** A proposer says that it was elected. */
  onElected(elected: ElectedTerm): void {
    const { term, generation, proposer } = elected;
    const other = this.#terms.get(term);
    this.#verdict.check(other === undefined, "I1 ElectionSafety", () => {
      return `${proposer} and ${other?.proposer ?? ""} are both elected in term ${String(term)}`;
    });
    const configuration = this.#configurations.get(generation);
    const voters = this.#votes.get(termKey(term, generation));
    this.#verdict.check(
      configuration !== undefined && isQuorum(configuration, (nodeId) => voters?.has(nodeId) ?? false),
      "I12 Membership",
      () =>
        `${proposer} is elected in term ${String(term)} of generation ${String(generation)} without a quorum of votes`,
    );
    this.#terms.set(term, elected);
  }
}

/** What counts together: acknowledgements and votes of one term in one generation. */
export function termKey(term: bigint, generation: number): string {
  return `${String(term)}/${String(generation)}`;
}
