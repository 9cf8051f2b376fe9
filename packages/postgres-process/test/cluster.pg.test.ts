import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  PostgresCluster,
  findPostgres,
  firstUnreachable,
  postgresOrSkip,
  runPostgresTool,
  spawnIdentity,
  temporaryDirectory,
} from "../src/index.js";
import { ended, isRunning } from "../src/processes.js";

/** What a program of its own process loads: Node does not read TypeScript. */
const DIST = new URL("../dist/index.js", import.meta.url).href;

/** Sends an SSLRequest and gives the server's one byte: proof that something PostgreSQL-like listens. */
async function sslAnswer(cluster: PostgresCluster): Promise<string> {
  const socket = createConnection(join(cluster.socketDirectory, `.s.PGSQL.${cluster.port}`));
  const request = Buffer.alloc(8);
  request.writeInt32BE(8, 0);
  request.writeInt32BE(80877103, 4);
  return await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("data", (chunk: Buffer) => {
      socket.destroy();
      resolve(chunk.toString("latin1"));
    });
    socket.end(request);
  });
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);

  // Aim: the whole life of a cluster works for whoever runs the tests. Method: create, start, ask, crash, start
  // again (which recovers), stop; then the files are looked at.
  test.skipIf(skip !== "")(`a ${flavour} cluster starts, survives a crash and stops ${skip}`, async () => {
    if (installation === undefined) return;
    await using place = await temporaryDirectory();
    const options = { installation, directory: join(place.path, "pg"), settings: { fsync: "off" } };
    await using cluster = await PostgresCluster.create({ ...options, initdbArguments: ["--no-sync"] });
    await cluster.start();
    expect(await sslAnswer(cluster)).toMatch(/^[SN]$/);
    await cluster.kill();
    expect(cluster.running).toBe(false);
    await cluster.start();
    await cluster.stop("fast");
    expect(existsSync(join(cluster.dataDirectory, "postmaster.pid"))).toBe(false);
    const again = await PostgresCluster.open(options);
    expect(again?.dataDirectory).toBe(cluster.dataDirectory);
  });
}

// Aim: a start that fails says why. Method: a setting that no server has is added to the configuration.
test("a server that cannot start is reported with its log", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  await using place = await temporaryDirectory();
  await using cluster = await PostgresCluster.create({
    installation,
    directory: join(place.path, "pg"),
    settings: { no_such_setting: "1" },
    initdbArguments: ["--no-sync"],
  });
  await expect(cluster.start()).rejects.toMatchObject({
    code: "ERR_POSTGRES_START",
    message: expect.stringContaining("no_such_setting") as string,
  });
  expect(cluster.running).toBe(false);
});

// Aim: a server that a killed owner left behind does not block the directory. Method: a second owner object
// starts on the same directory while the first one's server runs.
test("a left-over server is stopped before a new one starts", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  await using place = await temporaryDirectory();
  const options = { installation, directory: join(place.path, "pg"), settings: { fsync: "off" } };
  await using first = await PostgresCluster.create({ ...options, initdbArguments: ["--no-sync"] });
  await first.start();
  const left = first.pid;
  await using second = await PostgresCluster.open(options);
  await second?.start();
  expect(second?.pid).not.toBe(left);
  const pidFile = await readFile(join(first.dataDirectory, "postmaster.pid"), "utf8");
  expect(Number(pidFile.split("\n")[0])).toBe(second?.pid);
});

// Aim: a directory without programs, or with programs that do not run, is not an installation.
test("a directory without a working postgres is no installation", async () => {
  await using place = await temporaryDirectory();
  expect(findPostgres({ binDirectory: place.path })).toBeUndefined();
  await mkdir(join(place.path, "bin"));
  for (const name of ["postgres", "initdb"]) await appendFile(join(place.path, "bin", name), "not a program");
  expect(findPostgres({ binDirectory: join(place.path, "bin") })).toBeUndefined();
});

// Aim: a tool's failure is a result and a missing tool an error.
test("a tool that fails gives its code, one that is missing gives an error", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  const failed = await runPostgresTool(installation, "initdb", ["--no-such-option"]);
  expect(failed.code).not.toBe(0);
  expect(failed.stderr).toContain("no-such-option");
  await expect(runPostgresTool(installation, "pg_no_such_tool", [])).rejects.toMatchObject({
    code: "ERR_POSTGRES_TOOL",
  });
});

// Aim: nothing half-made is left of an initdb that fails. Method: a segment size that initdb refuses.
test("a failed initdb is reported and leaves no data directory", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  await using place = await temporaryDirectory();
  const directory = join(place.path, "pg");
  const made = PostgresCluster.create({ installation, directory, segmentBytes: 3 * 1024 * 1024 });
  await expect(made).rejects.toMatchObject({ code: "ERR_POSTGRES_INITDB" });
  expect(existsSync(join(directory, "data"))).toBe(false);
  expect(await PostgresCluster.open({ installation, directory })).toBeUndefined();
});

// Aim: a server that hangs in its shutdown is reported and can be stopped harder. Method: the postmaster is
// stopped with SIGSTOP, so that it cannot react.
test("a server that does not end in time is reported, and a harder stop follows", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  await using place = await temporaryDirectory();
  const directory = join(place.path, "pg");
  await using cluster = await PostgresCluster.create({
    installation,
    directory,
    initdbArguments: ["--no-sync"],
  });
  await cluster.start();
  process.kill(cluster.pid ?? 0, "SIGSTOP");
  await expect(cluster.stop("fast", 50)).rejects.toMatchObject({ code: "ERR_POSTGRES_STOP_TIMEOUT" });
  process.kill(cluster.pid ?? 0, "SIGCONT");
  await cluster.stop("immediate");
  expect(cluster.running).toBe(false);
});

// Aim: a test that must not skip does not. Method: with REQUIRE_PG=1 a directory without programs is asked for.
test("a required PostgreSQL that is missing is an error, otherwise a reason to skip", async () => {
  await using place = await temporaryDirectory();
  const before = process.env["REQUIRE_PG"];
  try {
    process.env["REQUIRE_PG"] = "1";
    expect(() => postgresOrSkip({ binDirectory: place.path })).toThrowError(
      expect.objectContaining({ code: "ERR_POSTGRES_NOT_FOUND" }) as Error,
    );
    delete process.env["REQUIRE_PG"];
    expect(postgresOrSkip({ binDirectory: place.path }).skip).toContain(place.path);
  } finally {
    if (before === undefined) delete process.env["REQUIRE_PG"];
    else process.env["REQUIRE_PG"] = before;
  }
});

// Aim: root learns which directory keeps the server's account out. Method: a private directory above the cluster;
// for an ordinary user every directory of his is reachable and the test says so.
test("a directory that the server's account cannot enter is named", async () => {
  await using place = await temporaryDirectory();
  const closed = join(place.path, "private");
  await mkdir(closed, { mode: 0o700 });
  const { installation } = postgresOrSkip("any");
  if (spawnIdentity().uid === undefined || installation === undefined) {
    expect(firstUnreachable(closed)).toBeUndefined();
    return;
  }
  expect(firstUnreachable(join(closed, "pg"))).toBe(closed);
  const made = PostgresCluster.create({ installation, directory: join(closed, "pg") });
  await expect(made).rejects.toMatchObject({ code: "ERR_POSTGRES_UNREACHABLE" });
});

// Aim: no server outlives the process that started it, not even a killed one. Method: a child process starts a
// cluster, says its pid and is killed with SIGKILL; the end of the postmaster is awaited, not timed.
test("a server ends when its owner is killed", async () => {
  const { installation, skip } = postgresOrSkip("any");
  if (installation === undefined) return expect(skip).not.toBe("");
  await using place = await temporaryDirectory();
  const options = { installation, directory: join(place.path, "pg") };
  await PostgresCluster.create({ ...options, initdbArguments: ["--no-sync"] });
  const program = `
    const { PostgresCluster, findPostgres } = await import(${JSON.stringify(DIST)});
    const cluster = await PostgresCluster.open({
      installation: findPostgres({ binDirectory: ${JSON.stringify(installation.binDirectory)} }),
      directory: ${JSON.stringify(options.directory)},
    });
    await cluster.start();
    console.log(cluster.pid);`;
  const owner = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["pipe", "pipe", 2],
  });
  const postmaster = await new Promise<number>((resolve) => {
    owner.stdout?.once("data", (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  expect(isRunning(postmaster)).toBe(true);
  owner.kill("SIGKILL");
  expect(await ended([postmaster], 30_000)).toBe(true);
});
