// The bridge between real PostgreSQL servers and acceptors that live in this process.
import { formatLsn, INVALID_LSN, parseLsn, segmentOffset } from "@millrace/lsn";
import { postgresOrSkip } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { Bridge } from "../src/index.js";
import { Primary, SEGMENT_BYTES } from "./harness/primary.js";
import { common, expectSameWal, lsnOf, value } from "./harness/same-wal.js";
import { configurationOf } from "./harness/test-acceptor.js";

const INSERT = "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 200) g";
const CREATE = "CREATE TABLE t (i int, s text)";

const TIMEOUT = { timeout: 60_000 };

function starter(
  installation: PostgresInstallation | undefined,
): (settings?: Readonly<Record<string, string>>) => Promise<Primary> {
  return (settings) => {
    if (installation === undefined) throw new Error("these tests are skipped without a PostgreSQL");
    return Primary.start(installation, settings);
  };
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);
  const start = starter(installation);

  describe.skipIf(skip !== "")(`PostgreSQL (${flavour}) ${skip}`, () => {
    // Aim: the promise itself. Method: two of three acceptors hold back their acknowledgements; the commit's record is
    // on the first one, the server does other work meanwhile, and the commit has not returned; one lets go, it returns.
    test("a commit returns with the quorum and not before", TIMEOUT, async () => {
      await using primary = await start();
      const bridge = await primary.bridge();
      await bridge.streaming;
      const [sql, other] = [await primary.sql(), await primary.sql(true)];
      await sql.query(CREATE);
      const [first, second, third] = primary.acceptors;
      second?.holdAcks();
      third?.holdAcks();
      let returned = false;
      const committed = sql.query(INSERT).then(() => {
        returned = true;
      });
      const before = bridge.status().commitLsn;
      await first?.until(() => first.flushLsn > before && first.flushLsn === bridge.status().receivedLsn);
      const waiting = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
      expect(await value(other, waiting)).toBe("1");
      const reported = "SELECT flush_lsn FROM pg_stat_replication WHERE application_name = 'walbridge'";
      expect((await lsnOf(other, reported)) < (first?.flushLsn ?? INVALID_LSN)).toBe(true);
      expect(returned).toBe(false);
      third?.releaseAcks();
      await committed;
      expect(bridge.status().commitLsn > before).toBe(true);
      second?.releaseAcks();
    });

    // Aim: acceptors hold every segment from its first byte. Method: where their timelines begin, what is there, and
    // that all of it is PostgreSQL's own WAL.
    test("a new timeline begins with a segment whose first record is whole", TIMEOUT, async () => {
      await using primary = await start();
      const bridge = await primary.bridge();
      await bridge.streaming;
      const sql = await primary.sql();
      await sql.query(CREATE);
      for (let i = 0; i < 5; i += 1) await sql.query(INSERT);
      await bridge.close();
      const starts = primary.acceptors.map(({ startLsn }) => startLsn);
      expect(new Set(starts).size).toBe(1);
      const startLsn = starts[0] ?? INVALID_LSN;
      expect(segmentOffset(startLsn, SEGMENT_BYTES)).toBe(0);
      const pageInfo = primary.acceptors[0]
        ?.bytes(startLsn, common(primary.acceptors).endLsn)
        .readUInt16LE(2);
      expect((pageInfo ?? 1) & 1).toBe(0); // XLP_FIRST_IS_CONTRECORD
      expectSameWal(primary);
      expect((await bridge.closed).reason).toBe("closed");
    });

    // Aim: PostgreSQL's own shutdown is not held up by the bridge, and nothing of it is lost. Method: fast shutdown.
    test(
      "a fast shutdown of PostgreSQL ends cleanly with all of its WAL on the quorum",
      TIMEOUT,
      async () => {
        await using primary = await start();
        const bridge = await primary.bridge({ postgresReconnectMs: 0 });
        await bridge.streaming;
        const sql = await primary.sql();
        await sql.query(CREATE);
        const before = await lsnOf(sql, "SELECT pg_current_wal_insert_lsn()");
        await primary.cluster.stop("fast", TIMEOUT.timeout);
        const end = await bridge.closed;
        expect(end.reason).toBe("pg_lost");
        expect(bridge.status().commitLsn > before).toBe(true); // the shutdown checkpoint lies behind it
        expect(bridge.status().commitLsn).toBe(bridge.status().receivedLsn);
      },
    );
  });
}

const { installation: anyInstallation, skip: skipAny } = postgresOrSkip("any");
const start = starter(anyInstallation);

describe.skipIf(skipAny !== "")(`any PostgreSQL ${skipAny}`, () => {
  // Aim: a bridge is replaced without a gap. Method: close one, write while none is there, open another.
  test("the next bridge continues in a higher term, with what was written in between", TIMEOUT, async () => {
    await using primary = await start();
    const first = await primary.bridge();
    await first.streaming;
    const sql = await primary.sql();
    await sql.query(CREATE);
    const { term, commitLsn } = first.status();
    await first.close();
    const local = await primary.sql(true);
    for (let i = 0; i < 100; i += 1) await local.query(INSERT);
    const second = await primary.bridge();
    await second.streaming;
    await sql.query(INSERT);
    expect(second.status().term).toBe(term + 1n);
    expect(second.status().termStartLsn >= commitLsn).toBe(true);
    const endLsn = second.status().commitLsn;
    for (const acceptor of primary.acceptors) await acceptor.until(() => acceptor.flushLsn >= endLsn);
    expectSameWal(primary);
    for (const { history } of primary.acceptors)
      expect(history.map((entry) => entry.term)).toEqual([0n, term, term + 1n]);
  });

  // Aim: nothing is reported before the first commit of the term. Method: no acceptor acknowledges anything.
  test("PostgreSQL sees an asynchronous standby until the first commit of the term", TIMEOUT, async () => {
    await using primary = await start();
    for (const acceptor of primary.acceptors) acceptor.holdAcks();
    const bridge = await primary.bridge();
    await bridge.streaming;
    const [sql, local] = [await primary.sql(), await primary.sql(true)];
    await local.query(CREATE);
    const [first] = primary.acceptors;
    await first?.until(() => first.flushLsn > bridge.status().termStartLsn);
    const state =
      "SELECT sync_state || ' ' || coalesce(flush_lsn::text, 'none') FROM pg_stat_replication WHERE application_name = 'walbridge'";
    expect(await value(local, state)).toBe("async none");
    expect(bridge.status().reportedLsn).toBe(INVALID_LSN);
    for (const acceptor of primary.acceptors) acceptor.releaseAcks();
    await sql.query(INSERT);
    expect(await value(local, state)).toMatch(/^sync /);
    const { reportedLsn, commitLsn, receivedLsn } = bridge.status();
    expect(reportedLsn <= commitLsn && reportedLsn <= receivedLsn).toBe(true);
  });

  // Aim: an acceptor that missed more than the ring holds is fed from PostgreSQL, whose slot kept the WAL. Method: a
  // tiny ring, megabytes and checkpoints while one acceptor is away.
  test("an acceptor below the ring catches up from PostgreSQL", TIMEOUT, async () => {
    await using primary = await start();
    const bridge = await primary.bridge({ ringBytes: 262_144 });
    await bridge.streaming;
    const sql = await primary.sql();
    await sql.query(CREATE);
    const third = primary.acceptors[2];
    await third?.stop();
    const missedFrom = third?.writeLsn ?? INVALID_LSN;
    for (let i = 0; i < 150; i += 1) await sql.query(INSERT);
    await sql.query("CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT");
    await sql.query(INSERT);
    const { ringStartLsn, truncateLsn, commitLsn } = bridge.status();
    expect((ringStartLsn ?? INVALID_LSN) > missedFrom).toBe(true);
    expect(truncateLsn <= missedFrom).toBe(true);
    const slot = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walbridge_retain'";
    expect((await lsnOf(sql, slot)) <= missedFrom).toBe(true);
    await third?.restart();
    await third?.until(() => third.flushLsn >= commitLsn);
    expectSameWal(primary);
    await sql.query(INSERT);
    await third?.until(() => third.flushLsn >= bridge.status().commitLsn);
    expectSameWal(primary);
  });

  // Aim: what an absent acceptor needs stays in PostgreSQL, also when bridges change. Method: megabytes and checkpoints
  // while one is away; the first bridge's last report on the slot; the next bridge feeds the acceptor.
  test("the slot keeps what an absent acceptor needs, across bridges", TIMEOUT, async () => {
    await using primary = await start();
    const first = await primary.bridge();
    await first.streaming;
    const sql = await primary.sql();
    await sql.query(CREATE);
    const third = primary.acceptors[2];
    await third?.stop();
    const missedFrom = third?.writeLsn ?? INVALID_LSN;
    for (let i = 0; i < 100; i += 1) await sql.query(INSERT);
    await first.close();
    const local = await primary.sql(true);
    await local.query("SELECT pg_switch_wal(); CHECKPOINT");
    const slot = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walbridge_retain'";
    const restartLsn = await lsnOf(local, slot);
    expect(restartLsn <= missedFrom).toBe(true);
    expect(restartLsn >= (third?.startLsn ?? INVALID_LSN)).toBe(true);
    await third?.restart();
    const second = await primary.bridge({ ringBytes: 262_144 });
    await second.streaming;
    await sql.query(INSERT);
    const { commitLsn } = second.status();
    await third?.until(() => third.flushLsn >= commitLsn);
    expectSameWal(primary);
  });

  // Aim: what a client was told is committed, a quorum has, whatever is killed. Method: a client commits without a
  // pause; five bridges in a row are dropped in the middle of it, each time one acceptor goes and comes back. When a
  // commit returns, two acceptors must have more than its message's position: its commit record lies behind that.
  // Acceptors take their time, so that a report that does not wait for them comes first.
  test(
    "no acknowledged commit is missing from the quorum when bridges and acceptors are killed",
    TIMEOUT,
    async () => {
      await using primary = await start();
      let bridge = await primary.bridge();
      await bridge.streaming;
      const sql = await primary.sql();
      for (const acceptor of primary.acceptors) acceptor.delayTurns = 50;
      const writing = new AbortController();
      let commits = 0;
      const missing: string[] = [];
      const writer = (async () => {
        while (!writing.signal.aborted) {
          const lsn = await lsnOf(sql, "SELECT pg_logical_emit_message(true, 'test', repeat('x', 300))");
          commits += 1;
          const holders = primary.acceptors.filter(({ flushLsn }) => flushLsn > lsn);
          if (holders.length < 2) missing.push(formatLsn(lsn));
        }
      })();
      for (let round = 0; round < 5; round += 1) {
        const [away, watched] = [primary.acceptors[round % 3], primary.acceptors[(round + 1) % 3]];
        const seen = commits;
        await watched?.until(() => commits > seen + 10);
        await away?.stop();
        await watched?.until(() => commits > seen + 20);
        await bridge.close({ immediate: true });
        await away?.restart();
        bridge = await primary.bridge();
        await bridge.streaming;
      }
      const seen = commits;
      await primary.acceptors[0]?.until(() => commits > seen + 10);
      writing.abort();
      await writer;
      expect(missing).toEqual([]);
      const { commitLsn } = bridge.status();
      for (const acceptor of primary.acceptors) await acceptor.until(() => acceptor.flushLsn >= commitLsn);
      expectSameWal(primary);
      expect(bridge.status().term).toBe(6n);
    },
  );

  // Aim: one bridge per primary. Method: open a second one, then see that the first still commits.
  test("a second bridge is refused while the first holds the slot", TIMEOUT, async () => {
    await using primary = await start();
    const bridge = await primary.bridge();
    await bridge.streaming;
    await expect(primary.bridge({ slotTimeoutMs: 0 })).rejects.toMatchObject({
      code: "ERR_BRIDGE_SLOT_ACTIVE",
    });
    const sql = await primary.sql();
    await sql.query(CREATE);
    expect(bridge.status().state).toBe("streaming");
  });

  // Aim: whoever lost the term lets go at once. Method: acceptors answer with a higher term.
  test("a higher term ends the bridge and frees the slot", TIMEOUT, async () => {
    await using primary = await start();
    const bridge = await primary.bridge();
    await bridge.streaming;
    for (const acceptor of primary.acceptors) acceptor.bumpTerm(50n);
    const local = await primary.sql(true);
    await local.query(CREATE);
    expect((await bridge.closed).reason).toBe("higher_term");
    const next = await primary.bridge();
    await next.streaming;
    expect(next.status().term).toBe(51n);
  });

  // Aim: a bootstrap that died half-way is finished with the same beginning. Method: the third acceptor's timeline is
  // never created by the first bridge; the second bridge finds two that have it.
  test("an interrupted bootstrap is finished where it had begun", TIMEOUT, async () => {
    await using primary = await start();
    let stuck: () => void = () => undefined;
    const reached = new Promise<void>((resolve) => {
      stuck = resolve;
    });
    const third = primary.acceptors[2];
    const first = await primary.bridge({
      createTimeline: async (request, signal) => {
        if (request.acceptor.port !== third?.port) {
          primary.create(request);
          return;
        }
        stuck();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        throw new Error("interrupted");
      },
    });
    await reached;
    await first.close({ immediate: true });
    const [startLsn] = primary.acceptors.map((acceptor) => acceptor.startLsn);
    expect(third?.hasTimeline).toBe(false);
    const local = await primary.sql(true);
    await local.query(CREATE);
    await local.query("SELECT pg_switch_wal(); CHECKPOINT");
    const second = await primary.bridge();
    await second.streaming;
    await (await primary.sql()).query(INSERT);
    expect(third?.startLsn).toBe(startLsn);
    const endLsn = second.status().commitLsn;
    for (const acceptor of primary.acceptors) await acceptor.until(() => acceptor.flushLsn >= endLsn);
    expectSameWal(primary);
  });

  // Aim: a database that has lost WAL must not overwrite what acceptors have. Method: timelines that begin far ahead.
  test(
    "a PostgreSQL that is behind its acceptors is refused before they are told anything",
    TIMEOUT,
    async () => {
      await using primary = await start();
      const configuration = configurationOf(primary.acceptors);
      const startLsn = parseLsn("7/0");
      for (const acceptor of primary.acceptors) {
        acceptor.createTimeline({ startLsn, configuration });
        acceptor.bumpTerm(3n);
      }
      const bridge = await primary.bridge();
      const end = await bridge.closed;
      expect(end.reason).toBe("divergence");
      expect(end.error).toMatchObject({ code: "ERR_BRIDGE_WAL_LOST" });
      expect(end.detail).toContain(formatLsn(startLsn));
      for (const { received } of primary.acceptors) expect(received).not.toContain("elected");
      await expect(bridge.streaming).rejects.toMatchObject({ code: "ERR_PROPOSER_CLOSED" });
    },
  );

  // Aim: what readers of a standby need keeps PostgreSQL from cleaning it up. Method: acceptors report an xmin.
  test("hot standby feedback reaches PostgreSQL", TIMEOUT, async () => {
    await using primary = await start();
    const bridge = await primary.bridge();
    await bridge.streaming;
    const [sql, local] = [await primary.sql(), await primary.sql(true)];
    await sql.query(CREATE);
    const xmin = BigInt((await value(local, "SELECT pg_current_xact_id()")) ?? "0");
    for (const acceptor of primary.acceptors) acceptor.hotStandby = { timestamp: 1n, xmin, catalogXmin: 0n };
    await sql.query(INSERT);
    await sql.query(INSERT); // its release is a later message on the same connection
    const query = "SELECT backend_xmin FROM pg_stat_replication WHERE application_name = 'walbridge'";
    expect(await value(local, query)).toBe(String(xmin));
  });

  // Aim: refusals at the door leave nothing behind. Method: the wrong cluster, a logical slot of that name.
  test("the wrong cluster and a wrong slot are refused", TIMEOUT, async () => {
    await using primary = await start({ wal_level: "logical", synchronous_standby_names: "" });
    await expect(Bridge.open({ ...primary.options(), expectSystemId: 1n })).rejects.toMatchObject({
      code: "ERR_BRIDGE_SYSTEM_ID",
    });
    const sql = await primary.sql();
    await sql.query("SELECT pg_create_logical_replication_slot('walbridge_retain', 'pgoutput')");
    await expect(primary.bridge()).rejects.toMatchObject({ code: "ERR_BRIDGE_SLOT" });
    const other = await primary.bridge({ retainSlot: "other_slot" });
    expect(other.status().warnings.map(({ warning }) => warning)).toEqual(["synchronous_standby_names"]);
  });
});
