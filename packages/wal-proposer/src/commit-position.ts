/**
 * The ledger: what each voter has promised in our term, and what follows from it for the quorum.
 *
 * A record outlives connections, because the promises do: a vote is durable before it is sent, and so is what an
 * acknowledgement covers. So the last known value of a disconnected acceptor still counts. Records are keyed by
 * voter: the node id when members are known by id, the position in the list when the list is the member set.
 *
 * Two rules keep a commit honest. Only acknowledgements made in our term are entered here, never what a vote said.
 * And a position below the start of our term counts as nothing: those bytes may be on a quorum and still be replaced
 * by a later proposer who never saw them under our term (figure 8 of the Raft paper), while from the start of the
 * term on every later quorum prefers our log.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { hasQuorum, quorumLsn } from "@millrace/wal-protocol";
import type { Configuration, VoteResponse } from "@millrace/wal-protocol";

/** What one voter has promised. */
export interface VoterRecord {
  /** Its latest answer to a vote-request of ours, given or refused; undefined before that. */
  vote: VoteResponse | undefined;
  /** Flush LSN acknowledged in our term; 0/0 before the first acknowledgement. */
  flushLsn: Lsn;
  /** The commit LSN it has persisted, as acknowledged in our term. */
  commitLsn: Lsn;
}

/** Takes back what was acknowledged: the acceptor no longer has it. Its vote is another matter. */
export function forgetAcknowledged(record: VoterRecord): void {
  record.flushLsn = INVALID_LSN;
  record.commitLsn = INVALID_LSN;
}

/** Mutable, owned by one ProposerCore. Holds one record for each voter that has been entered. */
export class QuorumLedger {
  readonly #records = new Map<bigint, VoterRecord>();

  /** The record of `key`, made empty if there is none. */
  enter(key: bigint): VoterRecord {
    let record = this.#records.get(key);
    if (record === undefined) {
      record = { vote: undefined, flushLsn: INVALID_LSN, commitLsn: INVALID_LSN };
      this.#records.set(key, record);
    }
    return record;
  }

  find(key: bigint): VoterRecord | undefined {
    return this.#records.get(key);
  }

  drop(key: bigint): void {
    this.#records.delete(key);
  }

  /** Whether a quorum has given us its votes. */
  hasVotes(configuration: Configuration): boolean {
    return hasQuorum(configuration, (key) => this.#records.get(key)?.vote?.voteGiven === true);
  }

  /** What a quorum has durable, counting only what reaches the start of our term; 0/0 if that is nobody's quorum. */
  commitCandidate(configuration: Configuration, termStartLsn: Lsn): Lsn {
    return quorumLsn(configuration, (key) => {
      const flushLsn = this.#records.get(key)?.flushLsn ?? INVALID_LSN;
      return flushLsn < termStartLsn ? INVALID_LSN : flushLsn;
    });
  }

  /**
   * How far everybody has come who may still ask for WAL: the listed acceptors, and the members even if no list has
   * them. 0/0 as long as one of them has acknowledged nothing.
   *
   * @param listed keys of the listed acceptors; undefined for one that was never heard of
   */
  slowest(configuration: Configuration, listed: Iterable<bigint | undefined>, atMost: Lsn): Lsn {
    let slowest = atMost;
    const consider = (key: bigint | undefined): void => {
      const flushLsn = key === undefined ? INVALID_LSN : (this.#records.get(key)?.flushLsn ?? INVALID_LSN);
      if (flushLsn < slowest) slowest = flushLsn;
    };
    for (const key of listed) consider(key);
    for (const { nodeId } of configuration.members) consider(nodeId);
    for (const { nodeId } of configuration.newMembers) consider(nodeId);
    return slowest;
  }

  /** The commit LSN that a quorum has persisted. */
  persistedCommit(configuration: Configuration): Lsn {
    return quorumLsn(configuration, (key) => this.#records.get(key)?.commitLsn ?? INVALID_LSN);
  }
}
