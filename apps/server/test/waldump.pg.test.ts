/**
 * `millrace waldump`: real WAL in pg_waldump's words, ranges, counts, and what it says where there is nothing to read.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Writable } from "node:stream";
import { join } from "node:path";
import { expect, test } from "vitest";

import { formatLsn, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  PostgresCluster,
  postgresOrSkip,
  runPostgresTool,
  temporaryDirectory,
} from "@millrace/postgres-process";

import type { WaldumpConfiguration } from "../src/configuration/waldump-options.js";
import { EXIT, ServerError } from "../src/errors.js";
import { runWaldump } from "../src/waldump/waldump-command.js";

/** Keeps what is written, and is slow to take it. */
class Slow extends Writable {
  text = "";

  constructor() {
    super({ highWaterMark: 1 });
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString("utf8");
    setImmediate(done);
  }
}

async function dump(
  options: Partial<WaldumpConfiguration>,
): Promise<{ code: number; out: string; notes: string }> {
  const [out, notes] = [new Slow(), new Slow()];
  const configuration = { walDir: ".", timelineId: 1, limit: 1e9, stats: false, ...options };
  const code = await runWaldump(configuration, out, notes);
  await Promise.all([out, notes].map((each) => new Promise<void>((resolve) => each.end(resolve))));
  return { code, out: out.text, notes: notes.text };
}

const { installation, skip } = postgresOrSkip("system");

// Aim: the command is a drop-in for pg_waldump. Method: a real server's WAL, whole and in a range, both programs' output
// compared as text; the rest against it.
test.skipIf(skip !== "")(`prints what pg_waldump prints${skip === "" ? "" : ` (${skip})`}`, async () => {
  if (installation === undefined) return;
  await using directory = await temporaryDirectory();
  await using cluster = await PostgresCluster.create({
    installation,
    directory: join(directory.path, "pg"),
    segmentBytes: 1024 * 1024,
    initdbArguments: ["--no-sync"],
    settings: { fsync: "off", autovacuum: "off", wal_keep_size: "100MB" },
  });
  await cluster.start();
  const sql = async (statement: string): Promise<string> => {
    const { stdout } = await runPostgresTool(installation, "psql", [
      "-XAtq",
      "-d",
      cluster.url(),
      "-c",
      statement,
    ]);
    return stdout.trim();
  };
  await sql("CREATE TABLE t AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 20000) n");
  const middle = parseLsn(await sql("SELECT pg_current_wal_insert_lsn()"));
  await sql("CREATE INDEX i ON t (n)");
  await sql("SELECT pg_switch_wal()");
  await sql("CREATE TABLE last ()");
  const end = parseLsn(await sql("SELECT pg_current_wal_flush_lsn()"));
  const walDir = join(cluster.dataDirectory, "pg_wal");
  const first = readdirSync(walDir)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort()[0];
  const start = parseLsn(`0/${(Number.parseInt(first?.slice(16) ?? "", 16) * 1024 * 1024).toString(16)}`);
  const reference = async (from: Lsn): Promise<string> => {
    const args = ["-p", walDir, "-s", formatLsn(from), "-e", formatLsn(end)];
    const { stdout } = await runPostgresTool(installation, "pg_waldump", args, {
      environment: { TZ: "UTC" },
    });
    // Where it is started within a record it says so first.
    return stdout.replace(/^first record is after .*\n/, "");
  };

  const whole = await dump({ walDir, end });
  expect([whole.code, whole.notes]).toEqual([EXIT.ok, ""]);
  expect(whole.out).toBe(await reference((start + 40n) as Lsn));
  const part = await dump({ walDir, start: middle, end });
  expect(part.out).toBe(await reference(middle));

  const lines = whole.out.trimEnd().split("\n");
  const limited = await dump({ walDir, limit: 7 });
  expect(limited.out.trimEnd().split("\n")).toEqual(lines.slice(0, 7));
  const btree = await dump({ walDir, end, rmgr: "Btree" });
  expect(btree.out.trimEnd().split("\n")).toEqual(lines.filter((line) => line.startsWith("rmgr: Btree ")));

  const stats = await dump({ walDir, end, stats: true });
  const rows = stats.out
    .trimEnd()
    .split("\n")
    .map((row) => row.split(/\s{2,}/));
  expect(rows.at(-1)?.slice(0, 2)).toEqual(["total", String(lines.length)]);
  const inserts = lines.filter((line) => line.includes("desc: INSERT off")).length;
  expect(rows.find(([type]) => type === "Heap/INSERT")?.[1]).toBe(String(inserts));

  // Without an end: the WAL ends by itself, which is told and no failure. Damage is one, and what was before it is printed.
  const open = await dump({ walDir });
  expect([open.code, open.notes]).toEqual([
    EXIT.ok,
    expect.stringMatching(/^millrace: the WAL ends at 0\/\w+: /),
  ]);
  const damaged = join(directory.path, "damaged");
  mkdirSync(damaged);
  const bytes = readFileSync(join(walDir, first ?? ""));
  bytes[300_000] = (bytes[300_000] ?? 0) ^ 1;
  writeFileSync(join(damaged, first ?? ""), bytes);
  const broken = await dump({ walDir: damaged });
  expect(broken.code).toBe(EXIT.failure);
  expect(broken.notes).toMatch(/checksum does not match/);
  expect(whole.out.startsWith(broken.out)).toBe(true);
  expect(broken.out.length).toBeGreaterThan(1000);
});

// Aim: whoever gives a wrong directory learns it. Method: none, an empty one, files that only look like segments.
test("says what is wrong with a directory that holds no WAL", async () => {
  await using directory = await temporaryDirectory();
  const failure = async (walDir: string): Promise<string> => {
    const error = await dump({ walDir }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ServerError);
    expect((error as ServerError).code).toBe("ERR_SERVER_DATA");
    return (error as ServerError).message;
  };
  expect(await failure(join(directory.path, "absent"))).toMatch(/cannot be read/);
  expect(await failure(directory.path)).toMatch(/no segment of timeline 1/);
  const name = join(directory.path, "000000010000000000000001");
  writeFileSync(name, "short");
  expect(await failure(directory.path)).toMatch(/too short/);
  writeFileSync(name, Buffer.alloc(8192));
  expect(await failure(directory.path)).toMatch(/page magic 0x0/);
});
