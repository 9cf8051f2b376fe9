/**
 * A disk that fails a sync, seen from outside: the acceptor's process ends at once, and its successor finds what had been
 * acknowledged.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { parseLsn } from "@millrace/lsn";
import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import { postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";

import { EXIT } from "../src/errors.js";
import { MillraceProcess } from "./millrace-process.js";

const TIMEOUT_MS = 120_000;
const system = postgresOrSkip("system");
const skipped = process.platform !== "linux" || system.skip !== "";

interface Part {
  readonly http_url: string;
  readonly flush_lsn: string | null;
}

interface Ids {
  readonly tenant_id: string;
  readonly timeline_id: string;
}

/** An acceptor's own account of its timelines. */
interface Timelines {
  readonly timelines: readonly Ids[];
  readonly loading: readonly Ids[];
  readonly unloadable: readonly unknown[];
}

async function json<T>(url: string): Promise<T> {
  return (await (await fetch(url)).json()) as T;
}

// Aim: a failed fdatasync is final: the process ends with its own code instead of trying again, commits go on with the
// other two, and after the restart nothing that it had acknowledged is missing. Method: the whole on one machine, with
// the syncs of acceptor 2 failing from a moment on; its log end before and after is asked over HTTP.
test.skipIf(skipped)(
  `an acceptor whose disk fails a sync ends with code ${EXIT.syncFailed} and comes back with all it acknowledged`,
  { timeout: TIMEOUT_MS },
  async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const marker = join(directory.path, "marker");
    const preload = new URL("./failing-sync.mjs", import.meta.url).href;
    await using run = new MillraceProcess(["--data-dir", dataDir, "--pg", "system", "--log-level", "debug"], {
      NODE_OPTIONS: `--import ${preload}`,
      FAILING_SYNC_MARKER: marker,
    });
    const { psql, status } = await run.up();
    const sql = await connect(parseConnectionUrl(psql));
    await sql.query("create table t (i int)");
    await sql.query("insert into t select generate_series(1, 1000)");
    const { acceptors } = await json<{ readonly acceptors: readonly Part[] }>(`${status}v1/status`);
    const second = acceptors[1];
    if (second === undefined) throw new Error("there is no second acceptor");
    const place = `${second.http_url}/v1/tenant/timeline`;
    const acknowledged = parseLsn(second.flush_lsn ?? "0/0");
    expect(acknowledged).toBeGreaterThan(0n);

    const ended = run.line("ended unexpectedly");
    writeFileSync(marker, join(dataDir, "acceptor-2"));
    await sql.query("insert into t select generate_series(1, 1000)");
    expect(await ended).toContain(`code ${EXIT.syncFailed}`);
    const back = run.line("acceptor listens on"); // due a second after the end
    expect(run.output).toContain("an fsync failed; ending, to recover from disk at the next start");
    await sql.query("insert into t select generate_series(1, 1000)");

    rmSync(marker);
    await back;
    const found = await json<Timelines>(place);
    expect(found.unloadable).toEqual([]);
    // The ports are open before the timelines are loaded; who asks for one waits for it.
    const [ids] = [...found.timelines, ...found.loading];
    if (ids === undefined) throw new Error("the timeline is gone");
    const timeline = `${second.http_url}/v1/tenant/${ids.tenant_id}/timeline/${ids.timeline_id}`;
    const { flush_lsn } = await json<{ readonly flush_lsn: string }>(timeline);
    expect(parseLsn(flush_lsn)).toBeGreaterThanOrEqual(acknowledged);
    const [result] = await sql.query("select count(*) from t");
    expect(result?.rows).toEqual([["3000"]]);
    await sql.close();
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(EXIT.ok);
  },
);
