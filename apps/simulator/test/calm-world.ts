/**
 * A world in which nothing happens by itself, for scenarios that are told step by step.
 */
import { makePlan } from "../src/plan.js";
import type { Plan } from "../src/plan.js";
import { startWorld } from "../src/simulate.js";
import { World } from "../src/world.js";

/** A schedule without faults over quick links and disks; `change` is laid over it. */
export function calmPlan(change: Partial<Plan> = {}): Plan {
  return {
    ...makePlan(1),
    acceptors: 3,
    spares: 0,
    generations: false,
    protocolVersion: 3,
    storage: "memory",
    creation: "explicit",
    startLsn: 0x0100_0028,
    latency: { usualMs: 0.2, slowShare: 0, slowMs: 1 },
    reconnectMs: 50,
    heartbeatMs: 100,
    connectionTimeoutMs: 600,
    holdShare: 0.5,
    keepShare: 0.5,
    writeEveryMs: 10,
    recordsPerWrite: 3,
    switchShare: 0,
    gossipEveryMs: Number.POSITIVE_INFINITY,
    faults: [],
    ...change,
  };
}

/** Such a world, running, with one proposer. */
export async function calmWorld(change: Partial<Plan> = {}): Promise<World> {
  const world = new World(calmPlan(change));
  await startWorld(world);
  return world;
}

/** Lets virtual time pass until `done` holds; false if that takes longer than `limitMs`. */
export async function passUntil(world: World, done: () => boolean, limitMs = 20_000): Promise<boolean> {
  await world.time.run(world.time.nowMs + limitMs, () => done() || world.ledger.violation !== undefined);
  return done();
}

/** Lets virtual time pass. */
export async function pass(world: World, ms: number): Promise<void> {
  await world.time.run(world.time.nowMs + ms, () => world.ledger.violation !== undefined);
}

/** Waits for so many bytes of new committed WAL. */
export function commitMore(world: World, bytes = 3000n): Promise<boolean> {
  const goal = world.ledger.commitLsn + bytes;
  return passUntil(world, () => world.ledger.commitLsn >= goal);
}
