/**
 * Compares PostgreSQL's bytes with those of the acceptors, after an election and before anybody is told of it.
 *
 * Positions alone prove nothing: a PostgreSQL that lost the end of its log in a crash, or was restored from a
 * backup, writes on at the same LSNs with other bytes. So the stretch [K, L) below the start L of the term is read
 * from PostgreSQL and its sha256 compared with what every voter that holds it says. Where a voter's log parts from
 * the adopted one earlier, the stretch it will keep is compared. K is the start of the segment where the known
 * commit position lies, as nobody gives away less than whole segments, but at most `windowBytes` below L. Where both
 * sides still have it, a stretch of DIVERGENCE_WISH_BYTES is compared instead of a shorter one.
 *
 * Equal logs stay untouched and so do different ones: this only reads. One voter with the whole stretch must answer,
 * or the election has not been checked. The decoder reads along, so that the first record of the term must name the
 * last one before it as its predecessor.
 */
import {
  addBytes,
  blockStart,
  distanceBytes,
  formatLsn,
  maxLsn,
  minLsn,
  segmentNumber,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { CatchUpStream } from "./catch-up.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";
import { PrefixDigest } from "./prefix-digest.js";
import type { StreamDecoder } from "./stream-decoder.js";
import { delay, withinTime } from "./timers.js";
import type { Clock } from "./timers.js";

/** How far below the start of a term the bytes are compared at most. */
export const DIVERGENCE_WINDOW_BYTES_DEFAULT: number = 64 * 1024 * 1024;
/**
 * How far below the start of a term the comparison reaches back at least, where both sides still have that WAL: right
 * behind the start of a segment a few bytes would be left otherwise, which say little.
 */
export const DIVERGENCE_WISH_BYTES: number = 1024 * 1024;
/** How often all voters are asked before the check is given up; the owner's next bridge tries again. */
const ROUNDS_MAX = 5;
/** Into how many pieces a stretch is cut to say where it differs; one more question for each doubling. */
const PIECES = 64;
const SHA256 = /^[0-9a-f]{64}$/;

/** One acceptor whose vote counted, or that voted since. */
export interface Voter {
  /** host:port */
  readonly name: string;
  /** Up to here its log is the adopted one; the rest of it will be cut off. */
  readonly endLsn: Lsn;
  /** sha256 of what this acceptor holds between the two positions. */
  digest(fromLsn: Lsn, untilLsn: Lsn, signal: AbortSignal): Promise<string>;
}

/** See the members. */
export interface DivergenceCheckOptions {
  readonly fromLsn: Lsn;
  readonly termStartLsn: Lsn;
  /** Asked again in each round: after a quorum of votes the others come in. */
  readonly voters: () => readonly Voter[];
  /** PostgreSQL's WAL from `fromLsn` on. Given: closed here. */
  readonly stream: CatchUpStream;
  /** Stands at `fromLsn`; stands at `termStartLsn` afterwards. */
  readonly decoder: Pick<StreamDecoder, "feed">;
  readonly retryMs: number;
  /** How often all voters are asked; default ROUNDS_MAX. */
  readonly rounds?: number;
  /** Longest wait for one digest. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Where a comparison that ends at `termStartLsn` begins; see the header. */
export function comparisonStart(options: {
  /** Where the log begins. */
  readonly beginLsn: Lsn;
  readonly termStartLsn: Lsn;
  /** The highest commit position that is known. */
  readonly commitLsn: Lsn;
  readonly truncateLsn: Lsn;
  readonly windowBytes: number;
  readonly segmentBytes: number;
}): Lsn {
  const { beginLsn, termStartLsn, segmentBytes } = options;
  if (termStartLsn <= beginLsn) return termStartLsn;
  const lastByte = addBytes(termStartLsn, -1);
  // One byte back, so that a term that starts with a segment is not left without any comparison.
  const known = minLsn(lastByte, maxLsn(options.commitLsn, options.truncateLsn));
  const windowBytes = Math.min(options.windowBytes, Number(termStartLsn));
  return maxLsn(
    beginLsn,
    segmentStart(segmentNumber(known, segmentBytes), segmentBytes),
    blockStart(addBytes(termStartLsn, -windowBytes)),
  );
}

/**
 * Where a comparison begins that is longer than it has to be, or `comparisonStart` itself.
 *
 * That one is the rule: everybody has WAL from there on. Below it, PostgreSQL and acceptors have what they have not removed
 * yet, so a comparison from here may turn out to be impossible, which proves nothing.
 */
export function wishedStart(options: Parameters<typeof comparisonStart>[0]): Lsn {
  const startLsn = comparisonStart(options);
  const { beginLsn, termStartLsn, windowBytes } = options;
  if (startLsn >= termStartLsn) return startLsn;
  const wishBytes = Math.min(DIVERGENCE_WISH_BYTES, windowBytes, Number(termStartLsn));
  return minLsn(startLsn, maxLsn(beginLsn, blockStart(addBytes(termStartLsn, -wishBytes))));
}

/**
 * Resolves if PostgreSQL and the voters agree.
 *
 * @throws {ProposerError} ERR_BRIDGE_DIVERGED; ERR_BRIDGE_ACCEPTOR if no voter with the whole stretch answers;
 *   ERR_BRIDGE_WAL_INVALID, ERR_BRIDGE_WAL_REMOVED, ERR_BRIDGE_WAL_GAP, ERR_BRIDGE_POSTGRES
 */
export async function checkDivergence(options: DivergenceCheckOptions): Promise<void> {
  const { fromLsn, termStartLsn, voters } = options;
  if (fromLsn >= termStartLsn) {
    options.stream.close();
    return;
  }
  const ends = voters().map(({ endLsn }) => minLsn(endLsn, termStartLsn));
  const pieces = pieceEnds(fromLsn, termStartLsn);
  const own = new PrefixDigest(fromLsn, [...pieces, ...ends.filter((lsn) => lsn > fromLsn)]);
  await readOwn(options, own);
  const { differing, equal } = await askVoters(options, own);
  if (differing.length > 0) throw await divergedError(options, own, differing, equal);
}

/** Ends of PIECES pieces of the stretch, the last one its own end. */
function pieceEnds(fromLsn: Lsn, untilLsn: Lsn): readonly Lsn[] {
  const bytes = Number(distanceBytes(fromLsn, untilLsn));
  const pieceBytes = Math.ceil(bytes / PIECES);
  const count = Math.ceil(bytes / pieceBytes);
  return Array.from({ length: count }, (_, index) =>
    minLsn(untilLsn, addBytes(fromLsn, pieceBytes * (index + 1))),
  );
}

/** Reads the stretch from PostgreSQL, past the digest and the decoder. */
async function readOwn(options: DivergenceCheckOptions, own: PrefixDigest): Promise<void> {
  const { stream, decoder, termStartLsn, signal } = options;
  const stop = (): void => stream.close();
  signal.addEventListener("abort", stop);
  try {
    while (!own.complete) {
      const { startLsn, bytes } = await stream.next();
      const wantedBytes = distanceBytes(startLsn, termStartLsn);
      const wanted = wantedBytes < bytes.byteLength ? bytes.subarray(0, Number(wantedBytes)) : bytes;
      own.add(wanted);
      decoder.feed(wanted);
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stream.close();
  }
}

/** What the voters said; those that said nothing are in neither list. */
interface Answers {
  readonly differing: readonly Voter[];
  /** Agree on the whole stretch. */
  readonly equal: readonly Voter[];
}

/** Asks until one voter has given an answer for the whole stretch, or any a different one. */
async function askVoters(options: DivergenceCheckOptions, own: PrefixDigest): Promise<Answers> {
  const { fromLsn, termStartLsn, clock, retryMs, signal, rounds = ROUNDS_MAX } = options;
  let detail = "none of them has all of it";
  for (let round = 1; round <= rounds && !signal.aborted; round += 1) {
    const differing: Voter[] = [];
    const equal: Voter[] = [];
    const answers = options.voters().map(async (voter) => {
      const untilLsn = comparableEnd(options, own, voter);
      if (untilLsn === undefined) return; // it will get the whole stretch from here
      try {
        const digest = await ask(options, voter, untilLsn);
        if (digest !== own.at(untilLsn)) differing.push(voter);
        else if (untilLsn === termStartLsn) equal.push(voter);
      } catch (error) {
        detail = `${voter.name}: ${error instanceof Error ? error.message : String(error)}`;
        publishNotice({ type: "warning", warning: "digest_unavailable", detail });
      }
    });
    await Promise.all(answers);
    if (equal.length > 0 || differing.length > 0) return { differing, equal };
    if (round < rounds) await delay(clock, retryMs, signal);
  }
  const from = formatLsn(fromLsn);
  throw new ProposerError(
    "ERR_BRIDGE_ACCEPTOR",
    `PostgreSQL's WAL from ${from} to ${formatLsn(termStartLsn)} could not be compared with any acceptor's (${detail})`,
  );
}

/** Up to where the voter's log can be compared; undefined if it keeps nothing of the stretch. */
function comparableEnd(options: DivergenceCheckOptions, own: PrefixDigest, voter: Voter): Lsn | undefined {
  const { fromLsn, termStartLsn } = options;
  const endLsn = minLsn(voter.endLsn, termStartLsn);
  if (own.at(endLsn) !== undefined) return endLsn;
  return pieceEnds(fromLsn, termStartLsn).findLast((lsn) => lsn <= endLsn); // it voted after the stretch was read
}

/** One question with a time limit. */
async function ask(options: DivergenceCheckOptions, voter: Voter, untilLsn: Lsn): Promise<string> {
  const { clock, timeoutMs, fromLsn } = options;
  const digest = await withinTime(clock, timeoutMs, options.signal, (signal) =>
    voter.digest(fromLsn, untilLsn, signal),
  );
  if (SHA256.test(digest)) return digest;
  throw new Error(`${JSON.stringify(digest.slice(0, 100))} is no sha256`);
}

async function divergedError(
  options: DivergenceCheckOptions,
  own: PrefixDigest,
  differing: readonly Voter[],
  equal: readonly Voter[],
): Promise<ProposerError> {
  const places = await Promise.all(differing.map((voter) => describeDifference(options, own, voter)));
  const advice =
    equal.length === 0
      ? "rebuild or rewind this PostgreSQL so that it continues the acceptors' WAL"
      : `it agrees with ${equal.map(({ name }) => name).join(", ")}: rebuild the acceptors that differ`;
  return new ProposerError(
    "ERR_BRIDGE_DIVERGED",
    `PostgreSQL's WAL is not what acceptors hold: ${places.join("; ")}. Nothing was changed on any acceptor; ${advice}`,
  );
}

/** Names the stretch where the first difference lies, as closely as the voter's answers tell. */
async function describeDifference(
  options: DivergenceCheckOptions,
  own: PrefixDigest,
  voter: Voter,
): Promise<string> {
  const { fromLsn, termStartLsn } = options;
  const endLsn = comparableEnd(options, own, voter) ?? termStartLsn;
  const ends = [...pieceEnds(fromLsn, termStartLsn).filter((lsn) => lsn < endLsn), endLsn];
  let [low, high] = [0, ends.length - 1]; // the first piece whose end differs is in [low, high]
  try {
    while (low < high) {
      const middle = (low + high) >> 1;
      const end = ends[middle] ?? endLsn;
      if ((await ask(options, voter, end)) === own.at(end)) low = middle + 1;
      else high = middle;
    }
  } catch {
    // It has stopped answering: what is known already is enough to say.
  }
  const from = formatLsn(ends[low - 1] ?? fromLsn);
  return `${voter.name} differs between ${from} and ${formatLsn(ends[high] ?? endLsn)}`;
}
