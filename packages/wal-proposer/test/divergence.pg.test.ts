// A PostgreSQL whose log is not the acceptors' log is refused, and they are left as they are.
import { addBytes, maxLsn, parseLsn, segmentNumber, segmentStart } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { postgresOrSkip } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { Primary, SEGMENT_BYTES } from "./harness/primary.js";

const TIMEOUT = { timeout: 60_000 };
const CREATE = "CREATE TABLE t (i int, s text)";
const INSERT = "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 500) g";

/** What a refusal must not change. The term may: votes come before the check. */
function snapshots(primary: Primary): Promise<unknown[]> {
  const all = primary.acceptors.map(async (acceptor) => {
    const { received, startLsn, flushLsn, nodeId, history } = acceptor;
    const elections = received.filter((type) => type === "elected").length;
    return { nodeId, flushLsn, elections, history, wal: await acceptor.digest(startLsn, flushLsn) };
  });
  return Promise.all(all);
}

async function flushLsnOf(sql: ClientConnection): Promise<Lsn> {
  return parseLsn((await sql.query("SELECT pg_current_wal_flush_lsn()"))[0]?.rows[0]?.[0] ?? "");
}

function starter(installation: PostgresInstallation | undefined): () => Promise<Primary> {
  return () => {
    if (installation === undefined) throw new Error("these tests are skipped without a PostgreSQL");
    return Primary.start(installation);
  };
}

/** A life of a bridge with some megabytes of WAL on all acceptors; where that ends. */
async function writeSome(primary: Primary): Promise<Lsn> {
  await using bridge = await primary.bridge();
  await bridge.streaming;
  const sql = await primary.sql();
  await sql.query(`${CREATE}; CHECKPOINT`);
  for (let i = 0; i < 5; i += 1) await sql.query(INSERT);
  const { receivedLsn } = bridge.status();
  for (const acceptor of primary.acceptors) await acceptor.until(() => acceptor.flushLsn >= receivedLsn);
  await bridge.close();
  return maxLsn(...flushLsns(primary));
}

function flushLsns(primary: Primary): [Lsn, ...Lsn[]] {
  const [first, ...others] = primary.acceptors.map(({ flushLsn }) => flushLsn);
  if (first === undefined) throw new Error("no acceptors");
  return [first, ...others];
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);
  const start = starter(installation);

  describe.skipIf(skip !== "")(`PostgreSQL (${flavour}) ${skip}`, () => {
    // Aim: WAL that a crash took from PostgreSQL is not taken from the acceptors too. Method: kill it, delete its last
    // segments, start it: its log is too short; then let it write until it is longer: its bytes are others.
    test(
      "a PostgreSQL that lost its last segments is refused, however long its log is",
      TIMEOUT,
      async () => {
        await using primary = await start();
        const endLsn = await writeSome(primary);
        await primary.cluster.kill();
        const lostFrom = segmentStart(segmentNumber(addBytes(endLsn, -1), SEGMENT_BYTES), SEGMENT_BYTES);
        expect(primary.loseWalFrom(lostFrom)).toBeGreaterThan(0);
        await primary.cluster.start();
        const before = await snapshots(primary);

        const first = await primary.bridge();
        const shorter = await first.closed;
        expect(first.status().divergence).toBe("lost");
        expect(shorter).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_WAL_LOST" } });
        expect(shorter.detail).toMatch(/rebuild this PostgreSQL/);
        expect(await snapshots(primary)).toEqual(before);

        const local = await primary.sql(true);
        while ((await flushLsnOf(local)) <= endLsn) await local.query(INSERT);
        const second = await primary.bridge();
        const longer = await second.closed;
        expect(second.status().divergence).toBe("diverged");
        expect(longer).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_DIVERGED" } });
        const places = [...longer.detail.matchAll(/127\.0\.0\.1:\d+ differs between (\S+) and (\S+?)[;.]/g)];
        expect(places.length).toBeGreaterThanOrEqual(2); // a quorum; the third may have voted later
        for (const [, from, until] of places) {
          expect(parseLsn(from ?? "") <= lostFrom && lostFrom <= parseLsn(until ?? "")).toBe(true);
        }
        expect(longer.detail).toMatch(/rebuild or rewind this PostgreSQL/);
        expect(await snapshots(primary)).toEqual(before);
      },
    );

    // Aim: the check lets an honest PostgreSQL pass after a crash, having compared something. Method: kill it, start it.
    test("a PostgreSQL that crashed and kept its WAL is accepted", TIMEOUT, async () => {
      await using primary = await start();
      const endLsn = await writeSome(primary);
      await primary.cluster.kill();
      await primary.cluster.start();
      primary.digests.length = 0;
      const bridge = await primary.bridge();
      await bridge.streaming;
      expect(bridge.status().divergence).toBe("equal");
      expect(primary.digests.length).toBeGreaterThanOrEqual(2);
      for (const { fromLsn, untilLsn } of primary.digests) {
        expect(untilLsn).toBe(endLsn);
        expect(untilLsn - fromLsn >= 1024 * 1024).toBe(true); // whatever is left of the commit's segment
      }
      await (await primary.sql()).query(INSERT);
      expect(bridge.status().commitLsn > endLsn).toBe(true);
    });
  });
}

const { installation, skip } = postgresOrSkip("any");
const start = starter(installation);

describe.skipIf(skip !== "")(`any PostgreSQL ${skip}`, () => {
  // Aim: what was removed below the rule's start does not stand in the way. Method: acceptors that give digests of whole
  // segments only, as if all else were gone.
  test("acceptors that have only what they must are compared there", TIMEOUT, async () => {
    await using primary = await start();
    const endLsn = await writeSome(primary);
    const { digest } = primary.options();
    const asked: Lsn[] = [];
    const bridge = await primary.bridge({
      digest: async (acceptor, fromLsn, untilLsn, signal) => {
        asked.push(fromLsn);
        if (fromLsn % BigInt(SEGMENT_BYTES) !== 0n) throw new Error("that WAL is gone");
        return (await digest?.(acceptor, fromLsn, untilLsn, signal)) ?? "";
      },
    });
    await bridge.streaming;
    expect(bridge.status().divergence).toBe("equal");
    const segment = segmentStart(segmentNumber(addBytes(endLsn, -1), SEGMENT_BYTES), SEGMENT_BYTES);
    expect(asked.at(-1)).toBe(segment);
    expect(asked[0]).toBeLessThan(segment);
  });

  // Aim: whoever differs is named. Method: one bit of one acceptor's WAL changes; the only
  // other voter still agrees.
  test("an acceptor whose bytes differ is named, with the place", TIMEOUT, async () => {
    await using primary = await start();
    const endLsn = await writeSome(primary);
    const third = primary.acceptors[2];
    const flippedLsn = addBytes(endLsn, -1000);
    third?.flipBit(flippedLsn);
    const before = await snapshots(primary);
    await primary.acceptors[0]?.stop();
    const end = await (await primary.bridge()).closed;
    expect(end).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_DIVERGED" } });
    const place = new RegExp(
      `hold: 127\\.0\\.0\\.1:${third?.port} differs between (\\S+) and (\\S+)\\.`,
    ).exec(end.detail);
    expect(parseLsn(place?.[1] ?? "") <= flippedLsn && flippedLsn < parseLsn(place?.[2] ?? "")).toBe(true);
    expect(end.detail).toMatch(/rebuild the acceptors that differ/);
    await primary.acceptors[0]?.restart();
    expect(await snapshots(primary)).toEqual(before);
  });
});
