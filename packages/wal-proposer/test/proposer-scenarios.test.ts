/**
 * Worked histories of several proposers, delivered message by message to model acceptors.
 *
 * These are the cases in which an intuitive rule loses data; each one is told step by step.
 */
import { expect, test } from "vitest";
import { LOG_START, World } from "./core-world.js";
import type { ModelProposer } from "./core-world.js";

/** A proposer that gets through to `reachable` only, elected but with ProposerElected still on its way. */
function electedThrough(world: World, reachable: readonly number[]): ModelProposer {
  world.reachable = reachable;
  const proposer = world.addProposer();
  world.settle({ until: () => proposer.core.state === "elected" });
  expect(proposer.core.state).toBe("elected");
  return proposer;
}

/** Ends a proposer together with everything it has under way. */
function end(world: World, proposer: ModelProposer): void {
  world.kill(proposer);
  world.opened = [];
  world.later = [];
}

/** Record r of the first proposer reaches nodes 1 and 2; record s of the second, at the same place, node 5. */
function rivalRecords(): { world: World; third: ModelProposer; r: number } {
  const world = new World(1, 5);
  const first = electedThrough(world, [0, 1, 2, 3, 4]);
  first.write(1);
  const r = first.wal[LOG_START] ?? 0;
  world.settle({ only: [0, 1] });
  expect(first.core.commitLsn).toBe(0n); // two of five
  end(world, first);
  const second = electedThrough(world, [2, 3, 4]);
  second.write(1);
  world.settle({ only: [4] });
  end(world, second);
  const third = electedThrough(world, [0, 1, 2]);
  expect(third.core.termStartLsn).toBe(BigInt(LOG_START + 1)); // r is adopted
  return { world, third, r };
}

// Aim: a record on a majority of disks is not committed unless the majority acknowledged it in the current term.
// Method: the third proposer brings r to node 3 only; a fourth then adopts s, and r is gone from node 1.
test("a record of an older term on a majority of disks is not committed", () => {
  const { world, third, r } = rivalRecords();
  world.settle({ only: [2] });
  const holders = world.acceptors.filter(({ log }) => log[LOG_START] === r);
  expect(holders).toHaveLength(3);
  expect(third.core.commitLsn).toBe(0n);
  end(world, third);
  const fourth = electedThrough(world, [0, 1, 4]);
  expect(fourth.wal[LOG_START]).not.toBe(r);
  world.settle();
  expect(world.acceptors[0]?.log[LOG_START]).toBe(fourth.wal[LOG_START]);
});

// Aim: once a majority has acknowledged the start of the new term, r can never be lost. Method: the same, but nodes 1
// and 2 hear of the third proposer; the fourth must adopt r although node 5 has s of a later term than r's.
test("a record that a majority acknowledged in the new term is adopted by every later proposer", () => {
  const { world, third, r } = rivalRecords();
  world.settle();
  expect(third.core.commitLsn).toBe(BigInt(LOG_START + 1));
  end(world, third);
  const fourth = electedThrough(world, [0, 1, 4]);
  expect(fourth.wal[LOG_START]).toBe(r);
});

// Aim: a stalled connection of ours cannot cut what another connection of ours has written. Method: ProposerElected
// waits on the first connection while a second one streams; then it arrives.
test("a late ProposerElected on a lost connection cuts nothing", () => {
  const world = new World(1, 3);
  const proposer = electedThrough(world, [0, 1, 2]);
  const stalled = world.opened.find(({ connection }) => connection.acceptor === 0);
  if (stalled === undefined) throw new Error("no connection to the first acceptor");
  const late = stalled.connection.toAcceptor.splice(0);
  expect(late[0]?.type).toBe("elected");
  proposer.lose(stalled.connection);
  world.tick(1000);
  world.settle();
  proposer.write(20);
  world.settle();
  expect(proposer.core.commitLsn).toBe(BigInt(LOG_START + 20));
  const acceptor = world.acceptors[0];
  const before = [...(acceptor?.log ?? [])];
  expect(late.slice(0, 1).map((message) => acceptor?.handle(message))).toEqual(["refused"]);
  expect(acceptor?.log).toEqual(before);
});

// Aim: a term raised behind our back ends ours at the next heartbeat. Method: bump one acceptor, tick, start over.
test("a raised term ends ours at the next heartbeat, and the next proposer goes above it", () => {
  const world = new World(1, 3);
  const first = electedThrough(world, [0, 1, 2]);
  first.write(5);
  world.settle();
  const acceptor = world.acceptors[0];
  if (acceptor === undefined) throw new Error("no acceptor");
  acceptor.term = 9n;
  world.tick(1000);
  world.settle();
  expect(first.restarted).toBe("higher_term");
  end(world, first);
  const second = electedThrough(world, [0, 1, 2]);
  expect(second.core.term).toBe(10n);
  expect(second.core.termStartLsn).toBe(BigInt(LOG_START + 5));
});

// Aim: a commit position that acceptors forgot is restored by the next term's first commit. Method: all restart.
test("the first commit of the next term restores a forgotten commit position", () => {
  const world = new World(1, 3);
  const first = electedThrough(world, [0, 1, 2]);
  first.write(5);
  world.settle();
  world.tick(1000);
  world.settle();
  expect(first.core.commitLsn).toBe(BigInt(LOG_START + 5));
  end(world, first);
  for (const acceptor of world.acceptors) {
    acceptor.persistedCommitLsn = LOG_START;
    acceptor.crash();
    expect(acceptor.commitLsn).toBe(LOG_START);
  }
  const second = electedThrough(world, [0, 1, 2]);
  world.settle();
  world.tick(1000);
  world.settle();
  expect(second.core.commitLsn).toBe(BigInt(LOG_START + 5));
  expect(world.acceptors.map(({ commitLsn }) => commitLsn)).toEqual(
    Array.from({ length: 3 }, () => LOG_START + 5),
  );
});

// Aim: a node with a longer log that nobody committed follows the leader when it returns. Method: a minority writes
// alone, a majority elects without it, it joins late.
test("a returning minority with a longer log is cut to the leader's log", () => {
  const world = new World(1, 3);
  const first = electedThrough(world, [0, 1, 2]);
  world.settle();
  first.write(30);
  world.settle({ only: [2] });
  expect(world.acceptors[2]?.flushLsn).toBe(LOG_START + 30);
  end(world, first);
  const second = electedThrough(world, [0, 1]);
  second.write(3);
  world.settle();
  world.reachable = undefined;
  world.tick(1000);
  world.settle();
  expect(world.acceptors[2]?.log).toEqual(second.wal);
  expect(second.core.truncateLsn).toBe(BigInt(LOG_START + 3));
});
