/**
 * The built command as a child process, for tests that look at it from outside.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { systemProcesses } from "../src/data-lock.js";
import { commandFile } from "../src/parts/spawn-part.js";
import { readLines } from "../src/process-lines.js";

/** What /v1/status says, as far as tests look at it. */
interface StatusDocument {
  readonly acceptors_up: number;
  readonly bridge: { readonly term: number; readonly process: { readonly pid: number } };
  readonly acceptors: readonly { readonly wal_address: string; readonly process: { readonly pid: number } }[];
}

/** One run of `millrace`. Disposal kills what is left of it. */
export class MillraceProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  /** Everything that was printed, both streams. */
  output = "";
  /** The exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
  #wanted: { text: string; resolve: (line: string) => void }[] = [];

  constructor(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.child = spawn(process.execPath, [commandFile(), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream !== null) readLines(stream, (line) => this.#line(line));
    }
    this.ended = new Promise((resolve) => {
      this.child.once("close", (code, signal) => {
        resolve(code ?? signal ?? "gone");
      });
    });
  }

  #line(line: string): void {
    this.output += `${line}\n`;
    const found = this.#wanted.filter(({ text }) => line.includes(text));
    this.#wanted = this.#wanted.filter((wanted) => !found.includes(wanted));
    for (const { resolve } of found) resolve(line);
  }

  /** The first line from now on that contains `text`; rejects with all output when the process ends before. */
  async line(text: string): Promise<string> {
    const line = new Promise<string>((resolve) => this.#wanted.push({ text, resolve }));
    const ended = this.ended.then((how) => {
      throw new Error(`ended (${how}) before it printed ${JSON.stringify(text)}:\n${this.output}`);
    });
    return await Promise.race([line, ended]);
  }

  /** Waits until everything is up; gives PostgreSQL's URL and the status page's. */
  async up(): Promise<{ readonly psql: string; readonly status: string }> {
    const [psql, status] = await Promise.all([this.line("  psql  "), this.line("  status page  ")]);
    return { psql: psql.trim().split(/\s+/)[1] ?? "", status: status.trim().split(/\s+/)[2] ?? "" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGINT");
    await this.ended;
  }
}

export async function fetchStatus(statusUrl: string): Promise<StatusDocument> {
  const response = await fetch(`${statusUrl}v1/status`);
  return (await response.json()) as StatusDocument;
}

/** Every process of a running all-in-one: parent, bridge, acceptors, postmaster. */
export async function allProcesses(
  run: MillraceProcess,
  statusUrl: string,
  clusterDirectory: string,
): Promise<number[]> {
  const status = await fetchStatus(statusUrl);
  const postmaster = Number(
    readFileSync(join(clusterDirectory, "data", "postmaster.pid"), "utf8").split("\n")[0],
  );
  const parts = status.acceptors.map(({ process }) => process.pid);
  return [run.child.pid ?? 0, status.bridge.process.pid, ...parts, postmaster];
}

/** The direct children of a process, by the list that Linux keeps. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1");
  return text
    .split(" ")
    .filter((word) => word !== "")
    .map(Number);
}

/** Those of `pids` that still run. */
export function running(pids: readonly number[]): number[] {
  return pids.filter((pid) => systemProcesses.startTime(pid) !== undefined);
}

/**
 * Resolves once none of `pids` runs. They are not our children, so their end is no event here; looking again and again
 * is all there is, and the test's own timeout is the bound.
 */
export async function untilEnded(pids: readonly number[]): Promise<void> {
  while (running(pids).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
}
