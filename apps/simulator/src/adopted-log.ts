/**
 * After an election: getting the adopted WAL from a donor, and deciding whether the winner's database continues it.
 *
 * The WAL comes over the proposer's own reader of donors. A database whose bytes below the term's start are the adopted
 * ones goes on, with whatever it has written above. Any other has lost or diverged; in its place a new primary starts
 * from the donor's bytes, and writes different ones.
 */
import type { Lsn } from "@millrace/lsn";
import type { DonorReader } from "@millrace/wal-proposer";
import { sameBytes } from "./byte-log.js";
import type { ElectedTerm } from "./elections.js";
import { messageOf } from "./error-text.js";
import type { Endpoint } from "./network.js";
import { openDonor } from "./reader-connection.js";
import { show } from "./verdict.js";
import { WalLog } from "./wal-log.js";
import type { World } from "./world.js";

/** A proposer that gets none of the adopted WAL for so long starts over. */
const FETCH_LIMIT_MS = 4000;
/** A donor that gives nothing for so long is given up. */
const DONOR_LIMIT_MS = 1500;
const RETRY_MS = 50;

/** A database: its WAL outlives the proposer that sends it. */
export interface Database {
  log: WalLog;
}

/** Who fetches. */
export interface Fetcher {
  readonly endpoint: Endpoint;
  /** Index of the acceptor to ask, at this moment. */
  readonly donor: () => number;
  /** Aborted once nobody waits for the result any more. */
  readonly signal: AbortSignal;
}

/** All WAL below the term's start, or undefined if nobody gives it. */
export async function fetchAdopted(
  world: World,
  elected: ElectedTerm,
  fetcher: Fetcher,
): Promise<Uint8Array | undefined> {
  const { startLsn, time, trace } = world;
  const whole = new Uint8Array(Number(elected.termStartLsn - startLsn));
  let deadlineMs = time.nowMs + FETCH_LIMIT_MS;
  let filled = 0;
  while (filled < whole.byteLength) {
    if (fetcher.signal.aborted || time.nowMs > deadlineMs) return undefined;
    const fromLsn = (startLsn + BigInt(filled)) as Lsn;
    try {
      const stream = await openDonor(world, fetcher.endpoint, fetcher.donor(), {
        term: elected.term,
        fromLsn,
      });
      filled += await readInto(world, stream, whole.subarray(filled), fetcher.signal, () => {
        deadlineMs = time.nowMs + FETCH_LIMIT_MS;
      });
    } catch (error) {
      trace.note("donor-failed", elected.proposer, messageOf(error));
      await time.sleep(RETRY_MS);
    }
  }
  return whole;
}

/** Fills `target` as far as the donor gives; a donor that falls silent ends that. */
async function readInto(
  world: World,
  stream: DonorReader,
  target: Uint8Array,
  signal: AbortSignal,
  onProgress: () => void,
): Promise<number> {
  const { time } = world;
  const close = (): void => stream.close();
  signal.addEventListener("abort", close);
  let filled = 0;
  try {
    if (signal.aborted) return 0;
    while (filled < target.byteLength) {
      const silence = time.after(DONOR_LIMIT_MS, close);
      const { bytes } = await stream.next().finally(() => silence.cancel());
      const wanted = bytes.subarray(0, target.byteLength - filled);
      target.set(wanted, filled);
      filled += wanted.byteLength;
      onProgress();
    }
  } catch (error) {
    if (filled === 0) throw error;
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
  return filled;
}

/** Makes `database` one that continues the adopted WAL, and tells the ledger what the winner will stream. */
export function continueFrom(
  world: World,
  database: Database,
  elected: ElectedTerm,
  adopted: Uint8Array,
): void {
  const { startLsn, ledger, coverage, trace } = world;
  const { termStartLsn } = elected;
  const mine = database.log.view(startLsn, termStartLsn);
  const continues = database.log.isBoundary(termStartLsn) && sameBytes(mine, adopted);
  if (!continues) {
    if (database.log.endLsn > startLsn) coverage.count("divergence-found");
    database.log = new WalLog(startLsn, world.newMark());
    database.log.adopt(adopted);
    coverage.count("catch-up");
  }
  trace.note("log-ready", elected.proposer, elected.term, database.log.endLsn, continues);
  ledger.check(database.log.isBoundary(termStartLsn), "I7 CommitWithinLog", () => {
    return `term ${String(elected.term)} starts at ${show(termStartLsn)}, where no record ends`;
  });
  ledger.onLogReady(elected, database.log);
}
