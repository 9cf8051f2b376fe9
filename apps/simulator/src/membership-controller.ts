/**
 * Changes of members, as a storage controller makes them: a sequence of steps that must be safe to break off and
 * resume at any point.
 *
 * A compare-and-swap store holds the configuration. A change writes a joint configuration there, delivers it to a
 * majority of the old members and learns how far their logs go, copies the timeline to new members, raises their
 * term, waits until a majority of the new members has the joint configuration and all that WAL, writes the final
 * configuration, delivers it, and removes excluded copies. The controller may crash after every step; its successor
 * looks into the store and goes on from there, beginning with the delivery, which is idempotent.
 *
 * Idea: Neon's storage controller and its safekeeper migration.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { PersistentState, Timeline } from "@millrace/wal-acceptor";
import { compareLogPosition, isJoint, isMember, majority } from "@millrace/wal-protocol";
import type { Configuration, LogPosition, Member } from "@millrace/wal-protocol";
import type { AcceptorNode } from "./acceptor-node.js";
import type { Random } from "./random.js";
import { CONTROLLER_ENDPOINT, memberOf } from "./membership-store.js";
import type { World } from "./world.js";

/** A controller tries a step that does not succeed for so long before it gives up and is restarted. */
const STEP_LIMIT_MS = 3000;
const RETRY_MS = 60;

/** Thrown inside a controller that is killed between two steps. */
class ControllerCrashed extends Error {
  override readonly name = "ControllerCrashed";
}

interface Log extends LogPosition {
  readonly term: bigint;
}

/** One life of a controller, which carries through the change that is under way or begins one. */
export class MembershipController {
  readonly #world: World;
  readonly #random: Random;
  /** Steps until it is killed. */
  #stepsLeft: number;

  constructor(world: World, random: Random, stepsLeft: number) {
    this.#world = world;
    this.#random = random;
    this.#stepsLeft = stepsLeft;
  }

  /**
   * Brings a change that is under way to its end, or the configuration to its members, and then begins a new change
   * if that is asked for.
   *
   * @returns false if it crashed or gave up half-way
   */
  async run(beginsAnother: boolean): Promise<boolean> {
    const { membership, trace, coverage } = this.#world;
    try {
      if (!isJoint(membership.configuration)) {
        const { configuration } = membership;
        await this.#deliver(configuration, configuration.members, majority(configuration.members.length));
        if (!beginsAnother || !this.#begin()) return true;
      }
      this.#step("joint configuration written");
      await this.#changeOver();
      coverage.count("membership-change");
      trace.note("members-changed", membership.configuration.generation);
      return true;
    } catch (error) {
      if (!(error instanceof ControllerCrashed)) throw error;
      trace.note("controller-stopped", error.message);
      coverage.count("controller-crash");
      return false;
    }
  }

  // Replaces one member by a spare, or only drops or adds one.
  #begin(): boolean {
    const { membership, acceptors, plan } = this.#world;
    const { generation, members } = membership.configuration;
    const outside = acceptors.filter((node) => !members.some(({ nodeId }) => nodeId === node.nodeId));
    const kept = members.filter((_, index) => index !== this.#random.below(members.length));
    const dice = this.#random.next();
    let next: readonly Member[] = kept;
    if (outside.length > 0 && (dice < 0.7 || kept.length < Math.min(3, plan.acceptors))) {
      next = [...(dice < 0.2 ? members : kept), memberOf(this.#random.pick(outside))];
    }
    if (next.length < 2 || sameIds(next, members)) return false;
    return membership.swap(generation, { generation: generation + 1, members, newMembers: next });
  }

  async #changeOver(): Promise<void> {
    const { membership } = this.#world;
    const joint = membership.configuration;
    const { members: old, newMembers } = joint;
    const reached = await this.#deliver(joint, old, majority(old.length));
    const sync = reached.reduce((best, log) => (compareLogPosition(log, best) > 0 ? log : best));
    const term = reached.reduce((highest, log) => (log.term > highest ? log.term : highest), 0n);
    this.#step("delivered to the old members");
    await this.#until(async () => {
      for (const member of newMembers) await this.#copyTo(member, joint, sync);
      const present = newMembers.filter(({ nodeId }) => this.#node(nodeId)?.hasTimeline === true);
      return present.length >= majority(newMembers.length);
    });
    this.#step("copied to the new members");
    await this.#raiseTerm(newMembers, term);
    this.#step("term raised");
    await this.#deliver(joint, newMembers, majority(newMembers.length), sync);
    this.#step("new members have caught up");
    const final: Configuration = { generation: joint.generation + 1, members: newMembers, newMembers: [] };
    if (!membership.swap(joint.generation, final))
      throw new ControllerCrashed("another controller was faster");
    this.#step("final configuration written");
    await this.#deliver(final, newMembers, majority(newMembers.length));
    this.#step("final configuration delivered");
    this.#exclude(old, final);
  }

  #step(name: string): void {
    this.#world.trace.note("controller", name, this.#world.membership.configuration.generation);
    this.#stepsLeft -= 1;
    if (this.#stepsLeft < 0) throw new ControllerCrashed(`killed after: ${name}`);
  }

  /** Delivers to `members` until `needed` of them have taken it and, if asked for, have all WAL up to `sync`. */
  async #deliver(
    configuration: Configuration,
    members: readonly Member[],
    needed: number,
    sync?: LogPosition,
  ): Promise<readonly Log[]> {
    const done = new Map<bigint, Log>();
    await this.#until(async () => {
      for (const { nodeId } of members) {
        if (done.has(nodeId)) continue;
        const log = await this.#call(nodeId, async (timeline) => {
          const result = await timeline.switchMembership(configuration);
          return { ...result, term: timeline.state.term };
        });
        if (log === undefined) continue;
        if (log.current.generation > configuration.generation) {
          throw new ControllerCrashed("an acceptor is in a higher generation");
        }
        if (sync === undefined || compareLogPosition(log, sync) >= 0) done.set(nodeId, log);
      }
      return done.size >= needed;
    });
    return [...done.values()];
  }

  async #raiseTerm(members: readonly Member[], term: bigint): Promise<void> {
    const done = new Set<bigint>();
    await this.#until(async () => {
      for (const { nodeId } of members) {
        if (done.has(nodeId)) continue;
        const result = await this.#call(nodeId, (timeline) => timeline.bumpTerm(term));
        if (result !== undefined) done.add(nodeId);
      }
      return done.size >= majority(members.length);
    });
  }

  /** Puts a copy of the most advanced old member's timeline on a member that has none. */
  async #copyTo(member: Member, joint: Configuration, sync: LogPosition): Promise<void> {
    const node = this.#node(member.nodeId);
    if (node === undefined || node.hasTimeline) return;
    if (!(await this.#world.pass(CONTROLLER_ENDPOINT, node.index))) return;
    for (const { nodeId } of joint.members) {
      const donor = this.#node(nodeId)?.process;
      if (donor === undefined || node.hasTimeline) continue;
      const { state } = donor;
      if (compareLogPosition(state, sync) < 0) continue;
      const copy = await this.#snapshot(donor, joint);
      if (copy === undefined || node.hasTimeline) continue;
      await this.#world.installCopy(node, copy.state, copy.bytes);
      return;
    }
  }

  async #snapshot(
    donor: NonNullable<AcceptorNode["process"]>,
    joint: Configuration,
  ): Promise<{ readonly state: PersistentState; readonly bytes: Uint8Array } | undefined> {
    const { startLsn } = this.#world;
    return await donor
      .exclusive(async ({ state }) => {
        const { flushLsn } = state;
        const bytes = flushLsn === INVALID_LSN ? new Uint8Array(0) : await donor.copy(startLsn, flushLsn);
        return { state: { ...donor.durable, configuration: joint }, bytes };
      })
      .catch(() => undefined);
  }

  #exclude(old: readonly Member[], final: Configuration): void {
    for (const { nodeId } of old) {
      if (isMember(final, nodeId) || this.#random.chance(0.5)) continue; // a copy that stays must do no harm either
      this.#node(nodeId)?.uninstall();
    }
  }

  async #until(attempt: () => Promise<boolean>): Promise<void> {
    const { time } = this.#world;
    const deadlineMs = time.nowMs + STEP_LIMIT_MS;
    while (!(await attempt())) {
      if (time.nowMs > deadlineMs) throw new ControllerCrashed("gave up");
      await time.sleep(RETRY_MS);
    }
  }

  async #call<T>(nodeId: bigint, body: (timeline: Timeline) => Promise<T>): Promise<T | undefined> {
    const node = this.#node(nodeId);
    if (node === undefined || !(await this.#world.pass(CONTROLLER_ENDPOINT, node.index))) return undefined;
    const result = await node.process?.exclusive(body).catch(() => undefined);
    return (await this.#world.pass(node.index, CONTROLLER_ENDPOINT)) ? result : undefined;
  }

  #node(nodeId: bigint): AcceptorNode | undefined {
    return this.#world.acceptors.find((node) => node.nodeId === nodeId);
  }
}

function sameIds(a: readonly Member[], b: readonly Member[]): boolean {
  return a.length === b.length && a.every(({ nodeId }) => b.some((other) => other.nodeId === nodeId));
}
