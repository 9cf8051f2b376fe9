/**
 * Faults, carried out: what each kind of the schedule does to a world, and how it ends.
 *
 * Whom a fault hits and how hard follows from its `roll` alone, so that a fault keeps its meaning when others are
 * left out of a schedule. A fault counts as fired only if it found something to act on, and one that waits for a step
 * of a disk only when that has come.
 */
import { majority } from "@millrace/wal-protocol";
import type { AcceptorNode } from "./acceptor-node.js";
import type { StepKind } from "./disk-behaviour.js";
import { MembershipController } from "./membership-controller.js";
import type { Connection, Endpoint } from "./network.js";
import type { Fault } from "./plan.js";
import { Random } from "./random.js";
import type { World } from "./world.js";

/** Share of broken connections that are a proposer's with its messages. */
const PROPOSER_CONNECTION_SHARE = 0.85;

/** Runs one fault now. */
export function strike(world: World, fault: Fault): void {
  const random = new Random(Math.floor(fault.roll * 2 ** 32), `${fault.kind} of ${String(world.plan.seed)}`);
  world.trace.note("fault", fault.kind, fault.durationMs);
  if (ACTIONS[fault.kind](world, fault, random)) world.coverage.count(fault.kind);
}

/** Does it; false if there was nothing to do it to, or if it counts itself later. */
type Action = (world: World, fault: Fault, random: Random) => boolean;

const ACTIONS: Readonly<Record<Fault["kind"], Action>> = {
  "power-cut": (world, { durationMs }, random) => crash(anyRunning(world, random), "power-cut", durationMs),
  "power-cut-at-step": (world, { durationMs }, random) => {
    const node = anyRunning(world, random);
    const kinds: readonly (StepKind | "any")[] = ["sync", "write", "name", "control", "any"];
    node?.behaviour.armCrash(random.pick(kinds), 1 + random.below(6), () => {
      world.coverage.count("power-cut-at-step");
      node.crash("power-cut", durationMs);
    });
    return false;
  },
  "power-cut-at-election": (world, { durationMs }, random) => {
    const node = anyRunning(world, random);
    node?.behaviour.armCrashAtElection(1 + random.below(8), () => {
      world.coverage.count("power-cut-at-election");
      node.crash("power-cut", durationMs);
    });
    // So that there is an election soon.
    if (node !== undefined) liveForAWhile(world, durationMs);
    return false;
  },
  "power-cut-all": (world, { durationMs }) => {
    for (const node of world.acceptors) node.crash("power-cut", durationMs);
    return true;
  },
  kill: (world, { durationMs }, random) => crash(anyRunning(world, random), "kill", durationMs),
  "kill-then-power-cut": (world, { durationMs }, random) => {
    const node = anyRunning(world, random);
    node?.behaviour.armCrash("sync", 1, () => {
      node.crash("kill", 5);
      node.behaviour.armCrashAtElection(1, () => {
        world.coverage.count("kill-then-power-cut");
        node.crash("power-cut", durationMs);
      });
      liveForAWhile(world, durationMs);
    });
    return false;
  },
  reset: (world, _, random) => withConnection(world, random, (connection) => connection.reset()),
  abandon: (world, _, random) => withConnection(world, random, (connection) => connection.abandon()),
  isolate: (world, fault, random) => {
    const victim = random.below(world.acceptors.length);
    return cut(world, fault, (from, to) => (from === victim) !== (to === victim));
  },
  "one-way": (world, fault, random) => {
    const victim = random.below(world.acceptors.length);
    const isOutgoing = random.chance(0.5);
    return cut(world, fault, (from, to) => (isOutgoing ? from : to) === victim);
  },
  "lose-proposers": (world, fault, random) => {
    const lost = pickAcceptors(world, random, 1 + random.below(2));
    return cut(world, fault, (from, to) => {
      return (lost.has(from) && world.isProposer(to)) || (world.isProposer(from) && lost.has(to));
    });
  },
  "split-minority": (world, fault, random) =>
    split(world, fault, pickAcceptors(world, random, majority(world.plan.acceptors) - 1)),
  "split-majority": (world, fault, random) =>
    split(world, fault, pickAcceptors(world, random, majority(world.plan.acceptors))),
  "split-proposer": (world, fault, random) => {
    const host = random.pick(world.hosts);
    const size = 1 + random.below(world.plan.acceptors);
    return split(world, fault, new Set([host.endpoint, ...pickAcceptors(world, random, size)]));
  },
  "slow-link": (world, { durationMs }, random) => {
    const victim = random.below(world.acceptors.length);
    world.network.slowDown(victim, random.between(20, 400));
    world.time.after(durationMs, () => world.network.slowDown(victim, 0));
    return true;
  },
  "slow-disk": (world, { durationMs }, random) => {
    const { behaviour } = random.pick(world.acceptors);
    behaviour.slowness = random.pick([10, 100, 400]);
    world.time.after(durationMs, () => {
      behaviour.slowness = 1;
    });
    return true;
  },
  "disk-full": (world, { durationMs }, random) => {
    const { behaviour } = random.pick(world.acceptors);
    behaviour.isFull = true;
    world.time.after(durationMs, () => {
      behaviour.isFull = false;
    });
    return true;
  },
  "failed-sync": (world, _, random) => {
    const node = anyRunning(world, random);
    node?.behaviour.failNextSync(() => world.coverage.count("failed-sync"));
    return false;
  },
  "proposer-crash": (world, { durationMs }, random) => {
    const host = random.pick(world.hosts);
    const runs = host.process !== undefined;
    host.crash(durationMs);
    return runs;
  },
  rival: (world, { durationMs }) => {
    liveForAWhile(world, durationMs * 4);
    return true;
  },
  flapping: (world, { durationMs }, random) => {
    const host = random.pick(world.hosts);
    const flap = (untilMs: number): void => {
      host.crash(5);
      if (world.time.nowMs < untilMs) world.time.after(100, () => flap(untilMs));
    };
    flap(world.time.nowMs + durationMs * 2);
    return true;
  },
  "sync-proposer": (world) => {
    world.addProposer("sync").start();
    return true;
  },
  "term-bump": (world, _, random) =>
    withNode(world, anyRunning(world, random), async (node) => {
      await node.process?.exclusive((timeline) => timeline.bumpTerm());
    }),
  checkpoint: (world, _, random) =>
    withNode(world, anyRunning(world, random), async (node) => {
      await node.process?.exclusive((timeline) => timeline.checkpoint());
    }),
  "change-members": (world, { durationMs }, random) => {
    world.time.promisesMoved();
    const steps = random.chance(0.5) ? random.below(8) : Number.POSITIVE_INFINITY;
    void new MembershipController(world, random, steps).run(true).then((isDone) => {
      // The controller's successor, which may crash in its turn.
      if (!isDone) {
        world.time.after(durationMs, () => {
          world.time.promisesMoved();
          void new MembershipController(world, random, 3 + random.below(8)).run(false);
        });
      }
    });
    return true;
  },
};

function liveForAWhile(world: World, lifeMs: number): void {
  const host = world.addProposer("stream");
  host.start();
  world.time.after(lifeMs, () => host.stop());
}

function anyRunning(world: World, random: Random): AcceptorNode | undefined {
  const running = world.acceptors.filter((node) => node.process !== undefined);
  return running.length === 0 ? undefined : random.pick(running);
}

function crash(node: AcceptorNode | undefined, kind: "power-cut" | "kill", downMs: number): boolean {
  node?.crash(kind, downMs);
  return node !== undefined;
}

// Mostly a proposer's: readers have more connections and less to lose.
function withConnection(world: World, random: Random, action: (connection: Connection) => void): boolean {
  const all = [...world.network.connections];
  const proposers = all.filter(({ purpose }) => purpose === "messages");
  const open = proposers.length > 0 && random.chance(PROPOSER_CONNECTION_SHARE) ? proposers : all;
  if (open.length === 0) return false;
  world.time.promisesMoved();
  action(random.pick(open));
  return true;
}

// A call from outside that may fail with the disk or the process.
function withNode(
  world: World,
  node: AcceptorNode | undefined,
  call: (node: AcceptorNode) => Promise<void>,
): boolean {
  if (node === undefined) return false;
  world.time.promisesMoved();
  void call(node).catch(() => undefined);
  return true;
}

function pickAcceptors(world: World, random: Random, size: number): ReadonlySet<Endpoint> {
  const left = world.acceptors.map(({ index }) => index);
  const picked = new Set<Endpoint>();
  while (picked.size < size && left.length > 0) picked.add(left.splice(random.below(left.length), 1)[0] ?? 0);
  return picked;
}

function split(world: World, fault: Fault, group: ReadonlySet<Endpoint>): boolean {
  return cut(world, fault, (from, to) => group.has(from) !== group.has(to));
}

// Blocks every direction for which `isCut` holds and lifts it after a while.
function cut(world: World, fault: Fault, isCut: (from: Endpoint, to: Endpoint) => boolean): boolean {
  const endpoints = world.endpoints;
  const blocked: (readonly [Endpoint, Endpoint])[] = [];
  for (const from of endpoints) {
    for (const to of endpoints) {
      if (from === to || !isCut(from, to)) continue;
      world.network.block(from, to);
      blocked.push([from, to]);
    }
  }
  world.time.after(fault.durationMs, () => {
    for (const [from, to] of blocked) world.network.unblock(from, to);
  });
  return blocked.length > 0;
}
