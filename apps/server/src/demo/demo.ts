/**
 * `millrace demo`: runs the all-in-one under load, kills an acceptor, the bridge and PostgreSQL, and proves afterwards
 * that nothing is lost.
 *
 * What is proven, each a row of the table: transactions were committed; each of the three was killed with SIGKILL in
 * the middle of the load, came back, and commits went on; how long commits stopped; each acceptor's WAL equals
 * PostgreSQL's pg_wal byte for byte from the start of the timeline to the flush position; every acknowledged row is in
 * the table; all processes end. The exit code is taken from the rows (report.ts); the deaths are in kills.ts.
 *
 * PostgreSQL keeps all WAL of the run, so that the comparison is over the whole of it, also over what was written
 * before its crash and over what crash recovery wrote anew behind its last whole record. The program needs a PostgreSQL
 * of its own for that: a server somewhere else can neither be killed nor be asked for its files.
 */
import { join } from "node:path";

import { formatLsn, minLsn, parseLsn, SEGMENT_BYTES_DEFAULT } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { temporaryDirectory } from "@millrace/postgres-process";

import { AllInOne, StoppedError } from "../all-in-one.js";
import { WAL_KEEP_MAX } from "../configuration/acceptor-options.js";
import type { DemoConfiguration } from "../configuration/all-in-one-options.js";
import { systemProcesses } from "../data-lock.js";
import { EXIT, ServerError } from "../errors.js";
import { fetchTimeline } from "../http/acceptor-client.js";
import { createLogger } from "../logging.js";
import { installLifetime } from "../parts/lifetime.js";
import { delay } from "../waiting.js";
import { CommitLog } from "./commit-log.js";
import { corruptIfAsked } from "./corruption.js";
import { loadRows } from "./kill-rows.js";
import { killTargets, runKills } from "./kills.js";
import type { KillOutcome } from "./kills.js";
import { commitOneMore, createTable, presentIds, runLoad, withClient } from "./load.js";
import { allHold, formatReport } from "./report.js";
import type { ReportRow } from "./report.js";
import { compareWal } from "./wal-comparison.js";

/** A lagging acceptor has to fetch what it missed; a minute is far above what a load of an hour leaves behind. */
const CATCH_UP_MS = 60_000;
const CATCH_UP_POLL_MS = 200;
/** The load goes on for this long behind the last recovery: the first commit alone would not show that commits go on. */
const SETTLED_MS = 1000;

/** Nothing is removed from pg_wal during the run: the largest value, in MB, that PostgreSQL takes. */
const KEEP_ALL_WAL: Readonly<Record<string, string>> = { wal_keep_size: "2147483647" };

type Say = (line: string) => void;

interface LoadOutcome {
  readonly log: CommitLog;
  readonly kills: readonly KillOutcome[];
}

async function loadWithKills(
  app: AllInOne,
  configuration: DemoConfiguration,
  say: Say,
): Promise<LoadOutcome> {
  const { seconds, connections } = configuration;
  await createTable(app.postgresUrl);
  say(`${connections} connections write for ${seconds} s`);
  const end = new AbortController();
  const nowMs = (): number => performance.now();
  const log = new CommitLog(nowMs());
  let postgresKilledMs: number | undefined;
  const load = runLoad({
    url: app.postgresUrl,
    connections,
    log,
    nowMs,
    signal: end.signal,
    killedAtMs: () => postgresKilledMs,
  });
  const kills = runKills({
    targets: killTargets(app),
    log,
    seconds,
    nowMs,
    say,
    onPostgresKill: (atMs) => {
      postgresKilledMs = atMs;
    },
  });
  const settled = kills.then(() => delay(SETTLED_MS));
  settled.catch(() => undefined);
  // A load that ended before the last part is back would not show that commits go on through its return. The series
  // is bounded by itself; a load that breaks ends everything.
  await Promise.race([Promise.all([delay(seconds * 1000), settled]), load]);
  end.abort();
  log.finish(nowMs());
  await load;
  return { log, kills: await kills };
}

/** PostgreSQL's flush position once every acceptor has flushed that far, and how far each one came. */
async function waitForAll(app: AllInOne): Promise<{ flushLsn: Lsn; behind: string[]; tookMs: number }> {
  const startedAt = performance.now();
  return await withClient(app.postgresUrl, async (client) => {
    for (;;) {
      // A flush position can be in the middle of a record; one more commit brings it past that record.
      await commitOneMore(client);
      const result = await client.query<{ lsn: string }>("select pg_current_wal_flush_lsn() as lsn");
      const flushLsn = parseLsn(result.rows[0]?.lsn ?? "0/0");
      const behind: string[] = [];
      for (const place of app.places) {
        const timeline = await fetchTimeline(
          place.httpUrl,
          app.instance.tenantId,
          app.instance.timelineId,
        ).catch(() => undefined);
        if (timeline === undefined || timeline.flushLsn < flushLsn) behind.push(`acceptor ${place.id}`);
      }
      const tookMs = performance.now() - startedAt;
      if (behind.length === 0 || tookMs > CATCH_UP_MS) return { flushLsn, behind, tookMs };
      await delay(CATCH_UP_POLL_MS);
    }
  });
}

async function comparisonRows(app: AllInOne, flushLsn: Lsn): Promise<ReportRow[]> {
  const { cluster, instance } = app;
  if (cluster === undefined)
    throw new ServerError("ERR_SERVER_DEMO", "the demo needs a PostgreSQL of its own");
  const timelines = await Promise.all(
    app.places.map((place) => fetchTimeline(place.httpUrl, instance.tenantId, instance.timelineId)),
  );
  // Not what each acceptor says of itself: one that began later than the others lacks what lies before.
  const startLsn = minLsn(flushLsn, ...timelines.map((timeline) => timeline.timelineStartLsn));
  const rows: ReportRow[] = [];
  for (const [index, place] of app.places.entries()) {
    const name = `WAL of acceptor ${place.id} equals pg_wal`;
    const segmentBytes = timelines[index]?.segmentBytes ?? SEGMENT_BYTES_DEFAULT;
    const comparison = await compareWal(
      {
        name: "PostgreSQL",
        directory: join(cluster.dataDirectory, "pg_wal"),
        timelineId: 1,
        partial: false,
      },
      {
        name: `acceptor ${place.id}`,
        directory: join(place.directory, instance.tenantId, instance.timelineId),
        timelineId: 1,
        partial: true,
      },
      startLsn,
      flushLsn,
      segmentBytes,
    );
    const range = `${formatLsn(startLsn)}..${formatLsn(flushLsn)}`;
    rows.push(
      comparison.equal
        ? { name, figure: `${range}, ${comparison.bytes} bytes`, ok: comparison.bytes > 0 }
        : { name, figure: comparison.reason, ok: false },
    );
  }
  return rows;
}

/** The whole proof, from the load to the last comparison. */
async function prove(app: AllInOne, configuration: DemoConfiguration, say: Say): Promise<ReportRow[]> {
  const outcome = await loadWithKills(app, configuration, say);
  say("load ended; waiting until every acceptor has everything");
  const { flushLsn, behind, tookMs } = await waitForAll(app);
  await corruptIfAsked(app, say);
  say(`comparing all WAL up to ${formatLsn(flushLsn)}, byte by byte`);
  const present = await presentIds(app.postgresUrl);
  const missing = outcome.log.missingFrom(present);
  return [
    ...loadRows(outcome.log, outcome.kills),
    {
      name: "every acceptor has all WAL",
      figure:
        behind.length === 0
          ? `${formatLsn(flushLsn)}, after ${Math.round(tookMs)} ms`
          : `behind: ${behind.join(", ")}`,
      ok: behind.length === 0,
    },
    ...(await comparisonRows(app, flushLsn)),
    {
      name: "acknowledged transactions in the table",
      figure: `${outcome.log.count - missing.length} of ${outcome.log.count}`,
      ok: missing.length === 0 && outcome.log.count > 0,
    },
  ];
}

/** After the end: none of the processes that were running may run any more. */
function endRow(pids: readonly number[]): ReportRow {
  const left = pids.filter((pid) => systemProcesses.startTime(pid) !== undefined);
  return {
    name: "processes ended",
    figure: `${pids.length - left.length} of ${pids.length}`,
    ok: left.length === 0 && pids.length > 0,
  };
}

/** Runs the demo and gives the exit code: 0 only if every row holds. */
export async function runDemo(configuration: DemoConfiguration): Promise<number> {
  if (configuration.pg.startsWith("postgres")) {
    throw new ServerError(
      "ERR_SERVER_OPTION",
      "--pg: the demo compares files of PostgreSQL's pg_wal and needs a PostgreSQL of its own; give system or embedded",
    );
  }
  await using temporary =
    configuration.dataDir === undefined ? await temporaryDirectory("millrace-demo-") : undefined;
  const dataDir = configuration.dataDir ?? temporary?.path ?? "";
  const logger = createLogger({ level: configuration.logLevel, format: configuration.logFormat });
  const lifetime = installLifetime();
  const app = new AllInOne({
    ...configuration,
    dataDir,
    logger,
    postgresSettings: KEEP_ALL_WAL,
    walKeepBytes: WAL_KEEP_MAX,
  });
  lifetime.onSecond(() => {
    void app.kill().finally(() => process.exit(EXIT.interrupted));
  });
  const startedAt = performance.now();
  const say: Say = (line) => {
    process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)} s  ${line}\n`);
  };
  const interrupted = lifetime.stopped.then(() => {
    throw new StoppedError("interrupted");
  });
  interrupted.catch(() => undefined);
  let rows: ReportRow[];
  let pids: number[] = [];
  try {
    await Promise.race([app.start(), interrupted]);
    say(`up: ${app.postgresKind}, bridge, three acceptors`);
    rows = await Promise.race([prove(app, configuration, say), interrupted]);
    pids = app.processIds();
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    process.stdout.write("interrupted: nothing was proven\n");
    return EXIT.interrupted;
  } finally {
    await app.stop();
  }
  rows.push(endRow(pids));
  process.stdout.write(`\n${formatReport(rows)}`);
  return allHold(rows) ? EXIT.ok : EXIT.failure;
}
