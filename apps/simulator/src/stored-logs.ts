/**
 * What every acceptor's store was told to keep: a record for each node, kept over its crashes.
 *
 * The bytes here come from the calls into the stores and from nowhere else, so what a store shows later, from memory or
 * from a disk that has lost power, can be held against them. Also what each node has promised about its log, until it is
 * released from the promise by a legitimate cut.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { ByteLog } from "./byte-log.js";
import type { Coverage } from "./coverage.js";
import { show } from "./verdict.js";
import type { Verdict } from "./verdict.js";

/** What is known of one acceptor from outside. Kept over its crashes. */
export interface NodeRecord {
  readonly name: string;
  readonly nodeId: bigint;
  /** Which copy of the timeline this is about, of all there ever were. */
  readonly copy: number;
  /** Everything its store was given, cut where the store was told to cut. */
  readonly shadow: ByteLog;
  /** Where the next write has to begin; undefined until a truncation has said so. */
  nextWriteLsn: Lsn | undefined;
  /** Acknowledged and not legitimately cut off since; in which term, if the term had begun by then. */
  ackedLsn: Lsn;
  ackedTerm: bigint;
  /** Highest term it has shown to anybody. */
  shownTerm: bigint;
  /** Highest term it has voted in. */
  votedTerm: bigint;
  /** Highest commit position shown in this life of the process. */
  commitLsn: Lsn;
  /** The commit position that a restart would find. */
  persistedCommitLsn: Lsn;
  /** Its bytes agree with the committed ones up to here. */
  verifiedLsn: Lsn;
  /** Its bytes agree with the log of the leader of `matchedTerm` up to here. */
  matchedLsn: Lsn;
  matchedTerm: bigint;
}

/** All acceptors' logs. */
export class StoredLogs {
  readonly #verdict: Verdict;
  readonly #coverage: Coverage;
  readonly #startLsn: Lsn;
  /** Where a term starts, if somebody has won it. */
  readonly #termStart: (term: bigint) => Lsn | undefined;
  readonly #nodes = new Map<bigint, NodeRecord>();
  #copies = 0;

  constructor(options: {
    readonly verdict: Verdict;
    readonly coverage: Coverage;
    readonly startLsn: Lsn;
    readonly termStart: (term: bigint) => Lsn | undefined;
  }) {
    this.#verdict = options.verdict;
    this.#coverage = options.coverage;
    this.#startLsn = options.startLsn;
    this.#termStart = options.termStart;
  }

  /** The record of a node that was added. */
  get(nodeId: bigint): NodeRecord {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) throw new Error(`no node ${String(nodeId)}`);
    return node;
  }

  /** A node gets the timeline, for the first time or again: it has promised nothing yet. */
  add(nodeId: bigint, name: string): void {
    this.#copies += 1;
    this.#nodes.set(nodeId, {
      name,
      copy: this.#copies,
      nodeId,
      shadow: new ByteLog(this.#startLsn),
      nextWriteLsn: undefined,
      ackedLsn: INVALID_LSN,
      ackedTerm: 0n,
      shownTerm: 0n,
      votedTerm: 0n,
      commitLsn: INVALID_LSN,
      persistedCommitLsn: INVALID_LSN,
      verifiedLsn: this.#startLsn,
      matchedLsn: this.#startLsn,
      matchedTerm: 0n,
    });
  }

  /** A store is about to write; what of it survives a crash must be what is given here. */
  onWrite(nodeId: bigint, beginLsn: Lsn, buffers: readonly Uint8Array[]): void {
    const node = this.get(nodeId);
    this.#verdict.check(node.nextWriteLsn === beginLsn, "I9 WriteOnce", () => {
      return `${node.name} writes at ${show(beginLsn)}, its log ends at ${show(node.nextWriteLsn)}`;
    });
    let at = beginLsn;
    for (const buffer of buffers) {
      node.shadow.put(at, buffer);
      at = (at + BigInt(buffer.byteLength)) as Lsn;
    }
  }

  /** The write has succeeded, or left the log unable to be written before a truncation. */
  onWritten(nodeId: bigint, endLsn: Lsn | undefined): void {
    this.get(nodeId).nextWriteLsn = endLsn;
  }

  /** A store is about to cut; `commitLsn` is what this acceptor knows to be committed. */
  onTruncate(nodeId: bigint, endLsn: Lsn, commitLsn: Lsn): void {
    const node = this.get(nodeId);
    this.#verdict.check(endLsn >= commitLsn, "I8 TruncateAboveCommit", () => {
      return `${node.name} cuts at ${show(endLsn)}, it knows ${show(commitLsn)} to be committed`;
    });
    node.nextWriteLsn = undefined;
    if (endLsn < node.ackedLsn) {
      node.ackedLsn = endLsn;
      const start = this.#termStart(node.ackedTerm) ?? INVALID_LSN;
      if (endLsn < start) node.ackedTerm = 0n;
    }
    if (endLsn < node.verifiedLsn) node.verifiedLsn = endLsn;
    if (endLsn < node.matchedLsn) node.matchedLsn = endLsn;
  }

  onTruncated(nodeId: bigint, endLsn: Lsn): void {
    const node = this.get(nodeId);
    if (endLsn < node.shadow.endLsn) this.#coverage.count("divergent-tail-cut");
    node.shadow.setEnd(endLsn);
    node.nextWriteLsn = endLsn;
  }

  /** A timeline was put in place from another node's copy. */
  onCopied(nodeId: bigint, bytes: Uint8Array): void {
    const node = this.get(nodeId);
    node.shadow.setEnd(this.#startLsn);
    node.shadow.put(this.#startLsn, bytes);
  }
}
