/**
 * How many pages with a wrong checksum were found, for each database and for what all databases share.
 *
 * Like pg_stat_database.checksum_failures. Counted once a page and read, by the thread that wanted it. The table is in shared
 * memory and fixed; databases beyond it are counted together. Entry 0 is that of shared relations, the last one everybody
 * else's; a database takes an entry by storing its number there first.
 */
import { CHECKSUM_FAILURES_ENTRIES } from "./layout.js";

/** Words of an entry: the database, the count. */
const ENTRY_WORDS = 2;

/** A row of the table. */
export interface ChecksumFailureRow {
  /** null for relations that all databases share, "others" for databases beyond the table. */
  readonly database: number | null | "others";
  readonly failures: number;
}

/** Counts. @param at first word of the table; @param database 0 for shared relations */
export function countChecksumFailures(
  words: Int32Array,
  at: number,
  database: number,
  failures: number,
): void {
  Atomics.add(words, at + entryOf(words, at, database) * ENTRY_WORDS + 1, failures);
}

function entryOf(words: Int32Array, at: number, database: number): number {
  if (database === 0) return 0;
  const last = CHECKSUM_FAILURES_ENTRIES - 1;
  for (let entry = 1; entry < last; entry++) {
    const before = Atomics.compareExchange(words, at + entry * ENTRY_WORDS, 0, database | 0);
    if (before === 0 || before === (database | 0)) return entry;
  }
  return last;
}

/** Rows with failures. */
export function checksumFailureRows(words: Int32Array, at: number): ChecksumFailureRow[] {
  const rows: ChecksumFailureRow[] = [];
  for (let entry = 0; entry < CHECKSUM_FAILURES_ENTRIES; entry++) {
    const failures = Atomics.load(words, at + entry * ENTRY_WORDS + 1);
    if (failures === 0) continue;
    const number = Atomics.load(words, at + entry * ENTRY_WORDS) >>> 0;
    const database = entry === 0 ? null : entry === CHECKSUM_FAILURES_ENTRIES - 1 ? "others" : number;
    rows.push({ database, failures });
  }
  return rows;
}
