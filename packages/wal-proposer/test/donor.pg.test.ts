// An acceptor whose WAL PostgreSQL no longer has is fed by another acceptor.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { INVALID_LSN } from "@millrace/lsn";
import { postgresOrSkip } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { DIAGNOSTICS_CHANNEL } from "../src/index.js";
import type { ProposerNotice } from "../src/index.js";
import { Primary } from "./harness/primary.js";

const TIMEOUT = { timeout: 60_000 };
const COMMIT = "SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000))";

function starter(installation: PostgresInstallation | undefined): () => Promise<Primary> {
  return () => {
    if (installation === undefined) throw new Error("these tests are skipped without a PostgreSQL");
    return Primary.start(installation, { max_slot_wal_keep_size: "1MB", max_wal_size: "2MB" });
  };
}

/** Resolves when a bridge has taken its slot again. */
function slotRenewal(): Promise<void> {
  return new Promise((resolve) => {
    const look = (message: unknown): void => {
      const notice = message as ProposerNotice;
      if (notice.type !== "warning" || notice.warning !== "slot_renewed") return;
      unsubscribe(DIAGNOSTICS_CHANNEL, look);
      resolve();
    };
    subscribe(DIAGNOSTICS_CHANNEL, look);
  });
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);
  const start = starter(installation);

  describe.skipIf(skip !== "")(`PostgreSQL (${flavour}) ${skip}`, () => {
    // Aim: a slot that PostgreSQL gave up costs neither the term nor the acceptor that needed its WAL. Method: an
    // acceptor is away while megabytes and checkpoints pass a limit of 1 MB; it comes back and gets everything, from
    // an acceptor, with a ring that is too small.
    test("an acceptor that PostgreSQL can no longer serve is fed by a donor", TIMEOUT, async () => {
      await using primary = await start();
      const renewed = slotRenewal();
      const bridge = await primary.bridge({ ringBytes: 262_144 });
      await bridge.streaming;
      const sql = await primary.sql();
      await sql.query(COMMIT);
      const [first, second, third] = primary.acceptors;
      await third?.stop();
      const missedFrom = third?.writeLsn ?? INVALID_LSN;
      for (let round = 0; round < 8; round += 1) {
        for (let i = 0; i < 10; i += 1) await sql.query(COMMIT);
        await sql.query("CHECKPOINT");
      }
      await sql.query(COMMIT);
      await renewed;
      expect(() => primary.pgWal(missedFrom, bridge.status().commitLsn)).toThrow(/ENOENT/);
      expect(bridge.status()).toMatchObject({ state: "streaming", term: 1n });
      expect(bridge.status().reconnects).toBeGreaterThan(0);

      await third?.restart();
      const { commitLsn } = bridge.status();
      await third?.until(() => third.flushLsn >= commitLsn);
      expect([...(first?.donations ?? []), ...(second?.donations ?? [])]).toEqual([missedFrom]);
      await sql.query(COMMIT);
      const endLsn = bridge.status().commitLsn;
      await third?.until(() => third.flushLsn >= endLsn);
      const startLsn = third?.startLsn ?? INVALID_LSN;
      await first?.until(() => first.flushLsn >= endLsn);
      expect(await third?.digest(startLsn, endLsn)).toBe(await first?.digest(startLsn, endLsn));
    });
  });
}
