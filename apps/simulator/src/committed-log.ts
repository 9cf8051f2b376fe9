/**
 * What is committed: bytes that a quorum of a configuration has acknowledged in one term, from the start of that term
 * on. Decided here, from acknowledgements alone; nobody's own opinion is asked.
 *
 * Once something is in here nobody may show other bytes below its end, and no later term may begin without it.
 */
import { INVALID_LSN, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { ByteLog } from "./byte-log.js";
import type { Coverage } from "./coverage.js";
import { termKey } from "./elections.js";
import type { ElectedTerm, Elections } from "./elections.js";
import { quorumEnd } from "./quorum-arithmetic.js";
import type { NodeRecord, StoredLogs } from "./stored-logs.js";
import { show } from "./verdict.js";
import type { Verdict } from "./verdict.js";
import { WAL_SHAPE } from "./wal-log.js";

interface TermAcks {
  readonly byNode: Map<bigint, Lsn>;
  /** What a quorum of them covers. */
  quorumLsn: Lsn;
}

/** See the members. */
export interface CommittedLogOptions {
  readonly verdict: Verdict;
  readonly coverage: Coverage;
  readonly startLsn: Lsn;
  readonly elections: Elections;
  readonly logs: StoredLogs;
}

/** The committed log of one run. */
export class CommittedLog {
  readonly #options: CommittedLogOptions;
  readonly #bytes: ByteLog;
  readonly #acks = new Map<string, TermAcks>();
  /** In the order of their making: ends rise, and so do terms. */
  readonly #commits: { readonly term: bigint; readonly endLsn: Lsn }[] = [];

  constructor(options: CommittedLogOptions) {
    this.#options = options;
    this.#bytes = new ByteLog(options.startLsn);
  }

  get endLsn(): Lsn {
    return this.#bytes.endLsn;
  }

  /** Committed bytes of [from, to), borrowed; what is not committed is cut off. */
  view(from: Lsn, to: Lsn): Uint8Array {
    return this.#bytes.view(from, to);
  }

  /** End of what had been committed by `term` or an earlier one. */
  endBy(term: bigint): Lsn {
    for (let index = this.#commits.length - 1; index >= 0; index -= 1) {
      const commit = this.#commits[index];
      if (commit !== undefined && commit.term <= term) return commit.endLsn;
    }
    return INVALID_LSN;
  }

  /** How far a quorum has acknowledged in that term; 0/0 if nowhere. */
  backedBy({ term, generation }: ElectedTerm): Lsn {
    const configuration = this.#options.elections.configuration(generation);
    const acks = this.#acks.get(termKey(term, generation));
    if (configuration === undefined) return INVALID_LSN;
    return quorumEnd(configuration, (nodeId) => acks?.byNode.get(nodeId) ?? INVALID_LSN);
  }

  /** An acceptor has acknowledged `flushLsn`, at or behind the start of `elected`. */
  onAcknowledged(nodeId: bigint, elected: ElectedTerm, generation: number, flushLsn: Lsn): void {
    const key = termKey(elected.term, generation);
    const acks = this.#acks.get(key) ?? { byNode: new Map(), quorumLsn: INVALID_LSN };
    this.#acks.set(key, acks);
    acks.byNode.set(nodeId, flushLsn);
    // An acknowledgement under another generation than the election's counts for nothing.
    if (generation !== elected.generation) return;
    const endLsn = this.backedBy(elected);
    if (endLsn <= acks.quorumLsn) return;
    acks.quorumLsn = endLsn;
    this.#commit(elected, endLsn, acks);
  }

  #commit(elected: ElectedTerm, endLsn: Lsn, acks: TermAcks): void {
    const { verdict, elections, logs, coverage } = this.#options;
    for (const later of elections.terms) {
      verdict.check(later.term <= elected.term || later.termStartLsn >= endLsn, "I2 LogSafety", () => {
        return `term ${String(later.term)} began at ${show(later.termStartLsn)} without ${show(endLsn)}, committed in term ${String(elected.term)}`;
      });
    }
    const from = this.endLsn;
    if (endLsn <= from) return;
    for (const [nodeId, flushLsn] of acks.byNode) {
      if (flushLsn < endLsn) continue;
      const node = logs.get(nodeId);
      if (endLsn > node.shadow.endLsn) node.shadow.setEnd(endLsn);
      if (this.endLsn < endLsn) this.#bytes.put(from, node.shadow.view(from, endLsn));
      this.verify(node, endLsn, (at) => {
        return `${node.name} is counted for ${show(endLsn)} in term ${String(elected.term)} with other bytes at ${at}`;
      });
    }
    this.#commits.push({ term: elected.term, endLsn });
    coverage.count("commit");
    const { segmentBytes } = WAL_SHAPE;
    if (segmentNumber(from, segmentBytes) !== segmentNumber(endLsn, segmentBytes))
      coverage.count("segment-crossed");
  }

  /** A term begins: it must have everything that earlier ones have committed. */
  checkStart({ term, termStartLsn, proposer }: ElectedTerm): void {
    for (const commit of this.#commits) {
      this.#options.verdict.check(
        commit.term >= term || commit.endLsn <= termStartLsn,
        "I2 LogSafety",
        () =>
          `${proposer} begins term ${String(term)} at ${show(termStartLsn)} without ${show(commit.endLsn)}, committed in term ${String(commit.term)}`,
      );
    }
  }

  /** What a node has below `endLsn`, as far as that is committed, must be the committed bytes. */
  verify(node: NodeRecord, endLsn: Lsn, detail: (at: string) => string): void {
    const end = endLsn < this.endLsn ? endLsn : this.endLsn;
    if (end <= node.verifiedLsn) return;
    if (end > node.shadow.endLsn) node.shadow.setEnd(end);
    const mine = node.shadow.view(node.verifiedLsn, end);
    const truth = this.#bytes.view(node.verifiedLsn, end);
    this.#options.verdict.compare(mine, truth, node.verifiedLsn, "I2 LogSafety", detail);
    node.verifiedLsn = end;
  }
}
