/**
 * A PostgreSQL whose log is not the acceptors', through the processes that an operator runs: its bridge is refused with
 * a message that says what to do, and no byte of WAL changes on any acceptor.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { addBytes, parseLsn, segmentFileName, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import { PostgresCluster, postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresChoice } from "@millrace/postgres-process";
import { CONTROL_FILE_NAME } from "@millrace/wal-acceptor";

import { EXIT } from "../src/errors.js";
import { partArguments } from "../src/parts/spawn-part.js";
import { ownSettings } from "../src/postgres/own-postgres.js";
import { MillraceProcess } from "./millrace-process.js";
import { TENANT, TIMELINE } from "./small-cluster.js";
import { value } from "./stock-client.js";

const SERVERS: readonly PostgresChoice[] = ["system", "embedded"];
const SEGMENT_BYTES = 1024 * 1024;
const INSERT = "insert into t select g, repeat('x', 1000) from generate_series(1, 500) g";

/** One acceptor's process. */
class AcceptorProcess implements AsyncDisposable {
  readonly directory: string;
  readonly run: MillraceProcess;
  walAddress = "";
  httpUrl = "";

  constructor(directory: string, id: number) {
    this.directory = directory;
    const anywhere = { "listen-pg": "127.0.0.1:0", "listen-http": "127.0.0.1:0" };
    const options = { "data-dir": directory, id: String(id), ...anywhere, "log-format": "json" };
    this.run = new MillraceProcess(partArguments("acceptor", options));
  }

  async listening(): Promise<void> {
    const line = await this.run.line("acceptor listens on");
    const found = /listens on (\S+), HTTP on (\S+?)"/.exec(line);
    this.walAddress = found?.[1] ?? "";
    this.httpUrl = `http://${found?.[2]}`;
  }

  /** Every file of the timeline with its digest, but for the control file: a vote, which comes first, changes that. */
  files(): Record<string, string> {
    const directory = join(this.directory, TENANT, TIMELINE);
    const names = readdirSync(directory).filter((name) => name !== CONTROL_FILE_NAME);
    const digest = (name: string): string =>
      createHash("sha256")
        .update(readFileSync(join(directory, name)))
        .digest("hex");
    return Object.fromEntries(names.map((name) => [name, digest(name)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.run.child.kill("SIGKILL");
    await this.run.ended;
  }
}

async function flushLsnOf(sql: ClientConnection): Promise<Lsn> {
  return parseLsn(await value(sql, "select pg_current_wal_flush_lsn()"));
}

/** Deletes the segment that holds the last byte below `endLsn`, and all behind it. @returns how many */
function loseLastSegments(postgres: PostgresCluster, endLsn: Lsn): number {
  const directory = join(postgres.dataDirectory, "pg_wal");
  const from = segmentFileName(1, segmentNumber(addBytes(endLsn, -1), SEGMENT_BYTES), SEGMENT_BYTES);
  const lost = readdirSync(directory).filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= from);
  for (const name of lost) rmSync(join(directory, name));
  return lost.length;
}

for (const choice of SERVERS) {
  const { installation, skip } = postgresOrSkip(choice);
  const name = typeof choice === "string" ? choice : "";

  // Aim: neither a shorter log nor another one of the same length gets past the bridge. Method: crash PostgreSQL and
  // delete its last segments; then let it write on, at the same positions, until its log is the longer one.
  test.skipIf(skip !== "")(
    `a PostgreSQL that has lost WAL is refused, then and later, and acceptors keep theirs (${name})`,
    { timeout: 60_000 },
    async () => {
      if (installation === undefined) return;
      await using directory = await temporaryDirectory();
      await using postgres = await PostgresCluster.create({
        installation,
        directory: join(directory.path, "postgres"),
        segmentBytes: SEGMENT_BYTES,
        initdbArguments: ["--no-sync"],
        settings: { ...ownSettings("walbridge"), max_wal_size: "16MB", autovacuum: "off", fsync: "off" },
      });
      await using first = new AcceptorProcess(join(directory.path, "acceptor-1"), 1);
      await using second = new AcceptorProcess(join(directory.path, "acceptor-2"), 2);
      await using third = new AcceptorProcess(join(directory.path, "acceptor-3"), 3);
      const acceptors = [first, second, third];
      await Promise.all([postgres.start(), ...acceptors.map((acceptor) => acceptor.listening())]);
      const options = {
        pg: postgres.url(),
        acceptors: acceptors.map(({ walAddress }) => walAddress).join(","),
        "acceptor-http": acceptors.map(({ httpUrl }) => httpUrl).join(","),
        tenant: TENANT,
        timeline: TIMELINE,
        "log-format": "json",
      };
      const bridge = (): MillraceProcess => new MillraceProcess(partArguments("bridge", options));
      const files = (): Record<string, string>[] => acceptors.map((acceptor) => acceptor.files());

      let endLsn: Lsn;
      {
        await using run = bridge();
        await run.line('"to":"streaming"');
        await using sql = await connect(parseConnectionUrl(postgres.url()));
        await sql.query("create table t (i int, s text)");
        await sql.query("checkpoint");
        for (let i = 0; i < 5; i += 1) await sql.query(INSERT);
        endLsn = await flushLsnOf(sql);
        run.child.kill("SIGTERM");
        expect(await run.ended).toBe(EXIT.ok);
      }
      await postgres.kill();
      expect(loseLastSegments(postgres, endLsn)).toBeGreaterThan(0);
      await postgres.start();
      const before = files();
      expect(Object.keys(before[0] ?? {}).length).toBeGreaterThan(2);

      await using shorter = bridge();
      expect(await shorter.ended).toBe(EXIT.refused);
      expect(shorter.output).toMatch(
        /acceptors have WAL up to \S+, PostgreSQL only up to .*rebuild this PostgreSQL/,
      );
      expect(files()).toEqual(before);

      await using sql = await connect(parseConnectionUrl(postgres.url()));
      await sql.query("set synchronous_commit = local");
      while ((await flushLsnOf(sql)) <= endLsn) await sql.query(INSERT);
      await using longer = bridge();
      expect(await longer.ended).toBe(EXIT.refused);
      expect(longer.output).toMatch(
        /WAL is not what acceptors hold: 127\.0\.0\.1:\d+ differs between .*rebuild or rewind this PostgreSQL/,
      );
      expect(files()).toEqual(before);
    },
  );
}
