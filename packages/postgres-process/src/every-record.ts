/**
 * A workload that makes a server write records of nearly every type that it has.
 *
 * For tests of whatever reads WAL: a type that never occurs is never tested. Each part is there for the types named
 * beside it; the tests that use it assert which of them they saw. Runs of the same size do the same statements, while
 * several clients at once make the order differ. A server is asked for `max_prepared_transactions` of at least 2.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PostgresCluster } from "./cluster.js";
import { PostgresProcessError } from "./errors.js";
import type { PostgresInstallation } from "./installation.js";
import { temporaryDirectory } from "./temporary-directory.js";
import { runPostgresTool } from "./tool.js";

/** How much of it: 1 gives some 100 000 records. */
export interface EveryRecordOptions {
  /** Programs that speak to the server: psql and pgbench, of the server's version or another one. */
  readonly tools: PostgresInstallation;
  /** Rows and transactions are multiplied by this. Default: 1. */
  readonly scale?: number;
}

/** Transactions of several clients that lock rows for foreign keys, roll back to savepoints and collide. */
const CLIENTS_SCRIPT = `
\\set parent random(1, 50)
\\set other random(1, 50)
\\set fate random(1, 10)
BEGIN;
INSERT INTO child (parent, text) VALUES (:parent, repeat('c', :other));
SAVEPOINT s;
UPDATE parent SET text = text || 'x' WHERE id = :other AND length(text) < 100;
SELECT * FROM parent WHERE id = :parent FOR SHARE;
ROLLBACK TO s;
SELECT * FROM parent WHERE id = :parent FOR KEY SHARE;
UPDATE hot SET n = n + 1 WHERE id = :other;
\\if :fate = 1
ROLLBACK;
\\else
COMMIT;
\\endif
`;

/** Statements, each in a transaction of its own unless it says otherwise. */
function statements(scale: number): readonly string[] {
  const rows = (count: number): string => String(Math.ceil(count * scale));
  return [
    // Btree: three levels of wide keys (INSERT_UPPER, SPLIT_L and _R, NEWROOT), in and against the order of the keys.
    `CREATE TABLE wide (id int, key text COLLATE "C")`,
    "CREATE INDEX wide_key ON wide (key)",
    `INSERT INTO wide SELECT n, md5(n::text) || repeat('w', 900) FROM generate_series(1, ${rows(4000)}) n`,
    `INSERT INTO wide SELECT n, lpad((100000 - n)::text, 8, '0') || repeat('v', 700) FROM generate_series(1, ${rows(2000)}) n`,
    "CREATE TABLE serial_keys (id int PRIMARY KEY, text text)",
    `INSERT INTO serial_keys SELECT n, 's' FROM generate_series(1, ${rows(12_000)}) n`,
    `INSERT INTO serial_keys SELECT -n, 's' FROM generate_series(1, ${rows(6000)}) n`,
    // Few different keys: posting lists (DEDUP, INSERT_POST), also split ones.
    "CREATE TABLE few (key int, n int)",
    "CREATE INDEX few_key ON few (key)",
    `INSERT INTO few SELECT n % 13, n FROM generate_series(1, ${rows(8000)}) n`,
    `INSERT INTO few SELECT (n * 7) % 23, n FROM generate_series(1, ${rows(8000)}) n`,
    `DELETE FROM few WHERE n % 3 = 0`,
    "VACUUM few",
    `INSERT INTO few SELECT n % 5, n FROM generate_series(1, ${rows(2000)}) n`,
    // Pages that become empty: half-dead, unlinked, used again; the metapage's cleanup and a level cut off.
    `DELETE FROM serial_keys WHERE id BETWEEN ${rows(100)} AND ${rows(11_000)}`,
    "VACUUM serial_keys",
    "VACUUM serial_keys",
    `DELETE FROM wide WHERE id % 10 <> 0`,
    "VACUUM wide",
    "SELECT txid_current()",
    "VACUUM wide",
    `INSERT INTO wide SELECT n, md5((n + 7)::text) || repeat('w', 900) FROM generate_series(1, ${rows(1500)}) n`,
    // Index tuples that lookups found dead are deleted by the next insert that needs room (Btree DELETE).
    "CREATE TABLE churn (id int PRIMARY KEY, n int)",
    `INSERT INTO churn SELECT n, 0 FROM generate_series(1, ${rows(400)}) n`,
    "CREATE INDEX churn_n ON churn (n)",
    ...Array.from({ length: 14 }, () => "UPDATE churn SET n = n + 1"),
    "SET enable_seqscan = off; SELECT count(n) FROM churn WHERE n BETWEEN 0 AND 12",
    ...Array.from({ length: 6 }, () => "UPDATE churn SET n = n + 1"),
    // Heap: HOT chains and their pruning, updates to other pages, prefixes and suffixes, nulls, wide rows (TOAST).
    "CREATE TABLE hot (id int PRIMARY KEY, n int, a text, b text) WITH (fillfactor = 50)",
    `INSERT INTO hot SELECT n, 0, repeat('a', 100), NULL FROM generate_series(1, ${rows(600)}) n`,
    ...Array.from({ length: 8 }, (_, turn) => `UPDATE hot SET n = n + 1 WHERE id % 8 <> ${String(turn)}`),
    "UPDATE hot SET b = repeat('b', 300) WHERE id % 5 = 0",
    "UPDATE hot SET a = 'x' || a WHERE id % 7 = 0",
    "UPDATE hot SET a = NULL WHERE id % 11 = 0",
    "SELECT count(*) FROM hot WHERE n > 0",
    // Rows of which the beginning, the end, or both stay, with a null bitmap of two bytes and without.
    "CREATE TABLE ends (a int, b text, c int, d int, e int, f int, g int, h int, i int, z int) WITH (fillfactor = 30)",
    "INSERT INTO ends SELECT n, 'bbb', 1, 2, 3, 4, 5, 6, 7, n FROM generate_series(1, 40) n",
    "INSERT INTO ends SELECT n, 'bbb', NULL, 2, 3, 4, 5, 6, 7, n FROM generate_series(1, 40) n",
    ...["a = a + 1", "z = z + 1", "e = e + 1", "a = a - 1, z = z - 1"].map((set) => `UPDATE ends SET ${set}`),
    "CREATE TABLE big (id int, text text)",
    "ALTER TABLE big ALTER text SET STORAGE EXTERNAL",
    `INSERT INTO big SELECT n, repeat(md5(n::text), 300) FROM generate_series(1, ${rows(60)}) n`,
    "UPDATE big SET text = text || 'y' WHERE id % 2 = 0",
    // INSERT ... ON CONFLICT (CONFIRM, and a speculative insertion taken back is rare), rows that change partition.
    `INSERT INTO hot SELECT n, 1 FROM generate_series(1, ${rows(700)}) n ON CONFLICT (id) DO UPDATE SET n = 0`,
    "CREATE TABLE parted (k int, v text) PARTITION BY LIST (k)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)",
    "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2)",
    `INSERT INTO parted SELECT 1, 'p' FROM generate_series(1, ${rows(300)})`,
    "UPDATE parted SET k = 2 WHERE ctid < '(0,100)'",
    // Bulk loads: MULTI_INSERT with and without INIT, frozen from the start; freezing later; VISIBLE.
    `BEGIN; CREATE TABLE loaded (n int, text text); COPY loaded FROM PROGRAM 'seq -f "%g,row" 1 ${rows(4000)}' WITH (FORMAT csv, FREEZE); COMMIT`,
    `COPY loaded FROM PROGRAM 'seq -f "%g,more" 1 ${rows(3000)}' WITH (FORMAT csv)`,
    "DELETE FROM loaded WHERE n % 9 = 0",
    "UPDATE loaded SET text = 'changed' WHERE n % 50 = 1",
    "SELECT * FROM loaded WHERE n % 100 = 2 FOR UPDATE",
    "VACUUM loaded",
    "VACUUM (FREEZE) loaded",
    "VACUUM (FREEZE) hot",
    "DELETE FROM loaded WHERE n < 100",
    "SELECT * FROM loaded WHERE n BETWEEN 200 AND 300 FOR SHARE",
    `DELETE FROM loaded WHERE n > ${rows(1500)}`,
    "VACUUM loaded",
    // Storage, relation maps, statistics, catalogs, sequences, databases, tablespaces' absence notwithstanding.
    "CREATE SEQUENCE numbers CACHE 1",
    `SELECT count(nextval('numbers')) FROM generate_series(1, ${rows(200)})`,
    "CREATE TABLE gone AS SELECT generate_series(1, 500) AS n",
    "TRUNCATE gone",
    "DROP TABLE gone",
    "VACUUM FULL pg_class",
    "CLUSTER hot USING hot_pkey",
    "CREATE INDEX CONCURRENTLY hot_n ON hot (n)",
    "REINDEX INDEX hot_n",
    "ANALYZE",
    "CREATE DATABASE copied STRATEGY file_copy",
    "CREATE DATABASE logged STRATEGY wal_log",
    "DROP DATABASE copied",
    "SELECT pg_logical_emit_message(true, 'test', repeat('m', 20000))",
    "SELECT pg_logical_emit_message(false, 'test', 'short')",
    "SELECT pg_create_restore_point('here')",
    // Two-phase commit, subtransactions.
    "BEGIN; INSERT INTO few VALUES (1, -1); SAVEPOINT a; INSERT INTO few VALUES (2, -2); DROP TABLE parted_2; PREPARE TRANSACTION 'one'",
    "BEGIN; INSERT INTO few VALUES (3, -3); CREATE TABLE never (n int); PREPARE TRANSACTION 'two'",
    "COMMIT PREPARED 'one'",
    "ROLLBACK PREPARED 'two'",
    "BEGIN; CREATE TABLE rolled_back (n int); INSERT INTO few VALUES (4, -4); SAVEPOINT b; INSERT INTO few VALUES (5, -5); ROLLBACK",
    // Other access methods.
    "CREATE TABLE words (id int, text text, list int[], place point)",
    "CREATE INDEX words_hash ON words USING hash (id)",
    "CREATE INDEX words_gin ON words USING gin (list)",
    "CREATE INDEX words_gin_now ON words USING gin (list) WITH (fastupdate = off)",
    "CREATE INDEX words_gist ON words USING gist (place)",
    "CREATE INDEX words_spgist ON words USING spgist (text)",
    "CREATE INDEX words_spgist_point ON words USING spgist (place)",
    "CREATE INDEX words_brin ON words USING brin (id) WITH (pages_per_range = 2)",
    `INSERT INTO words SELECT n, md5((n % 700)::text), ARRAY[n % 10, n % 100, n], point(n % 71, n % 97) FROM generate_series(1, ${rows(3000)}) n`,
    "SELECT brin_summarize_new_values('words_brin')",
    `INSERT INTO words SELECT n, 'w' || n, ARRAY[n], point(n, n) FROM generate_series(1, ${rows(500)}) n`,
    `DELETE FROM words WHERE id % 3 = 0`,
    "VACUUM words",
    "SELECT gin_clean_pending_list('words_gin')",
    "SELECT brin_desummarize_range('words_brin', 0)",
    "CREATE EXTENSION bloom",
    "CREATE INDEX words_bloom ON words USING bloom (id)",
    `INSERT INTO words SELECT n, 'b' || n, ARRAY[n], point(n, -n) FROM generate_series(1, ${rows(300)}) n`,
    // The tail of relations cut off.
    "DELETE FROM wide",
    "VACUUM wide",
    // A tree of one page a level has a root of its own for lookups; splits below it change the metapage (INSERT_META).
    "INSERT INTO wide SELECT n, md5(n::text) || repeat('w', 900) FROM generate_series(1, 400) n",
    "VACUUM (TRUNCATE) few",
  ];
}

/**
 * Runs the workload to its end.
 *
 * @throws {PostgresProcessError} ERR_POSTGRES_TOOL if a statement fails or a program is missing
 */
export async function writeEveryRecord(cluster: PostgresCluster, options: EveryRecordOptions): Promise<void> {
  const { tools, scale = 1 } = options;
  const url = cluster.url();
  const run = async (name: string, args: readonly string[]): Promise<void> => {
    const { stderr, code } = await runPostgresTool(tools, name, args);
    if (code !== 0) throw new PostgresProcessError("ERR_POSTGRES_TOOL", `${name} failed: ${stderr}`);
  };
  const sql = async (commands: readonly string[]): Promise<void> => {
    const args = commands.flatMap((command) => ["-c", command]);
    await run("psql", ["-XAtq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", url, ...args]);
  };
  await sql(statements(scale));
  await sql([
    "CREATE TABLE parent (id int PRIMARY KEY, text text)",
    "CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent, text text)",
    "INSERT INTO parent SELECT n, 'p' FROM generate_series(1, 50) n",
  ]);
  await using directory = await temporaryDirectory("millrace-workload-");
  const script = join(directory.path, "clients.sql");
  await writeFile(script, CLIENTS_SCRIPT, { mode: 0o644 });
  // Fewer would not always meet each other's rows.
  const transactions = String(Math.max(150, Math.ceil(250 * scale)));
  // One try each: what collides is rolled back, which is part of the workload.
  await run("pgbench", ["-n", "-c", "6", "-j", "2", "-t", transactions, "-f", script, url]);
  await sql(["VACUUM (FREEZE) parent", "VACUUM child", "CHECKPOINT", "DELETE FROM child WHERE id % 2 = 0"]);
  await sql(["VACUUM", "SELECT pg_switch_wal()"]);
}
