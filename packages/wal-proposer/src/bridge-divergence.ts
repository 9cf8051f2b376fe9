/**
 * The divergence check as the bridge runs it: which stretch, which voters, and what to do without digests.
 *
 * Kept apart from the check itself, which knows neither options nor acceptor addresses.
 */
import type { Lsn } from "@millrace/lsn";
import type { BridgeSettings } from "./bridge-options.js";
import { publishNotice } from "./diagnostics.js";
import { checkDivergence, comparisonStart, wishedStart } from "./divergence-check.js";
import type { Voter } from "./divergence-check.js";
import { ProposerError } from "./errors.js";
import type { PostgresIdentity } from "./postgres-connection.js";
import { openForCheck } from "./primary-source.js";
import type { PrimaryOptions } from "./primary-source.js";
import type { ElectionResult } from "./proposer-options.js";
import { StreamDecoder } from "./stream-decoder.js";

/** How the comparison of a term ended. */
export type DivergenceResult =
  | "equal" // PostgreSQL and at least one voter have the same bytes below the term
  | "nothing" // the log begins with the term
  | "unchecked" // there was no way to ask for digests
  | "diverged" // the bytes differ
  | "lost" // PostgreSQL's log ends, or left its timeline, below the start of the term
  | "failed"; // it came to no result

/** What an error of the comparison says about its result. */
export function divergenceResultOf(error: unknown): DivergenceResult {
  const code = error instanceof ProposerError ? error.code : undefined;
  if (code === "ERR_BRIDGE_DIVERGED") return "diverged";
  return code === "ERR_BRIDGE_WAL_LOST" ? "lost" : "failed";
}

/** What a comparison leaves. */
export interface Comparison {
  readonly result: DivergenceResult;
  /** Stands at the term's start and has seen what is before; undefined if nothing was compared. */
  readonly decoder: StreamDecoder | undefined;
}

/** See the members. */
export interface CompareOptions {
  readonly primary: PrimaryOptions;
  readonly settings: BridgeSettings;
  readonly identity: PostgresIdentity;
  readonly result: ElectionResult;
  /** For each acceptor, up to where its log is the adopted one; undefined for those that have not voted. */
  readonly commonLsns: () => readonly (Lsn | undefined)[];
  /** The highest commit position that acceptors showed before the election. */
  readonly commitLsn: Lsn;
}

/**
 * Compares PostgreSQL's bytes below the term's start with those of the voters.
 *
 * @returns also if there was nothing to compare, or nobody to ask (a warning says so then)
 * @throws {ProposerError} as `checkDivergence` and `openForCheck`
 */
export async function compareWithAcceptors(options: CompareOptions): Promise<Comparison> {
  const { settings, identity, result, primary } = options;
  const { digest, clock } = settings;
  const { termStartLsn, truncateLsn, history } = result;
  const beginLsn = history[0]?.lsn ?? termStartLsn;
  const stretch = {
    beginLsn,
    termStartLsn,
    truncateLsn,
    commitLsn: options.commitLsn,
    windowBytes: settings.divergenceWindowBytes,
    segmentBytes: identity.segmentBytes,
  };
  const fromLsn = comparisonStart(stretch);
  if (fromLsn === termStartLsn) return { result: "nothing", decoder: undefined };
  if (digest === undefined) {
    const detail = "no digest function was given: only positions are compared with the acceptors";
    publishNotice({ type: "warning", warning: "divergence_unchecked", detail });
    return { result: "unchecked", decoder: undefined };
  }
  const voters = (): readonly Voter[] => {
    const commonLsns = options.commonLsns();
    return settings.acceptors.flatMap((acceptor, index): Voter[] => {
      const endLsn = commonLsns[index];
      if (endLsn === undefined) return [];
      const name = `${acceptor.host}:${acceptor.port}`;
      return [{ name, endLsn, digest: (from, until, signal) => digest(acceptor, from, until, signal) }];
    });
  };
  const compare = async (startLsn: Lsn, rounds?: number): Promise<Comparison> => {
    const start = startLsn === beginLsn ? "record" : "anywhere";
    const decoder = new StreamDecoder(identity, primary.history.ids, startLsn, start);
    await checkDivergence({
      fromLsn: startLsn,
      termStartLsn,
      voters,
      stream: await openForCheck(primary, startLsn),
      decoder,
      retryMs: settings.reconnectMs,
      timeoutMs: settings.connectionTimeoutMs,
      clock,
      signal: primary.signal,
      ...(rounds === undefined ? {} : { rounds }),
    });
    return { result: "equal", decoder };
  };
  const wishedLsn = wishedStart(stretch);
  if (wishedLsn < fromLsn) {
    try {
      return await compare(wishedLsn, 1);
    } catch (error) {
      if (!isImpossible(error)) throw error;
    }
  }
  return await compare(fromLsn);
}

/** Somebody does not have the WAL any more: neither a difference nor a failure. */
function isImpossible(error: unknown): boolean {
  const code = error instanceof ProposerError ? error.code : undefined;
  return code === "ERR_BRIDGE_WAL_REMOVED" || code === "ERR_BRIDGE_ACCEPTOR";
}
