/**
 * Who reads WAL of one timeline right now: a set of senders, each held by a guard, with what its peer has reported.
 *
 * An entry exists exactly as long as its guard is undisposed. The rows are what an operator looks at (the columns of
 * pg_stat_replication); only the stream that holds a guard writes to it, plain fields, so that keeping them up to date
 * costs the stream nothing. After the walsenders registry of Neon's safekeeper.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { AcceptorError } from "./errors.js";
import { Watch } from "./watch.js";

/** Senders allowed per timeline: far above any fan-out of standbys, and a bound on descriptors and buffers. */
export const SENDERS_PER_TIMELINE_MAX = 256;

/** `startup` before the first byte, `catchup` until the end was reached once, `streaming` after. */
export type SenderPhase = "startup" | "catchup" | "streaming";

/** What a peer has shown itself to be: a pageserver once it sent pageserver feedback. */
export type SenderPeer = "unknown" | "standby" | "pageserver";

/** One sender as a status shows it. Positions a peer has not reported are 0. */
export interface SenderState {
  readonly connectionId: number;
  readonly applicationName: string;
  readonly peer: SenderPeer;
  readonly phase: SenderPhase;
  /** Set for a reader that may go up to the flush position while the term lasts. */
  readonly term: bigint | undefined;
  readonly slot: string | undefined;
  /** The next byte to send. */
  readonly sentLsn: Lsn;
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
}

/** The senders of one timeline. */
export class WalSenderRegistry {
  readonly #senders = new Set<WalSenderGuard>();
  readonly #limit: number;
  /** Grows with every sender that comes, goes, or has heard from its peer. */
  readonly changes: Watch<number> = new Watch(0);

  constructor(limit: number = SENDERS_PER_TIMELINE_MAX) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#senders.size;
  }

  /**
   * Adds a sender; it stays until the guard is disposed.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_CONNECTION_LIMIT
   */
  register(who: Pick<SenderState, "connectionId" | "applicationName" | "term" | "slot">): WalSenderGuard {
    if (this.#senders.size >= this.#limit) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_CONNECTION_LIMIT",
        `too many WAL readers on this timeline, at most ${this.#limit}`,
      );
    }
    const guard = new WalSenderGuard(
      who,
      () => this.#changed(),
      () => {
        if (this.#senders.delete(guard)) this.#changed();
      },
    );
    this.#senders.add(guard);
    this.#changed();
    return guard;
  }

  /** The senders of this moment, oldest first; copies. */
  list(): readonly SenderState[] {
    return [...this.#senders].map((sender) => sender.state());
  }

  #changed(): void {
    this.changes.set(this.changes.value + 1);
  }
}

/** A place in the registry and the row in it; disposing gives it up, twice is allowed. */
export class WalSenderGuard implements Disposable {
  readonly connectionId: number;
  readonly applicationName: string;
  readonly term: bigint | undefined;
  readonly slot: string | undefined;
  peer: SenderPeer = "unknown";
  phase: SenderPhase = "startup";
  sentLsn: Lsn = INVALID_LSN;
  writeLsn: Lsn = INVALID_LSN;
  flushLsn: Lsn = INVALID_LSN;
  applyLsn: Lsn = INVALID_LSN;
  remoteConsistentLsn: Lsn = INVALID_LSN;
  /** Tells those who watch the registry that this row has changed. */
  readonly changed: () => void;
  readonly #unregister: () => void;

  constructor(
    who: Pick<SenderState, "connectionId" | "applicationName" | "term" | "slot">,
    changed: () => void,
    unregister: () => void,
  ) {
    this.connectionId = who.connectionId;
    this.applicationName = who.applicationName;
    this.term = who.term;
    this.slot = who.slot;
    this.changed = changed;
    this.#unregister = unregister;
  }

  /** The row as it is now. */
  state(): SenderState {
    const { connectionId, applicationName, peer, phase, term, slot } = this;
    const { sentLsn, writeLsn, flushLsn, applyLsn, remoteConsistentLsn } = this;
    return {
      connectionId,
      applicationName,
      peer,
      phase,
      term,
      slot,
      sentLsn,
      writeLsn,
      flushLsn,
      applyLsn,
      remoteConsistentLsn,
    };
  }

  [Symbol.dispose](): void {
    this.#unregister();
  }
}
