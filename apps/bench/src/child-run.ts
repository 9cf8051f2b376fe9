/**
 * A run in a process of its own: what is to be done goes there as JSON, and what was done comes back as JSON.
 *
 * A process for each run, as fio has one: the processor time of the process, kernel workers of its ring included, is then the
 * run's and nobody else's, and no run finds code that another one has compiled. The program is this one, called with a first
 * argument that no user needs.
 */
import { spawn } from "node:child_process";

import { BenchError } from "./errors.js";
import { benchProgram } from "./repository.js";

const OUTPUT_KEPT = 4000;

/** What is run. */
export interface ChildRun {
  /** First argument of the process: says which kind of run this is. */
  readonly argument: string;
  /** What it is told. */
  readonly spec: unknown;
  /** What a failure calls it. */
  readonly command: string;
  /** A run that takes longer than this hangs. */
  readonly timeoutMs: number;
}

/**
 * Does a run in a process of its own.
 *
 * @returns what it printed
 * @throws {BenchError} ERR_BENCH_PROGRAM: it failed or hung
 */
export async function runChild<Outcome>(run: ChildRun): Promise<Outcome> {
  const profiling = process.execArgv.filter((option) => /^--(cpu|heap)-prof/.test(option));
  const args = [...profiling, benchProgram(), run.argument, JSON.stringify(run.spec)];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: run.timeoutMs,
    killSignal: "SIGKILL",
  });
  let [printed, complained] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => {
    complained = (complained + chunk.toString("utf8")).slice(-OUTPUT_KEPT);
  });
  const ended = await new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(code === null ? String(signal) : `code ${code}`));
  });
  // What has printed its result has done its work, however it ended.
  const line = printed.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) {
    throw new BenchError("ERR_BENCH_PROGRAM", `${run.command} ended (${ended}): ${complained}`);
  }
  return JSON.parse(line) as Outcome;
}
