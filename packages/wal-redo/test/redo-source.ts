/**
 * A real server whose WAL is replayed here, and the walk through that WAL.
 *
 * SQL goes through psql of a system installation, which speaks to newer servers too; the embedded package has none.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseLsn, parseSegmentFileName, segmentStart } from "@millrace/lsn";
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
import { WalDecoder, WalRecord } from "@millrace/wal-decoder";

export const SEGMENT_BYTES: number = 16 * 1024 * 1024;
export type Which = "system" | "embedded";

/** Why the test cannot run here, or an empty text if it can; throws instead if REQUIRE_PG=1. */
export function whyNot(which: Which): string {
  const { skip } = postgresOrSkip(which);
  return skip === "" ? postgresOrSkip("system").skip : skip;
}

/** A server of a temporary directory. */
export class RedoSource implements AsyncDisposable {
  readonly cluster: PostgresCluster;
  readonly tools: PostgresInstallation;
  /** The temporary directory. */
  readonly directory: string;
  readonly #dispose: () => Promise<void>;
  #flushes = 0;

  private constructor(
    cluster: PostgresCluster,
    tools: PostgresInstallation,
    directory: string,
    dispose: () => Promise<void>,
  ) {
    this.cluster = cluster;
    this.tools = tools;
    this.directory = directory;
    this.#dispose = dispose;
  }

  static async open(which: Which, settings: Readonly<Record<string, string>>): Promise<RedoSource> {
    const installation = findPostgres(which);
    const tools = findPostgres("system");
    if (installation === undefined || tools === undefined) throw new Error("asked for without whyNot()");
    const place = await temporaryDirectory("millrace-redo-");
    const cluster = await PostgresCluster.create({
      installation,
      directory: join(place.path, "server"),
      segmentBytes: SEGMENT_BYTES,
      initdbArguments: ["--no-sync"],
      settings: {
        fsync: "off",
        max_prepared_transactions: "4",
        wal_keep_size: "4GB",
        max_wal_size: "8GB",
        autovacuum: "off",
        shared_buffers: "16MB",
        ...settings,
      },
    });
    await cluster.start();
    return new RedoSource(cluster, tools, place.path, async () => {
      await cluster[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    });
  }

  get pgMajor(): number {
    return this.cluster.installation.major;
  }

  /** Whether the server logs hint bits: it has data checksums from version 18 on if initdb is not told otherwise. */
  get hintLsn(): boolean {
    return this.pgMajor >= 18;
  }

  get walDirectory(): string {
    return join(this.cluster.dataDirectory, "pg_wal");
  }

  /** Runs statements, each in its own transaction; gives the rows of the last as text. */
  async sql(...statements: readonly string[]): Promise<string> {
    const commands = statements.flatMap((statement) => ["-c", statement]);
    const options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", this.cluster.url(), ...commands];
    return (await this.tool("psql", options)).trim();
  }

  async tool(name: string, options: readonly string[]): Promise<string> {
    const { stdout, stderr, code } = await runPostgresTool(this.tools, name, options);
    if (code !== 0) throw new Error(`${name} ended with ${String(code)}: ${stderr}`);
    return stdout;
  }

  async runEveryRecord(scale: number): Promise<void> {
    await writeEveryRecord(this.cluster, { tools: this.tools, scale });
  }

  /** What is on disk; positions up to here will not change any more. */
  async flushLsn(): Promise<Lsn> {
    this.#flushes += 1;
    await this.sql(`CREATE TABLE flushed_${String(this.#flushes)} ()`);
    return parseLsn(await this.sql("SELECT pg_current_wal_flush_lsn()"));
  }

  /** Shows every record from `startLsn`, or the first that there is, to `endLsn`. */
  async walk(range: { startLsn?: Lsn; endLsn: Lsn }, use: (record: WalRecord) => void): Promise<void> {
    const names = (await readdir(this.walDirectory))
      .filter((name) => parseSegmentFileName(name, SEGMENT_BYTES) !== undefined)
      .sort();
    const record = new WalRecord(this.pgMajor);
    let decoder: WalDecoder | undefined;
    for (const name of names) {
      const number = parseSegmentFileName(name, SEGMENT_BYTES)?.segmentNumber ?? 0n;
      const segmentLsn = segmentStart(number, SEGMENT_BYTES);
      const { startLsn = segmentLsn, endLsn } = range;
      if (segmentLsn + BigInt(SEGMENT_BYTES) <= startLsn || segmentLsn >= endLsn) continue;
      decoder ??= new WalDecoder({
        startLsn,
        pgMajor: this.pgMajor,
        segmentBytes: SEGMENT_BYTES,
        start: startLsn === segmentLsn ? "anywhere" : "record",
        wholeRecords: true,
        onRecord: (visit) => use(record.decode(visit)),
      });
      const bytes = await readFile(join(this.walDirectory, name));
      const from = Number(decoder.nextLsn - segmentLsn);
      decoder.feed(bytes.subarray(from, Math.min(bytes.byteLength, Number(endLsn - segmentLsn))));
      decoder.skipToRecordEnd();
    }
    if (decoder?.recordEndLsn !== range.endLsn) throw new Error("the walk did not reach its end");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispose();
  }
}

/** What a page is called in the tests' maps. */
export function pageKey(ref: { spc: number; db: number; rel: number }, fork: number, block: number): string {
  return `${String(ref.spc)}/${String(ref.db)}/${String(ref.rel)}/${String(fork)}/${String(block)}`;
}
