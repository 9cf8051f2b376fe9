/**
 * After an election: getting the adopted WAL from a donor, and deciding whether the winner's database continues it.
 *
 * A database whose bytes below the term's start are the adopted ones goes on, with whatever it has written above. Any
 * other has lost or diverged; in its place a new primary starts from the donor's bytes, and writes different ones.
 */
import type { Lsn } from "@millrace/lsn";
import { sameBytes } from "./byte-log.js";
import type { ElectedTerm } from "./ledger.js";
import type { Endpoint } from "./network.js";
import { show } from "./verdict.js";
import { WalLog } from "./wal-log.js";
import type { World } from "./world.js";

/** Bytes asked of a donor at once. */
const FETCH_BYTES = 512 * 1024;
/** A proposer that gets none of the adopted WAL for so long starts over. */
const FETCH_LIMIT_MS = 4000;
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
  /** Whether nobody waits for the result any more. */
  readonly isOver: () => boolean;
}

/** All WAL below the term's start, or undefined if nobody gives it. */
export async function fetchAdopted(
  world: World,
  elected: ElectedTerm,
  fetcher: Fetcher,
): Promise<Uint8Array | undefined> {
  const { startLsn, time } = world;
  const whole = new Uint8Array(Number(elected.termStartLsn - startLsn));
  let deadlineMs = time.nowMs + FETCH_LIMIT_MS;
  let filled = 0;
  while (filled < whole.byteLength) {
    if (fetcher.isOver() || time.nowMs > deadlineMs) return undefined;
    const from = (startLsn + BigInt(filled)) as Lsn;
    const wanted = Math.min(FETCH_BYTES, whole.byteLength - filled);
    const bytes = await world.readFrom(fetcher.endpoint, fetcher.donor(), from, wanted, elected.term);
    if (bytes === undefined || bytes.byteLength === 0) {
      await time.sleep(RETRY_MS);
      continue;
    }
    whole.set(bytes, filled);
    filled += bytes.byteLength;
    deadlineMs = time.nowMs + FETCH_LIMIT_MS;
  }
  return whole;
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
