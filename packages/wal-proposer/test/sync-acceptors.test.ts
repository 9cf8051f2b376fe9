// Bringing acceptors into agreement without a database, in memory and on a clock that stands.
import type { Duplex } from "node:stream";
import { addBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import { syncAcceptors } from "../src/index.js";
import type { SyncResult } from "../src/index.js";
import { FakeClock, settle } from "./harness/fake-clock.js";
import { socketPair } from "./harness/socket-pair.js";
import { configurationOf, TestAcceptor } from "./harness/test-acceptor.js";

const START = toLsn(0x300_0000n);
const at = (bytes: number): Lsn => addBytes(START, bytes);
const LOG = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 253));

/** Three acceptors in term 4 with logs of these lengths. */
function acceptorsWith(...lengths: readonly number[]): readonly TestAcceptor[] {
  const acceptors = lengths.map((_, index) => new TestAcceptor(BigInt(index + 1)));
  const configuration = configurationOf(acceptors);
  for (const [index, acceptor] of acceptors.entries()) {
    acceptor.createTimeline({ startLsn: START, configuration });
    acceptor.preload(LOG.subarray(0, lengths[index]));
    acceptor.bumpTerm(4n);
  }
  return acceptors;
}

function sync(acceptors: readonly TestAcceptor[], clock: FakeClock): Promise<SyncResult> {
  return syncAcceptors({
    acceptors: acceptors.map((_, port) => ({ host: "memory", port })),
    tenantId: "0".repeat(32),
    timelineId: "1".repeat(32),
    timeoutMs: 20_000,
    clock,
    random: () => 0.5,
    connectSocket: ({ port }): Duplex => {
      const [ours, theirs] = socketPair();
      void acceptors[port]?.accept(theirs);
      return ours;
    },
  });
}

// Aim: everybody who is there gets the whole log and knows it as committed. Method: three logs of different lengths.
test("acceptors of different lengths end with the longest log, committed", async () => {
  const clock = new FakeClock();
  const acceptors = acceptorsWith(1000, 300_000, 150_000);
  const [, longest] = acceptors;
  const syncing = sync(acceptors, clock);
  await settle();
  for (let i = 0; i < 5; i += 1) await clock.advance(1000);
  const { lsn, term } = await syncing;
  expect(term).toBe(5n);
  // The first two votes decide, and those are of the shortest and the longest log here.
  expect(lsn).toBe(at(300_000));
  await settle();
  for (const acceptor of acceptors) {
    expect(acceptor.flushLsn).toBe(lsn);
    expect(acceptor.commitLsn).toBe(lsn);
    expect(acceptor.bytes(START, lsn).equals(LOG)).toBe(true);
  }
  expect(longest?.donations.length).toBe(2);
  expect(clock.pendingTimers).toBe(0);
});

// Aim: a quorum is enough, and none is not. Method: one of three is away; then two.
test("a quorum suffices, less does not", async () => {
  const clock = new FakeClock();
  const acceptors = acceptorsWith(1000, 300_000, 150_000);
  await acceptors[0]?.stop();
  const syncing = sync(acceptors, clock);
  await settle();
  await clock.advance(5000);
  expect(await syncing).toEqual({ lsn: at(300_000), term: 5n });

  await acceptors[1]?.stop();
  const failing = sync(acceptors, clock).catch((error: unknown) => error);
  await settle();
  await clock.advance(21_000);
  expect(await failing).toMatchObject({ code: "ERR_PROPOSER_SYNC", message: /within 20000 ms/ });
  expect(clock.pendingTimers).toBe(0);
});
