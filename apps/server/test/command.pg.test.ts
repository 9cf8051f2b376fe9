/**
 * The command as its users run it: spawned, with a real PostgreSQL, looked at from outside.
 */
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { expect, test } from "vitest";

import { PostgresCluster, postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";

import { EXIT } from "../src/errors.js";
import { partArguments } from "../src/parts/spawn-part.js";
import {
  allProcesses,
  childrenOf,
  fetchStatus,
  MillraceProcess,
  running,
  untilEnded,
} from "./millrace-process.js";

/** Several starts of PostgreSQL and of five processes, on a machine that does other things too. */
const TIMEOUT_MS = 120_000;
/** What the command promises for an orderly end. */
const END_MS = 10_000;

const system = postgresOrSkip("system");
const embedded = postgresOrSkip("embedded");

async function withSql<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function count(url: string): Promise<number> {
  return await withSql(url, async (client) => {
    const result = await client.query<{ count: string }>("select count(*) from t");
    return Number(result.rows[0]?.count);
  });
}

/** Writes until the connection breaks; gives the number of rows that were acknowledged. */
async function writeUntilCut(url: string, underWay: () => void): Promise<number> {
  return await withSql(url, async (client) => {
    let acknowledged = 0;
    try {
      for (;;) {
        await client.query("insert into t values (0)");
        acknowledged += 1;
        if (acknowledged === 20) underWay();
      }
    } catch {
      return acknowledged;
    }
  });
}

// Aim: the whole life on one data directory: start, SQL, a second instance is refused, SIGINT under load ends everything
// in time, nothing acknowledged is lost, kill -9 leaves no orphan that the next start does not deal with.
// Method: three runs on one directory, looked at through SQL, the status page and the process table.
for (const [pgName, found] of [
  ["system", system],
  ["embedded", embedded],
] as const) {
  test.skipIf(found.skip !== "")(
    `starts, serves, ends and starts again with the same data (${pgName})`,
    async () => {
      await using directory = await temporaryDirectory();
      const dataDir = join(directory.path, "data");
      const args = ["--data-dir", dataDir, "--pg", pgName];
      let rows = 1000;
      let firstUrl = "";
      {
        await using run = new MillraceProcess(args);
        const { psql, status } = await run.up();
        firstUrl = psql;
        await withSql(psql, async (client) => {
          await client.query("create table t (i int)");
          await client.query("insert into t select generate_series(1, 1000)");
        });
        expect(await fetchStatus(status)).toMatchObject({
          acceptors_up: 3,
          bridge: { state: "streaming", term: 1 },
        });
        expect(await (await fetch(status)).text()).toContain("<title>millrace</title>");
        await expect(withSql(psql.replace(/:[^:@]+@/, ":wrong@"), count as never)).rejects.toThrow(
          /password/,
        );

        const asked = new MillraceProcess(["status", "--data-dir", dataDir]);
        expect(await asked.ended).toBe(EXIT.ok);
        expect(asked.output).toContain("commits return: 3 of 3 acceptors take part");
        expect(asked.output).toMatch(/\n {2}3 +ready +active +1 +0\//);
        const scraped = await (await fetch(`${status}metrics`)).text();
        expect(scraped).toContain("\nwalproposer_term 1\n");
        expect(scraped).toContain("\nprocess_resident_memory_bytes ");

        const second = new MillraceProcess(args);
        expect(await second.ended).toBe(EXIT.locked);
        expect(second.output).toContain(`process ${run.child.pid}`);

        const pids = await allProcesses(run, status, join(dataDir, "postgres"));
        expect(running(pids)).toEqual(pids);
        let acknowledged: Promise<number> = Promise.resolve(0);
        await new Promise<void>((underWay) => {
          acknowledged = writeUntilCut(psql, underWay);
        });
        const askedAt = performance.now();
        run.child.kill("SIGINT");
        expect(await run.ended).toBe(EXIT.ok);
        expect(performance.now() - askedAt).toBeLessThan(END_MS);
        expect(running(pids)).toEqual([]);
        rows += await acknowledged;
      }
      {
        await using run = new MillraceProcess(args);
        const { psql, status } = await run.up();
        expect(psql).toBe(firstUrl);
        // The last insert may have been made durable without its client hearing of it.
        expect(await count(psql)).toBeGreaterThanOrEqual(rows);
        expect(await count(psql)).toBeLessThanOrEqual(rows + 1);
        rows = await count(psql);
        const pids = await allProcesses(run, status, join(dataDir, "postgres"));
        run.child.kill("SIGKILL");
        expect(await run.ended).toBe("SIGKILL");
        // Bridge and acceptors end when their parent has gone. PostgreSQL stays; nothing commits on it any more.
        await untilEnded(pids.slice(0, -1));
        const asked = new MillraceProcess(["status", "--data-dir", dataDir]);
        expect(await asked.ended).toBe(EXIT.unavailable);
        expect(asked.output).toContain("no millrace runs on");
      }
      {
        await using run = new MillraceProcess(args);
        const { psql, status } = await run.up();
        expect(await count(psql)).toBe(rows);
        await withSql(psql, (client) => client.query("insert into t values (0)"));
        const pids = await allProcesses(run, status, join(dataDir, "postgres"));
        // Two acceptors hang: there is no quorum, and a fast shutdown of PostgreSQL would wait for one for ever.
        for (const pid of pids.slice(2, 4)) process.kill(pid, "SIGSTOP");
        const askedAt = performance.now();
        run.child.kill("SIGTERM");
        expect(await run.ended).toBe(EXIT.ok);
        expect(performance.now() - askedAt).toBeLessThan(END_MS);
        expect(running(pids)).toEqual([]);
      }
    },
    TIMEOUT_MS,
  );
}

// Aim: a signal during the start ends what has been started by then. Method: SIGINT while PostgreSQL is being made.
test.skipIf(system.skip !== "")(
  "a signal during the start leaves nothing behind",
  async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const run = new MillraceProcess(["--data-dir", dataDir, "--pg", "system", "--log-level", "debug"]);
    await run.line("acceptor listens on");
    const pids = childrenOf(run.child.pid ?? 0);
    expect(pids.length).toBeGreaterThanOrEqual(3);
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(EXIT.ok);
    expect(running(pids)).toEqual([]);
    await using next = new MillraceProcess(["--data-dir", dataDir, "--pg", "system"]);
    await next.up();
  },
  TIMEOUT_MS,
);

// Aim: the demo kills all three, ends with code 0 when everything holds, and shows what was proven.
// Method: run its shortest form.
test.skipIf(embedded.skip !== "")(
  "the demo proves its table and ends with 0",
  async () => {
    const demo = new MillraceProcess(["demo", "--seconds", "10", "--connections", "4", "--pg", "embedded"]);
    const code = await demo.ended;
    expect(demo.output).toContain("All of it holds.");
    for (const victim of ["acceptor 2", "bridge", "PostgreSQL"]) {
      const row = new RegExp(`${victim}, pid (\\d+) -> (\\d+), away [\\d.]+ s, first commit after [\\d.]+ s`);
      const [, pid, newPid] = row.exec(demo.output) ?? [];
      expect(Number(newPid)).toBeGreaterThan(0);
      expect(newPid).not.toBe(pid);
    }
    expect(demo.output).toMatch(
      /WAL of acceptor 3 equals pg_wal +[\dA-F]+\/[\dA-F]+\.\.[\dA-F]+\/[\dA-F]+, \d+ bytes +ok/,
    );
    expect(code).toBe(EXIT.ok);
  },
  TIMEOUT_MS,
);

// Aim: one wrong byte on one acceptor fails the demo, which names the row. Method: have it damage acceptor 2.
test.skipIf(system.skip !== "")(
  "the demo fails on a damaged byte and names the row",
  async () => {
    const args = ["demo", "--seconds", "10", "--connections", "4", "--pg", "system"];
    const demo = new MillraceProcess(args, { MILLRACE_DEMO_CORRUPT: "2" });
    const code = await demo.ended;
    expect(demo.output).toContain('FAILED: "WAL of acceptor 2 equals pg_wal"');
    expect(code).toBe(EXIT.failure);
  },
  TIMEOUT_MS,
);

// Aim: with a PostgreSQL of the user's own: what is missing is said, nothing of theirs is changed or ended, and the
// order of the manual (first millrace, then the setting) works. Method: a server without the setting, then with it.
test.skipIf(system.skip !== "")(
  "works with a running PostgreSQL and leaves it running",
  async () => {
    const { installation } = system;
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    await using theirs = await PostgresCluster.create({
      installation,
      directory: join(directory.path, "theirs"),
      port: 0,
      password: "sesame",
      initdbArguments: ["--no-sync"],
    });
    await theirs.start();
    const dataDir = join(directory.path, "data");
    mkdirSync(dataDir);
    await using run = new MillraceProcess(["--data-dir", dataDir, "--pg", theirs.url()]);
    await run.up();
    expect(run.output).toContain("The guarantee does not hold yet: synchronous_standby_names");
    await withSql(theirs.url(), async (client) => {
      await client.query("alter system set synchronous_standby_names = 'FIRST 1 (walbridge)'");
      await client.query("select pg_reload_conf()");
      await client.query("create table t (i int)");
      const sync = await client.query<{ sync_state: string }>(
        "select sync_state from pg_stat_replication where application_name = 'walbridge'",
      );
      expect(sync.rows).toEqual([{ sync_state: "sync" }]);
    });
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(EXIT.ok);
    expect(theirs.running).toBe(true);
    expect(run.output.replace(/ psql .*/, "")).not.toContain("sesame");

    const wrong = new MillraceProcess([
      "--data-dir",
      join(directory.path, "other"),
      "--pg",
      `${theirs.url()}x`,
    ]);
    expect(await wrong.ended).toBe(EXIT.unavailable);
    expect(wrong.output).toContain("does not exist");
  },
  TIMEOUT_MS,
);

// Aim: a part runs by itself with options from the environment, and a wrong option ends it with the usage code.
// Method: one acceptor on free ports, asked over HTTP; then a bad flag.
test("an acceptor runs by itself", async () => {
  await using directory = await temporaryDirectory();
  const acceptorDirectory = join(directory.path, "acceptor");
  const environment = {
    MILLRACE_DATA_DIR: acceptorDirectory,
    MILLRACE_ID: "18446744073709551615",
    MILLRACE_LISTEN_PG: "127.0.0.1:0",
    MILLRACE_LISTEN_HTTP: "127.0.0.1:0",
    MILLRACE_LOG_FORMAT: "json",
  };
  await using run = new MillraceProcess(["acceptor"], environment);
  const address = /HTTP on (\S+?)"/.exec(await run.line("acceptor listens on"))?.[1] ?? "";
  const answer = await (await fetch(`http://${address}/v1/status`)).text();
  expect(answer).toContain('"id":18446744073709551615');

  const second = new MillraceProcess(["acceptor"], environment);
  expect(await second.ended).toBe(EXIT.locked);
  run.child.kill("SIGTERM");
  expect(await run.ended).toBe(EXIT.ok);

  const other = new MillraceProcess(["acceptor", "--id", "5"], environment);
  expect(await other.ended).toBe(EXIT.usage);
  expect(other.output).toContain("--id");
  const bad = new MillraceProcess(["acceptor", "--listen-pg", "nowhere"], environment);
  expect(await bad.ended).toBe(EXIT.usage);
  expect(bad.output).toContain("--listen-pg");
});

// Aim: a bridge by itself serves its status and metrics from its first moment, and an address that is taken ends it
// before it has taken a term. Method: a PostgreSQL that accepts and says nothing; a second bridge on the same address.
test("a bridge by itself serves status and metrics", async () => {
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as AddressInfo;
  const options = {
    pg: `postgresql://u@127.0.0.1:${port}/postgres`,
    acceptors: "127.0.0.1:1",
    tenant: "0".repeat(32),
    timeline: "1".repeat(32),
  };
  const args = (http: string): string[] => partArguments("bridge", { ...options, "listen-http": http });
  const run = new MillraceProcess([...args("127.0.0.1:0"), "--log-format", "json"]);
  try {
    const address = /HTTP on ([\d.:]+)/.exec(await run.line("bridge's HTTP on"))?.[1] ?? "";
    expect(await (await fetch(`http://${address}/v1/status`)).json()).toMatchObject({ state: null });
    expect(await (await fetch(`http://${address}/metrics`)).text()).toContain(
      "process_resident_memory_bytes",
    );
    const second = new MillraceProcess(args(address));
    expect(await second.ended).toBe(EXIT.unavailable);
    expect(second.output).toContain(`cannot listen on ${address}`);
    run.child.kill("SIGTERM");
    expect(await run.ended).toBe(EXIT.ok);
  } finally {
    await run[Symbol.asyncDispose]();
    silent.close();
  }
});
