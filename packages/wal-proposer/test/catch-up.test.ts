// Which acceptors are fed by readers, how many at a time, and what happens when a reader fails.
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import { CATCH_UP_RETRY_MS, CATCH_UPS_MAX, CatchUp } from "../src/catch-up.js";
import type { CatchUpStream, CatchUpTarget } from "../src/catch-up.js";
import { FakeClock, settle } from "./harness/fake-clock.js";

const at = (position: number): Lsn => toLsn(BigInt(position));

interface Reader {
  readonly fromLsn: Lsn;
  closed: boolean;
  give(length: number): void;
  fail(): void;
}

/** Acceptors as positions; all of them are served from 1000 on. */
function world(positions: (number | undefined)[]): {
  catchUp: CatchUp;
  clock: FakeClock;
  readers: Reader[];
  log: string[];
} {
  const clock = new FakeClock();
  const readers: Reader[] = [];
  const log: string[] = [];
  const target: CatchUpTarget = {
    wantsLsn: (acceptor) => {
      const position = positions[acceptor];
      return position === undefined ? undefined : at(position);
    },
    isServed: (lsn) => lsn >= at(1000),
    feed: (acceptor, chunk) => {
      positions[acceptor] = Number(chunk.startLsn) + chunk.bytes.byteLength;
      return undefined;
    },
    finished: (acceptor) => log.push(`finished ${acceptor}`),
    failed: (acceptor) => log.push(`failed ${acceptor}`),
  };
  const open = async (fromLsn: Lsn): Promise<CatchUpStream> => {
    let nextLsn = Number(fromLsn);
    let settleNext: ((length: number | undefined) => void) | undefined;
    const reader: Reader = {
      fromLsn,
      closed: false,
      give: (length) => settleNext?.(length),
      fail: () => settleNext?.(undefined),
    };
    readers.push(reader);
    return {
      async next() {
        const length = await new Promise<number | undefined>((resolve) => {
          settleNext = resolve;
        });
        if (length === undefined || reader.closed) throw new Error("lost");
        nextLsn += length;
        return { startLsn: at(nextLsn - length), bytes: new Uint8Array(length) };
      },
      close() {
        reader.closed = true;
        settleNext?.(undefined);
      },
    };
  };
  return { catchUp: new CatchUp(target, open, clock), clock, readers, log };
}

// Aim: the database is not asked for more than a few old positions at once. Method: four acceptors that all lag.
test("readers run a few at a time, in the order of the requests", async () => {
  const { catchUp, readers, log } = world([100, 200, 300, 400]);
  for (const acceptor of [2, 0, 1, 3, 0]) catchUp.request(acceptor);
  await settle();
  expect(readers.map(({ fromLsn }) => fromLsn)).toEqual([at(300), at(100)]);
  expect(readers.length).toBe(CATCH_UPS_MAX);
  readers[0]?.give(700);
  await settle();
  expect(log).toEqual(["finished 2"]);
  expect(readers.map(({ fromLsn }) => fromLsn)).toEqual([at(300), at(100), at(200)]);
  readers[1]?.give(500);
  await settle();
  expect(log).toEqual(["finished 2"]);
  readers[1]?.give(500);
  await settle();
  expect(readers.map(({ closed }) => closed)).toEqual([true, true, false, false]);
  catchUp.close();
  await settle();
  expect(readers.every(({ closed }) => closed)).toBe(true);
  expect(log).toEqual(["finished 2", "finished 0"]);
});

// Aim: a reader that fails is not opened again at once. Method: fail one, then let the time pass.
test("after a failure the acceptor rests before the next attempt", async () => {
  const { catchUp, clock, readers, log } = world([100]);
  catchUp.request(0);
  await settle();
  readers[0]?.fail();
  await settle();
  expect(log).toEqual(["failed 0"]);
  catchUp.request(0);
  await clock.advance(CATCH_UP_RETRY_MS - 1);
  expect(readers.length).toBe(1);
  await clock.advance(1);
  expect(readers.length).toBe(2);
  catchUp.close();
  expect(clock.pendingTimers).toBe(0);
});

// Aim: an acceptor that goes away frees its reader for another one. Method: cancel a running and a waiting one.
test("a cancelled acceptor gives its place to the next", async () => {
  const { catchUp, readers, log } = world([100, 200, 300, 400]);
  for (const acceptor of [0, 1, 2, 3]) catchUp.request(acceptor);
  await settle();
  catchUp.cancel(2);
  catchUp.cancel(0);
  await settle();
  expect(readers[0]?.closed).toBe(true);
  expect(readers.map(({ fromLsn }) => fromLsn)).toEqual([at(100), at(200), at(400)]);
  expect(log).toEqual([]);
  catchUp.close();
});
