/**
 * The command line: flags reach the right command, with its configuration, and mistakes give the usage code.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { runCommandLine } from "../src/cli.js";
import type { Commands } from "../src/cli.js";
import { EXIT } from "../src/errors.js";

let seen: { command: string; configuration: Record<string, unknown> }[];
const commands: Commands = {
  allInOne: record("all-in-one", 0),
  acceptor: record("acceptor", 7),
  bridge: record("bridge", 0),
  demo: record("demo", 1),
  status: record("status", 1),
  sync: record("sync", 76),
  waldump: record("waldump", 0),
};

function record(command: string, code: number): (configuration: object) => Promise<number> {
  return (configuration) => {
    seen.push({ command, configuration: { ...configuration } });
    return Promise.resolve(code);
  };
}

beforeEach(() => {
  seen = [];
  vi.spyOn(process.stdout, "write").mockReturnValue(true);
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
});
afterEach(() => {
  vi.restoreAllMocks();
});

function run(line: string, environment: NodeJS.ProcessEnv = {}): Promise<number> {
  return runCommandLine(
    line.split(" ").filter((word) => word !== ""),
    environment,
    "1.2.3",
    commands,
  );
}

// Aim: no command is the all-in-one; a flag behind a command belongs to that command, even where both have it.
// Method: the same flag in both places.
test("flags go to the command they stand behind", async () => {
  expect(await run("")).toBe(0);
  expect(await run("--data-dir a --pg embedded")).toBe(0);
  expect(await run("demo --data-dir b --seconds 15")).toBe(1);
  expect(seen.map(({ command, configuration }) => [command, configuration["dataDir"]])).toEqual([
    ["all-in-one", "./millrace-data"],
    ["all-in-one", "a"],
    ["demo", "b"],
  ]);
  expect(seen[1]?.configuration["pg"]).toBe("embedded");
  expect(seen[2]?.configuration["seconds"]).toBe(15);
});

// Aim: a command's code is the process's. Method: an acceptor whose run gives 7; switches that are given or not.
test("the command's exit code is passed on, and switches are read", async () => {
  expect(await run("acceptor --data-dir d --no-sync")).toBe(7);
  expect(await run("acceptor --data-dir d")).toBe(7);
  expect(await run("acceptor --data-dir d --flush-on-commit off", { MILLRACE_NO_SYNC: "on" })).toBe(7);
  expect(seen.map(({ configuration }) => [configuration["noSync"], configuration["flushOnCommit"]])).toEqual([
    [true, true],
    [false, true],
    [true, false],
  ]);
});

// Aim: a file is read for the command at hand, below flags. Method: a real file; one that is no JSON; one missing.
test("the configuration file is read, and a bad one is refused", async () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-cli-"));
  try {
    const file = join(directory, "m.json");
    writeFileSync(file, JSON.stringify({ dataDir: "from-file", seconds: 19 }));
    await run(`demo --config ${file} --seconds 18`);
    await run("demo", { MILLRACE_CONFIG: file });
    expect(seen.map(({ configuration }) => [configuration["dataDir"], configuration["seconds"]])).toEqual([
      ["from-file", 18],
      ["from-file", 19],
    ]);
    await expect(run(`--config ${file}`)).rejects.toThrow(/unknown key "seconds"/);
    writeFileSync(file, "{");
    await expect(run(`--config ${file}`)).rejects.toMatchObject({
      code: "ERR_SERVER_OPTION",
      exitCode: EXIT.usage,
    });
    await expect(run(`--config ${file}.none`)).rejects.toThrow(/cannot be read/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

// Aim: a demo too short for its three deaths is refused with the reason. Method: one second below the least.
test("a demo that is too short is refused", async () => {
  await expect(run("demo --seconds 9")).rejects.toMatchObject({
    code: "ERR_SERVER_OPTION",
    message: expect.stringMatching(/--seconds.*10 \(three kills and three recoveries/) as string,
  });
  expect(await run("demo --seconds 10")).toBe(1);
  expect(seen).toHaveLength(1);
});

// Aim: what is not understood runs nothing and gives the usage code; help and version are no failure.
// Method: unknown flag, unknown command, missing value; --help of each command.
test("what is not understood runs nothing", async () => {
  for (const line of ["--data-drr x", "frobnicate", "--data-dir", "demo extra"])
    expect(await run(line)).toBe(EXIT.usage);
  for (const line of [
    "--help",
    "demo --help",
    "acceptor --help",
    "bridge --help",
    "sync --help",
    "--version",
  ]) {
    expect(await run(line)).toBe(EXIT.ok);
  }
  expect(seen).toEqual([]);
});
