/**
 * A base backup taken while the server works, and what PostgreSQL's own recovery makes of it.
 *
 * The backup is a copy of the data directory between pg_backup_start and pg_backup_stop in one session, so that it works with
 * servers of any version; pages in it are of different moments, some torn. Recovery runs to a position and stops there.
 */
import { execFile } from "node:child_process";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PostgresCluster, spawnIdentity } from "@millrace/postgres-process";
import type { RedoSource } from "./redo-source.js";

const run = promisify(execFile);
const BLOCKS_PER_SEGMENT = 131_072;
const FORK_SUFFIX = ["", "_fsm", "_vm", "_init"];

/** Where recovery is to stop. */
export type RecoveryTarget = { readonly name: string } | { readonly lsn: string };

export class BaseBackup {
  readonly directory: string;
  /** Where redo begins. */
  readonly startLsn: Lsn;

  private constructor(directory: string, startLsn: Lsn) {
    this.directory = directory;
    this.startLsn = startLsn;
  }

  /** Copies the data directory of the running server. */
  static async take(source: RedoSource): Promise<BaseBackup> {
    // Where the server's account may write.
    const directory = join(source.cluster.directory, "backup");
    const copy = `\\! cp -a ${source.cluster.dataDirectory} ${directory}`;
    const statements = [
      "SELECT pg_backup_start('copy', true)",
      copy,
      "SELECT labelfile FROM pg_backup_stop(false)",
    ];
    const commands = statements.flatMap((statement) => ["-c", statement]);
    const login = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", source.cluster.url()];
    const text = await source.tool("psql", [...login, ...commands]);
    const start = /START WAL LOCATION: (\S+)/.exec(text)?.[1];
    if (start === undefined) throw new Error(`no start in ${text}`);
    await writeFile(join(directory, "backup_label"), text.slice(text.indexOf("START WAL")));
    for (const name of ["postmaster.pid", "postmaster.opts"])
      await rm(join(directory, name), { force: true });
    return new BaseBackup(directory, parseLsn(start));
  }

  /** Recovers a copy up to the target, with the server's WAL, and gives its data directory. */
  async recover(source: RedoSource, name: string, target: RecoveryTarget): Promise<string> {
    const directory = join(source.directory, name);
    await run("mkdir", ["-m", "755", directory]);
    const data = join(directory, "data");
    await run("cp", ["-a", this.directory, data]);
    await rm(join(data, "pg_wal"), { recursive: true });
    await cp(source.walDirectory, join(data, "pg_wal"), { recursive: true });
    await writeFile(join(data, "recovery.signal"), "");
    const { uid } = spawnIdentity();
    if (uid !== undefined) await run("chown", ["-R", String(uid), directory]);
    const [key, value] =
      "name" in target ? ["recovery_target_name", target.name] : ["recovery_target_lsn", target.lsn];
    const cluster = await PostgresCluster.open({
      installation: source.cluster.installation,
      directory,
      settings: {
        fsync: "off",
        max_prepared_transactions: "4",
        hot_standby: "off",
        archive_mode: "off",
        restore_command: "false",
        recovery_target_action: "shutdown",
        recovery_target_timeline: "current",
        [key]: value,
      },
    });
    if (cluster === undefined) throw new Error("the backup is no data directory");
    await cluster.start().catch(() => undefined); // it ends by itself, often before it is ready
    for (let tries = 0; existsSync(join(data, "postmaster.pid")); tries += 1) {
      if (tries > 600) throw new Error("recovery did not end");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await cluster[Symbol.asyncDispose]();
    const log = await readFile(cluster.logFile, "utf8");
    if (!log.includes("recovery stopping"))
      throw new Error(`recovery did not reach its target: ${log.slice(-2000)}`);
    if (!log.includes("restartpoint complete"))
      throw new Error(`recovery did not write its pages: ${log.slice(-4000)}`);
    return data;
  }
}

/** Pages of a stopped cluster's files, read when they are asked for. */
export class RelationFiles {
  readonly #directory: string;
  readonly #files = new Map<string, Promise<Buffer | undefined>>();

  constructor(dataDirectory: string) {
    this.#directory = dataDirectory;
  }

  /** A block, borrowed; undefined beyond the file's end or without a file. */
  async page(
    rel: { spc: number; db: number; rel: number },
    fork: number,
    block: number,
  ): Promise<Uint8Array | undefined> {
    const segment = Math.floor(block / BLOCKS_PER_SEGMENT);
    const place = rel.spc === 1664 ? "global" : join("base", String(rel.db));
    const file = `${String(rel.rel)}${FORK_SUFFIX[fork] ?? ""}${segment === 0 ? "" : `.${String(segment)}`}`;
    const path = join(this.#directory, place, file);
    let bytes = this.#files.get(path);
    if (bytes === undefined) {
      bytes = existsSync(path) ? readFile(path) : Promise.resolve(undefined);
      this.#files.set(path, bytes);
    }
    const at = (block % BLOCKS_PER_SEGMENT) * 8192;
    const content = await bytes;
    return content === undefined || at + 8192 > content.byteLength
      ? undefined
      : content.subarray(at, at + 8192);
  }
}
