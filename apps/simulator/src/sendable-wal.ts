/**
 * The WAL that a proposer can send by itself; what lies before it has to come from another acceptor.
 *
 * One whose PostgreSQL keeps everything has all of it. One whose PostgreSQL keeps nothing has what is recent, and never
 * loses what a quorum may still need, as production does not read on while a quorum cannot follow. One that only
 * synchronises acceptors has no PostgreSQL: its log ends where its term starts, and it has none of it.
 */
import { maxLsn, minLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ProposerCore } from "@millrace/wal-proposer";
import type { Database } from "./adopted-log.js";
import type { Random } from "./random.js";

/** Bytes that count as recent; about twice what a database writes before it waits for a commit. */
const RECENT_BYTES = 96n * 1024n;

/** How much of it there is. */
export type WalKept = "all" | "recent" | "nothing";

/** What one proposer process has. */
export class SendableWal {
  readonly #database: Database;
  readonly #core: ProposerCore;
  readonly #kept: WalKept;

  constructor(database: Database, core: ProposerCore, kept: WalKept) {
    this.#database = database;
    this.#core = core;
    this.#kept = kept;
  }

  get endLsn(): Lsn {
    return this.#kept === "nothing" ? this.#core.termStartLsn : this.#database.log.endLsn;
  }

  get beginLsn(): Lsn {
    const { termStartLsn, commitLsn } = this.#core;
    if (this.#kept === "nothing") return termStartLsn;
    if (this.#kept === "all") return this.#database.log.startLsn;
    return maxLsn(termStartLsn, minLsn(commitLsn, (this.endLsn - RECENT_BYTES) as Lsn));
  }

  /** From here on an acceptor can be served without falling out again at once. */
  get servedFromLsn(): Lsn {
    return (this.beginLsn + (this.endLsn - this.beginLsn) / 2n) as Lsn;
  }

  /** How far it has come by now: what a walsender has sent so far ends anywhere, also inside a record. */
  available(wantedLsn: Lsn, random: Random): Lsn {
    if (this.endLsn <= wantedLsn || random.chance(0.5)) return this.endLsn;
    return minLsn(this.endLsn, (wantedLsn + 1n + BigInt(random.below(6000))) as Lsn);
  }
}
