/**
 * What readers may be given (I13), checked in the moment in which a sender hands it to the network.
 *
 * Without a term: only what lies below that acceptor's commit position, which then is committed, byte for byte. With a
 * term: only what that acceptor has durable, and only while it is in that very term.
 */
import type { Lsn } from "@millrace/lsn";
import type { CommittedLog } from "./committed-log.js";
import type { ElectedTerm } from "./elections.js";
import type { StoredLogs } from "./stored-logs.js";
import { show } from "./verdict.js";
import type { Verdict } from "./verdict.js";

/** A piece of WAL on its way to a reader. */
export interface ServedWal {
  readonly nodeId: bigint;
  readonly startLsn: Lsn;
  /** Borrowed. */
  readonly bytes: Uint8Array;
  /** How far this reader may go on that acceptor at this moment. */
  readonly limitLsn: Lsn;
}

/** The checks of one run. */
export class ReaderChecks {
  readonly #verdict: Verdict;
  readonly #committed: CommittedLog;
  readonly #logs: StoredLogs;

  constructor(verdict: Verdict, committed: CommittedLog, logs: StoredLogs) {
    this.#verdict = verdict;
    this.#committed = committed;
    this.#logs = logs;
  }

  /** A reader without a term is sent WAL. */
  onCommitted(served: ServedWal): void {
    this.#checkLimit(served, "commit");
    this.onRead(`a reader of ${this.#logs.get(served.nodeId).name}`, served.startLsn, served.bytes);
  }

  /** A reader that asked for `term` is sent WAL by an acceptor that is in `acceptorTerm`. */
  onDurable(term: bigint, acceptorTerm: bigint, served: ServedWal): void {
    const node = this.#logs.get(served.nodeId);
    this.#verdict.check(term === acceptorTerm, "I13 ReaderLimits", () => {
      return `a reader of ${node.name} in term ${String(term)} is given WAL at ${show(served.startLsn)} in term ${String(acceptorTerm)}`;
    });
    this.#checkLimit(served, "flush");
    // Behind a switch of segments a log ends where the next one begins, whatever of the zeros has come.
    if (endOf(served) > node.shadow.endLsn) node.shadow.setEnd(endOf(served));
    const own = node.shadow.view(served.startLsn, endOf(served));
    this.#verdict.compare(served.bytes, own, served.startLsn, "I13 ReaderLimits", (at) => {
      return `a reader of ${node.name} is given other bytes at ${at} than it has`;
    });
  }

  /** Somebody gets to see what is said to be committed. */
  onRead(reader: string, fromLsn: Lsn, bytes: Uint8Array): void {
    const endLsn = (fromLsn + BigInt(bytes.byteLength)) as Lsn;
    this.#verdict.check(endLsn <= this.#committed.endLsn, "I13 ReaderLimits", () => {
      return `${reader} is given WAL up to ${show(endLsn)}, committed is ${show(this.#committed.endLsn)}`;
    });
    const truth = this.#committed.view(fromLsn, endLsn);
    this.#verdict.compare(bytes, truth, fromLsn, "I13 ReaderLimits", (at) => {
      return `${reader} is given other bytes at ${at} than were committed`;
    });
  }

  /** A stream has to go on where it was: `startLsn` was received where `expectedLsn` comes next. */
  onReceived(reader: string, startLsn: Lsn, expectedLsn: Lsn): void {
    this.#verdict.check(startLsn === expectedLsn, "I13 ReaderLimits", () => {
      return `${reader} is given WAL at ${show(startLsn)} instead of ${show(expectedLsn)}`;
    });
  }

  /** A donor has given away WAL in the term of `elected`: it is that term's log. */
  onDonated({ term, log }: ElectedTerm, startLsn: Lsn, bytes: Uint8Array): void {
    if (log === undefined) return;
    const known = log.view(startLsn, (startLsn + BigInt(bytes.byteLength)) as Lsn);
    this.#verdict.compare(
      bytes.subarray(0, known.byteLength),
      known,
      startLsn,
      "I6 LogMatching",
      (at) => `a donor gives away other bytes at ${at} than the leader of term ${String(term)} has`,
    );
  }

  #checkLimit(served: ServedWal, limit: string): void {
    this.#verdict.check(endOf(served) <= served.limitLsn, "I13 ReaderLimits", () => {
      const { name } = this.#logs.get(served.nodeId);
      return `a reader of ${name} is given WAL up to ${show(endOf(served))}, its ${limit} position is ${show(served.limitLsn)}`;
    });
  }
}

function endOf({ startLsn, bytes }: ServedWal): Lsn {
  return (startLsn + BigInt(bytes.byteLength)) as Lsn;
}
