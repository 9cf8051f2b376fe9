// One term over restarts of a real PostgreSQL, with a client that commits all the time.
import { formatLsn } from "@millrace/lsn";
import { postgresOrSkip } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { Primary } from "./harness/primary.js";
import { expectSameWal, lsnOf } from "./harness/same-wal.js";

const TIMEOUT = { timeout: 120_000 };
/** Records of a few pages, so that kills find some half sent. */
const COMMIT = "SELECT pg_logical_emit_message(true, 'test', repeat('x', 30000))";

function starter(installation: PostgresInstallation | undefined): () => Promise<Primary> {
  return () => {
    if (installation === undefined) throw new Error("these tests are skipped without a PostgreSQL");
    return Primary.start(installation, { wal_keep_size: "256MB" }); // for the comparison in the end
  };
}

/** A client that commits without a pause, whatever happens to PostgreSQL. */
class Writer {
  commits = 0;
  /** Commits that had returned although no two acceptors had them. */
  readonly missing: string[] = [];
  readonly #primary: Primary;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(primary: Primary) {
    this.#primary = primary;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** Resolves when `count` more commits have returned. */
  async more(count: number): Promise<void> {
    const goal = this.commits + count;
    // Each commit is a message to every acceptor, before and after: that is when the condition is looked at.
    await this.#primary.acceptors[0]?.until(() => this.commits >= goal);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const sql = await this.#primary.sql();
        while (!this.#stop.signal.aborted) {
          const lsn = await lsnOf(sql, COMMIT);
          this.commits += 1;
          const holders = this.#primary.acceptors.filter(({ flushLsn }) => flushLsn > lsn);
          if (holders.length < 2) this.missing.push(formatLsn(lsn));
        }
      } catch {
        await this.#primary.running(); // PostgreSQL is away
      }
    }
  }
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);
  const start = starter(installation);

  describe.skipIf(skip !== "")(`PostgreSQL (${flavour}) ${skip}`, () => {
    // Aim: restarts of PostgreSQL cost no term, and no acknowledged commit. Method: a client commits without a pause;
    // PostgreSQL is killed three times and shut down three times in the middle of it. Each commit that returns must be
    // on two acceptors; in the end all have PostgreSQL's own bytes, in one term.
    test("one term survives crashes and shutdowns under load", TIMEOUT, async () => {
      await using primary = await start();
      const bridge = await primary.bridge();
      await bridge.streaming;
      const { term } = bridge.status();
      const writer = new Writer(primary);
      for (let round = 0; round < 6; round += 1) {
        await writer.more(20 + 7 * round);
        await primary.restart(round % 2 === 0 ? "kill" : "fast");
      }
      await writer.more(20);
      await writer.stop();
      expect(writer.missing).toEqual([]);
      const { commitLsn, state, reconnects, term: now } = bridge.status();
      expect({ state, reconnects, term: now }).toEqual({ state: "streaming", reconnects: 6, term });
      for (const acceptor of primary.acceptors) {
        await acceptor.until(() => acceptor.flushLsn >= commitLsn);
        expect(acceptor.history.map((entry) => entry.term)).toEqual([0n, term]);
      }
      expectSameWal(primary);
    });

    // Aim: a bridge that holds the slot and waits for acceptors does not hold up a shutdown. Method: no acceptor is there;
    // PostgreSQL is stopped fast, which must end within its time, and the bridge with it.
    test("a fast shutdown ends while the bridge waits for acceptors", TIMEOUT, async () => {
      await using primary = await start();
      await Promise.all(primary.acceptors.map((acceptor) => acceptor.stop()));
      const bridge = await primary.bridge();
      expect(bridge.status().state).toBe("bootstrapping");
      await primary.cluster.stop("fast");
      expect(await bridge.closed).toMatchObject({ reason: "pg_lost" });
    });
  });
}
