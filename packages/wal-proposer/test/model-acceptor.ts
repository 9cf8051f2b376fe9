/**
 * The dumbest acceptor that keeps the protocol's promises, for driving ProposerCore without disk or network.
 *
 * One array element stands for one byte of WAL and holds a tag that says who wrote it, so "the same bytes" is array
 * equality. Nothing is optimised and nothing is shared with the real acceptor: where the two disagree with the core
 * differently, one of them is wrong. What is not flushed is lost by `crash`.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  effectiveHistory,
  EMPTY_CONFIGURATION,
  isMember,
  NO_HOT_STANDBY_FEEDBACK,
  streamingStart,
} from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendRequestFields,
  AppendResponse,
  Configuration,
  ProposerElected,
  ProposerGreeting,
  TermHistory,
  VoteRequest,
} from "@millrace/wal-protocol";

/** What travels to an acceptor: a message, or the header of an append-request with its tags. */
export type ToAcceptor =
  | ProposerGreeting
  | VoteRequest
  | ProposerElected
  | (AppendRequestFields & { readonly type: "append"; readonly wal: readonly number[] });

export class ModelAcceptor {
  readonly nodeId: bigint;
  term = 0n;
  history: TermHistory;
  configuration: Configuration;
  /** Indexed by LSN; holes below the start of the log. */
  log: number[] = [];
  writeLsn: number;
  flushLsn: number;
  commitLsn: number;
  persistedCommitLsn: number;
  truncateLsn: number;

  /** @param startLsn where the log was created to begin; 0 for an acceptor that knows of no log */
  constructor(nodeId: bigint, startLsn: number, configuration: Configuration = EMPTY_CONFIGURATION) {
    this.nodeId = nodeId;
    this.configuration = configuration;
    this.history = startLsn === 0 ? [] : [{ term: 0n, lsn: lsn(startLsn) }];
    this.writeLsn = startLsn;
    this.flushLsn = startLsn;
    this.commitLsn = startLsn;
    this.persistedCommitLsn = startLsn;
    this.truncateLsn = startLsn;
  }

  /** The reply, undefined if there is none, or "refused" if the connection is to be closed. */
  handle(message: ToAcceptor): AcceptorMessage | "refused" | undefined {
    if (message.type === "append") return this.#onAppend(message);
    if (message.type === "vote-request") return this.#onVote(message);
    if (message.type === "elected") return this.#onElected(message);
    return this.#onGreeting(message);
  }

  flush(): AppendResponse {
    this.flushLsn = this.writeLsn;
    this.commitLsn = Math.max(this.commitLsn, Math.min(this.#wantedCommit, this.flushLsn));
    if (this.commitLsn >= Number(this.history.at(-1)?.lsn ?? 0n)) this.persistedCommitLsn = this.commitLsn;
    return {
      type: "append-response",
      generation: this.configuration.generation,
      term: this.term,
      flushLsn: lsn(this.flushLsn),
      commitLsn: lsn(this.persistedCommitLsn),
      hotStandby: NO_HOT_STANDBY_FEEDBACK,
    };
  }

  crash(): void {
    this.#cut(this.flushLsn);
    this.commitLsn = this.persistedCommitLsn;
    this.#wantedCommit = 0;
  }

  /** Comes back without anything it had. */
  loseDisk(startLsn: number): void {
    this.term = 0n;
    this.history = startLsn === 0 ? [] : [{ term: 0n, lsn: lsn(startLsn) }];
    this.log = [];
    this.writeLsn = startLsn;
    this.flushLsn = startLsn;
    this.commitLsn = startLsn;
    this.persistedCommitLsn = startLsn;
    this.#wantedCommit = 0;
  }

  #wantedCommit = 0;

  #onGreeting(message: ProposerGreeting): AcceptorMessage | "refused" {
    const theirs = message.configuration;
    if (theirs.generation > this.configuration.generation) {
      if (!isMember(theirs, this.nodeId)) return "refused";
      this.configuration = theirs;
    }
    return { type: "greeting", nodeId: this.nodeId, configuration: this.configuration, term: this.term };
  }

  #onVote(message: VoteRequest): AcceptorMessage | "refused" {
    if (message.generation !== this.configuration.generation) return "refused";
    this.flush();
    const voteGiven = this.term < message.term;
    if (voteGiven) this.term = message.term;
    return {
      type: "vote-response",
      generation: message.generation,
      term: this.term,
      voteGiven,
      flushLsn: lsn(this.flushLsn),
      truncateLsn: lsn(this.truncateLsn),
      history: effectiveHistory(this.history, lsn(this.flushLsn)),
    };
  }

  #onElected(message: ProposerElected): "refused" | undefined {
    if (message.generation !== this.configuration.generation) return "refused";
    if (this.term > message.term) return undefined;
    this.term = message.term;
    this.flush();
    const start = streamingStart(
      message.history,
      effectiveHistory(this.history, lsn(this.flushLsn)),
      lsn(this.flushLsn),
    );
    if (start.lsn !== message.startStreamingAt) return "refused";
    const end = Number(start.lsn);
    if (end < this.commitLsn) throw new Error(`node ${String(this.nodeId)} is told to cut committed WAL`);
    this.#cut(end);
    this.writeLsn = end;
    this.flushLsn = end;
    this.history = message.history;
    return undefined;
  }

  #onAppend(message: ToAcceptor & { readonly type: "append" }): AcceptorMessage | "refused" | undefined {
    if (message.generation !== this.configuration.generation || this.term < message.term) return "refused";
    if (this.term > message.term) {
      return { ...this.flush(), flushLsn: lsn(0), commitLsn: lsn(0) };
    }
    if (Number(message.beginLsn) !== this.writeLsn) return "refused";
    for (const tag of message.wal) {
      this.log[this.writeLsn] = tag;
      this.writeLsn += 1;
    }
    this.#wantedCommit = Math.max(this.#wantedCommit, Number(message.commitLsn));
    this.truncateLsn = Math.max(this.truncateLsn, Number(message.truncateLsn));
    return undefined;
  }

  #cut(end: number): void {
    this.log.length = Math.min(this.log.length, end);
    this.writeLsn = Math.min(this.writeLsn, end);
    this.flushLsn = Math.min(this.flushLsn, end);
  }
}

export function lsn(value: number): Lsn {
  return toLsn(BigInt(value));
}
