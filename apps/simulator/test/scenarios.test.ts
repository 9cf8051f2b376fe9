/**
 * Histories that are known to be hard, told step by step on a calm cluster.
 */
import { expect, test } from "vitest";
import { MembershipController } from "../src/membership-controller.js";
import { Random } from "../src/random.js";
import { compareAll } from "../src/simulate.js";
import type { World } from "../src/world.js";
import { calmWorld, commitMore, pass, passUntil } from "./calm-world.js";

async function expectSound(world: World): Promise<void> {
  await compareAll(world);
  expect(world.ledger.violation).toBeUndefined();
}

// Aim: a proposer that never lives long does no harm, and leaves exactly its elections in the histories. Method: it is
// killed a thousand times, a tenth of a second apart, and then left alone. It tells acceptors of each election at once:
// one that nobody has heard of would be in no history.
test("a proposer that flaps a thousand times is followed by progress", async () => {
  const world = await calmWorld({ writeEveryMs: 60, recordsPerWrite: 1, holdShare: 0 });
  const [host] = world.hosts;
  for (let restart = 0; restart < 1000; restart += 1) {
    await pass(world, 95);
    host?.crash(5);
  }
  expect(await commitMore(world)).toBe(true);
  await pass(world, 500);
  const elections = world.coverage.of("election");
  expect(elections).toBeGreaterThan(900);
  for (const { process } of world.acceptors) {
    expect(process?.state.termHistory.length).toBe(elections + 1); // and the entry of the timeline's creation
  }
  await expectSound(world);
}, 120_000);

// Aim: a change of members can be broken off anywhere. Method: the controller is killed after each of its steps in
// turn, load goes on, a successor finishes; all members then have all that was committed.
test.each([0, 1, 2, 3, 4, 5, 6])(
  "a change of members survives its controller's death after step %i",
  async (steps) => {
    const world = await calmWorld({ generations: true, spares: 1 });
    expect(await commitMore(world)).toBe(true);
    const random = new Random(7, "controller");
    const first = new MembershipController(world, random, steps).run(true);
    world.time.promisesMoved();
    await pass(world, 2000);
    expect(await Promise.race([first, Promise.resolve("still running")])).toBe(false);
    const committed = world.ledger.commitLsn;
    const second = new MembershipController(world, random, Number.POSITIVE_INFINITY).run(false);
    world.time.promisesMoved();
    await pass(world, 4000);
    expect(await Promise.race([second, Promise.resolve("still running")])).toBe(true);
    expect(world.membership.configuration).toMatchObject({ generation: 3, newMembers: [] });
    expect(await commitMore(world)).toBe(true);
    expect(world.ledger.commitLsn).toBeGreaterThan(committed);
    await pass(world, 1000);
    for (const { nodeId } of world.membership.configuration.members) {
      const process = world.acceptors[Number(nodeId) - 1]?.process;
      expect(process?.state.configuration.generation).toBe(3);
      expect(process?.state.flushLsn).toBeGreaterThan(committed);
    }
    await expectSound(world);
  },
);

// Aim: an acceptor with a longer log that no quorum ever had is brought in line. Method: the leader is left with one
// acceptor, writes on, dies; the others elect and commit; then the one comes back.
test("a minority with a longer uncommitted log is cut to the new leader's history", async () => {
  const world = await calmWorld();
  expect(await commitMore(world)).toBe(true);
  const [first] = world.acceptors;
  const [leader] = world.hosts;
  const lonely = (): bigint => first?.process?.state.flushLsn ?? 0n;
  const outside = world.endpoints.filter((endpoint) => endpoint !== 0 && endpoint !== leader?.endpoint);
  for (const endpoint of outside) {
    for (const inside of [0, leader?.endpoint ?? 0]) {
      world.network.block(inside, endpoint);
      world.network.block(endpoint, inside);
    }
  }
  expect(await passUntil(world, () => lonely() > world.ledger.commitLsn + 10_000n)).toBe(true);
  const tail = lonely();
  leader?.stop();
  const successor = world.addProposer("stream");
  successor.start();
  expect(await commitMore(world, 2000n)).toBe(true);
  expect(tail).toBeGreaterThan(world.ledger.commitLsn);
  const cutsBefore = world.coverage.of("divergent-tail-cut");
  world.network.heal();
  expect(await passUntil(world, () => world.coverage.of("divergent-tail-cut") > cutsBefore)).toBe(true);
  expect(await passUntil(world, () => (first?.process?.state.commitLsn ?? 0n) > tail)).toBe(true);
  await expectSound(world);
});

// Aim: an acceptor that needs WAL which the proposer no longer has gets it from another acceptor, over the packages' own
// reader and sender. Method: one acceptor is away while far more is committed than a proposer remembers; then it comes
// back, and its bytes are compared.
test("a laggard is fed by a donor when the proposer has only recent WAL", async () => {
  const world = await calmWorld({ keepShare: 0, recordsPerWrite: 12 });
  expect(await commitMore(world)).toBe(true);
  const [, , laggard] = world.acceptors;
  laggard?.crash("kill", 5000);
  expect(await commitMore(world, 400_000n)).toBe(true);
  const goal = world.ledger.commitLsn;
  expect(world.coverage.of("donor-feed")).toBe(0);
  expect(await passUntil(world, () => (laggard?.process?.state.flushLsn ?? 0n) >= goal)).toBe(true);
  expect(world.coverage.of("donor-feed")).toBeGreaterThan(0);
  expect(await passUntil(world, () => (laggard?.process?.state.commitLsn ?? 0n) >= goal)).toBe(true);
  await expectSound(world);
});

// Aim: readers come and go and get what they may, in both modes. Method: a calm cluster with load and two elections.
test("readers follow what is committed, and a term as long as it lasts", async () => {
  const world = await calmWorld({ writeEveryMs: 5 });
  expect(await commitMore(world, 50_000n)).toBe(true);
  world.addProposer("stream").start();
  expect(await commitMore(world, 50_000n)).toBe(true);
  await pass(world, 3000);
  for (const event of ["reader-bytes", "term-reader-bytes", "reader-lost-term"] as const) {
    expect(world.coverage.of(event)).toBeGreaterThan(0);
  }
  await expectSound(world);
});

// Aim: a synchronising proposer leaves a quorum that has everything up to its term's start on disk, commit position
// included. Method: acceptors are left at different ends, then it runs alone to its end.
test("a synchronising proposer ends once a quorum has persisted its commit", async () => {
  const world = await calmWorld();
  expect(await commitMore(world)).toBe(true);
  world.acceptors[2]?.crash("power-cut", 400);
  await pass(world, 100);
  world.hosts[0]?.stop();
  await pass(world, 1000);
  const longest = world.acceptors.reduce((end, { process }) => {
    const flushLsn = process?.state.flushLsn ?? 0n;
    return flushLsn > end ? flushLsn : end;
  }, 0n);
  world.addProposer("sync").start();
  expect(await passUntil(world, () => world.coverage.of("sync-finished") === 1)).toBe(true);
  const persisted = world.acceptors.filter(({ process }) => (process?.durable.commitLsn ?? 0n) >= longest);
  expect(persisted.length).toBeGreaterThanOrEqual(2);
  await expectSound(world);
});

// Aim: synchronising a timeline that nobody has begun does not begin it. Method: acceptors without WAL, no other
// proposer; whatever it tries, no history may be written.
test("a synchronising proposer writes no history where there is no WAL", async () => {
  const world = await calmWorld({ creation: "by-proposer" });
  world.hosts[0]?.stop();
  world.addProposer("sync").start();
  await pass(world, 5000);
  expect(world.coverage.of("sync-finished")).toBe(0);
  for (const { process } of world.acceptors) {
    expect(process?.state.termHistory).toEqual([]);
    expect(process?.state.flushLsn).toBe(0n);
  }
  expect(world.ledger.violation).toBeUndefined();
});

// Aim: all acceptors losing power at once costs nothing that was committed. Method: ten power cuts of the whole
// cluster under load, on files; each is followed by progress.
test("a cluster that loses power as a whole keeps what it had committed", async () => {
  const world = await calmWorld({ storage: "files", acceptors: 5 });
  for (let round = 0; round < 10; round += 1) {
    expect(await commitMore(world)).toBe(true);
    for (const node of world.acceptors) node.crash("power-cut", 20);
  }
  expect(await commitMore(world)).toBe(true);
  expect(world.coverage.of("recovery")).toBe(50);
  await expectSound(world);
});
