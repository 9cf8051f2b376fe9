/**
 * WAL from real servers, and what PostgreSQL's own readers say about it: pg_walinspect inside the server that wrote
 * it, and pg_waldump where one of the same major version is installed.
 *
 * SQL goes through psql of a system installation, which speaks to newer servers too; the embedded package has none.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { formatLsn, parseLsn, parseSegmentFileName, segmentStart } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  findPostgres,
  PostgresCluster,
  postgresOrSkip,
  runPostgresTool,
  temporaryDirectory,
  writeEveryRecord,
} from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

/** What pg_walinspect knows of a record. */
export interface InspectedRecord {
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  readonly prevLsn: bigint;
  readonly xid: number;
  readonly rmid: number;
  readonly totalBytes: number;
}

/** Names of the built-in resource managers, in the order of their numbers. */
const RMGRS =
  "XLOG Transaction Storage CLOG Database Tablespace MultiXact RelMap Standby Heap2 Heap Btree Hash Gin Gist " +
  "Sequence SPGist BRIN CommitTs ReplicationOrigin Generic LogicalMessage";
const RMID_OF_NAME: ReadonlyMap<string, number> = new Map(RMGRS.split(" ").map((name, rmid) => [name, rmid]));

function rmidOf(name: string): number {
  const rmid = RMID_OF_NAME.get(name);
  if (rmid === undefined) throw new Error(`no such resource manager: ${name}`);
  return rmid;
}

/** A PostgreSQL server of a temporary directory, with what the tests ask of it. */
export class WalSource implements AsyncDisposable {
  readonly cluster: PostgresCluster;
  readonly segmentBytes: number;
  readonly #tools: PostgresInstallation;
  readonly #dispose: () => Promise<void>;
  #flushes = 0;

  private constructor(
    cluster: PostgresCluster,
    segmentBytes: number,
    tools: PostgresInstallation,
    dispose: () => Promise<void>,
  ) {
    this.cluster = cluster;
    this.segmentBytes = segmentBytes;
    this.#tools = tools;
    this.#dispose = dispose;
  }

  /** Why the test cannot run here, or an empty text if it can; throws instead if REQUIRE_PG=1. */
  static whyNot(which: "system" | "embedded"): string {
    const { skip } = postgresOrSkip(which);
    return skip === "" ? postgresOrSkip("system").skip : skip;
  }

  static async open(
    which: "system" | "embedded",
    segmentBytes: number,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<WalSource> {
    const installation = findPostgres(which);
    const tools = findPostgres("system");
    if (installation === undefined || tools === undefined) throw new Error("asked for without whyNot()");
    const directory = await temporaryDirectory("millrace-wal-");
    const cluster = await PostgresCluster.create({
      installation,
      directory: directory.path,
      segmentBytes,
      initdbArguments: ["--no-sync"],
      settings: {
        fsync: "off",
        max_prepared_transactions: "4",
        wal_keep_size: "512MB",
        max_wal_size: "1GB",
        autovacuum: "off",
        ...settings,
      },
    });
    const source = new WalSource(cluster, segmentBytes, tools, async () => {
      await cluster[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    });
    await cluster.start();
    return source;
  }

  get pgMajor(): number {
    return this.cluster.installation.major;
  }

  get walDirectory(): string {
    return join(this.cluster.dataDirectory, "pg_wal");
  }

  async tool(name: string, args: readonly string[]): Promise<string> {
    const { stdout, stderr, code } = await runPostgresTool(this.#tools, name, args);
    if (code !== 0) throw new Error(`${name} ended with ${String(code)}: ${stderr}`);
    return stdout;
  }

  /** Runs statements, each in its own transaction; gives the rows of the last as text. */
  async sql(...statements: readonly string[]): Promise<string> {
    const commands = statements.flatMap((statement) => ["-c", statement]);
    return await this.tool("psql", ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", this.cluster.url(), ...commands]);
  }

  /** Tables and indexes, 2PC, rollbacks, long records over pages and segments, segment switches. */
  async runMixedWorkload(): Promise<void> {
    await this.tool("pgbench", ["-i", "-q", "-s", "1", this.cluster.url()]);
    await this.sql(
      "CREATE TABLE doomed AS SELECT generate_series(1, 2000) AS n, repeat('x', 200) AS text",
      "CREATE INDEX doomed_text ON doomed USING hash (text)",
      "CREATE INDEX doomed_n ON doomed USING brin (n)",
      "BEGIN; INSERT INTO doomed VALUES (0, 'lost'); SAVEPOINT s; UPDATE doomed SET n = n + 1; ROLLBACK",
      "SELECT pg_logical_emit_message(true, 'test', repeat('a', 3000000))",
      "SELECT pg_switch_wal()",
      "BEGIN; INSERT INTO doomed VALUES (-1, 'kept'); PREPARE TRANSACTION 'kept'",
      "BEGIN; INSERT INTO doomed VALUES (-2, 'lost'); PREPARE TRANSACTION 'lost'",
      "COMMIT PREPARED 'kept'",
      "ROLLBACK PREPARED 'lost'",
      "CHECKPOINT",
      "DROP TABLE doomed",
      ...[8100, 8192, 16384, 100_000].map(
        (bytes) => `SELECT pg_logical_emit_message(false, 'test', repeat('b', ${String(bytes)}))`,
      ),
      "SELECT pg_switch_wal()",
      "VACUUM FREEZE pgbench_branches",
    );
    await this.tool("pgbench", ["-n", "-t", "200", "-c", "2", this.cluster.url()]);
  }

  /** Records of nearly every type; see writeEveryRecord. */
  async runEveryRecord(scale: number): Promise<void> {
    await writeEveryRecord(this.cluster, { tools: this.#tools, scale });
  }

  /** What is on disk; positions up to here will not change any more. */
  async flushLsn(): Promise<Lsn> {
    this.#flushes += 1;
    await this.sql(`CREATE TABLE flushed_${String(this.#flushes)} ()`);
    return parseLsn((await this.sql("SELECT pg_current_wal_flush_lsn()")).trim());
  }

  /** Names of the segment files in order. */
  async segments(): Promise<readonly string[]> {
    const names = await readdir(this.walDirectory);
    return names.filter((name) => parseSegmentFileName(name, this.segmentBytes) !== undefined).sort();
  }

  startOf(segment: string): Lsn {
    const parsed = parseSegmentFileName(segment, this.segmentBytes);
    if (parsed === undefined) throw new Error(`not a segment: ${segment}`);
    return segmentStart(parsed.segmentNumber, this.segmentBytes);
  }

  /** The first segment's start and all WAL from there to `endLsn`. */
  async wal(endLsn: bigint): Promise<{ startLsn: Lsn; bytes: Uint8Array }> {
    const [first, ...rest] = await this.segments();
    if (first === undefined) throw new Error("no WAL");
    const startLsn = this.startOf(first);
    const files: Buffer[] = [];
    for (const name of [first, ...rest]) {
      if (this.startOf(name) < endLsn) files.push(await readFile(join(this.walDirectory, name)));
    }
    return { startLsn, bytes: Buffer.concat(files).subarray(0, Number(endLsn - startLsn)) };
  }

  /** What the server says that its WAL holds between two positions. */
  async inspect(startLsn: string, endLsn: string): Promise<readonly InspectedRecord[]> {
    const rows = await this.sql(
      `SELECT start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_length
         FROM pg_get_wal_records_info('${startLsn}', '${endLsn}')`,
    );
    return rows
      .trim()
      .split("\n")
      .map((row) => {
        const [start = "", end = "", prev = "", xid = "", rmgr = "", length = ""] = row.split("|");
        return {
          startLsn: parseLsn(start),
          endLsn: parseLsn(end),
          prevLsn: parseLsn(prev),
          xid: Number(xid),
          rmid: rmidOf(rmgr),
          totalBytes: Number(length),
        };
      });
  }

  /** pg_waldump's records from `startLsn` or a segment on; undefined if there is none for this version. */
  async dump(...args: readonly string[]): Promise<readonly Omit<InspectedRecord, "endLsn">[] | undefined> {
    if (this.#tools.major !== this.pgMajor || this.#tools.tool("pg_waldump") === undefined) return undefined;
    // It ends with code 1 where the WAL does, after it has printed everything.
    const { stdout, stderr } = await runPostgresTool(this.#tools, "pg_waldump", args);
    const pattern =
      /^rmgr: (\S+)\s+len \(rec\/tot\):\s*\d+\/\s*(\d+), tx:\s*(\d+), lsn: (\S+), prev ([^,]+), /gm;
    const records = [...stdout.matchAll(pattern)].map(([, rmgr = "", total, xid, start = "", prev = ""]) => ({
      startLsn: parseLsn(start),
      prevLsn: parseLsn(prev),
      xid: Number(xid),
      rmid: rmidOf(rmgr),
      totalBytes: Number(total),
    }));
    if (records.length === 0) throw new Error(`pg_waldump printed no record: ${stderr}`);
    return records;
  }

  /** pg_waldump's own lines; undefined if there is none for this version. */
  async dumpLines(startLsn: Lsn, endLsn: Lsn): Promise<readonly string[] | undefined> {
    if (this.#tools.major !== this.pgMajor || this.#tools.tool("pg_waldump") === undefined) return undefined;
    const range = ["-s", formatLsn(startLsn), "-e", formatLsn(endLsn)];
    const { stdout, stderr } = await runPostgresTool(
      this.#tools,
      "pg_waldump",
      ["-p", this.walDirectory, ...range],
      { environment: { TZ: "UTC" } },
    );
    if (stdout === "") throw new Error(`pg_waldump printed nothing: ${stderr}`);
    return stdout.trimEnd().split("\n");
  }

  /** What the server prints of each record: start, operation and description, its times as pg_waldump prints them. */
  async describedRecords(startLsn: Lsn, endLsn: Lsn): Promise<readonly (readonly string[])[]> {
    const query = `SELECT start_lsn, record_type, description FROM pg_get_wal_records_info('${formatLsn(startLsn)}', '${formatLsn(endLsn)}')`;
    const options = ["-XAtq", "-F", "\u0001", "-R", "\u0002", "-d", this.cluster.url(), "-c", query];
    const rows = (await this.tool("psql", options)).replace(/\n$/, "").split("\u0002");
    const time = /(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00/g;
    return rows.map((row) =>
      row
        .replaceAll(time, (_, seconds: string, part = "") => `${seconds}.${String(part).padEnd(6, "0")} UTC`)
        .split("\u0001"),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispose();
  }
}
