/**
 * ProposerCore under random schedules: what must never happen, and what must happen once faults stop.
 */
import { expect, test } from "vitest";
import type { ProposerCoreOptions } from "../src/proposer-core.js";
import { LOG_START, World } from "./core-world.js";

const SEEDS = 500;
const STEPS = 1500;

function configurationOf(nodes: number): NonNullable<Exclude<ProposerCoreOptions["configuration"], "learn">> {
  const members = Array.from({ length: nodes }, (_, index) => ({
    nodeId: BigInt(index + 1),
    host: `node${String(index + 1)}`,
    port: 5454,
  }));
  return { generation: 1, members, newMembers: [] };
}

// Aim: one winner a term, commits that rise and never contradict each other, and progress afterwards. Method: random
// interleavings of proposers, acceptors, crashes and broken connections; the world throws at the first violation.
// Then everything is healed, and a last proposer must bring all acceptors to one log.
test.each([
  { acceptors: 3, proposers: 2, options: {} },
  { acceptors: 3, proposers: 3, options: { configuration: "learn" } },
  { acceptors: 5, proposers: 3, options: {} },
  { acceptors: 5, proposers: 2, options: { configuration: "learn" } },
] as const)(
  "$proposers proposers on $acceptors acceptors stay safe and recover, $options",
  { timeout: 240_000 },
  ({ acceptors, proposers, options }) => {
    let elections = 0;
    let commits = 0;
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const stored = "configuration" in options ? { stored: configurationOf(acceptors) } : {};
      const world = new World(seed, acceptors, { ...options, ...stored });
      try {
        for (let step = 0; step < STEPS; step += 1) world.step(proposers);
        elections += world.elections;
        commits += world.commitsSeen;
        heal(world);
      } catch (error) {
        throw new Error(`seed ${String(seed)}`, { cause: error });
      }
    }
    // Not a run in which nothing happened.
    expect(elections).toBeGreaterThan(SEEDS);
    expect(commits).toBeGreaterThan(2 * SEEDS);
  },
);

function heal(world: World): void {
  for (const proposer of world.proposers) world.kill(proposer);
  world.settle();
  let proposer = world.addProposer();
  for (let round = 0; round < 20 && world.committed.length < proposer.endLsn + 10; round += 1) {
    world.settle();
    world.tick(1000);
    if (proposer.restarted !== undefined) {
      world.kill(proposer);
      proposer = world.addProposer();
    }
  }
  world.settle();
  proposer.write(10);
  for (let round = 0; round < 3; round += 1) {
    world.settle();
    world.tick(1000);
  }
  world.settle();
  expect(proposer.core.commitLsn).toBe(BigInt(proposer.endLsn));
  expect(proposer.core.truncateLsn).toBe(BigInt(proposer.endLsn));
  const expected = proposer.wal.slice(LOG_START);
  for (const acceptor of world.acceptors) {
    expect(acceptor.log.slice(LOG_START)).toEqual(expected);
    expect(acceptor.commitLsn).toBe(proposer.endLsn);
  }
}

// Aim: elections can go on for ever. Method: a thousand proposers one after the other, each killed after it has
// committed a byte; the history has one entry for each, and everything ever committed is still there.
test("a thousand elections in a row leave one log and one history entry each", { timeout: 120_000 }, () => {
  const world = new World(1, 3);
  for (let election = 1; election <= 1000; election += 1) {
    const proposer = world.addProposer();
    world.settle();
    expect(proposer.core.state).toBe("elected");
    expect(proposer.core.term).toBe(BigInt(election));
    expect(proposer.core.history).toHaveLength(election + 1);
    proposer.write(1);
    world.settle();
    expect(proposer.core.commitLsn).toBe(BigInt(LOG_START + election));
    world.kill(proposer);
    world.settle();
  }
  expect(world.committed).toHaveLength(LOG_START + 1000);
});
