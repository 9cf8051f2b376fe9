/**
 * Membership configurations: who counts towards a quorum, and how.
 *
 * A configuration is {generation, members, newMembers}. While `newMembers` is not empty the configuration is joint:
 * every decision needs a majority of both sets, so that a change of members never has a moment at which two
 * disjoint majorities exist. Members are matched by node id, never by address, because addresses move. All
 * functions are pure; the sets are small (tens at most), so plain loops are the fastest thing here.
 *
 * Idea: joint consensus of the Raft paper (section 6) as Neon's safekeepers use it; the arithmetic is the k-th
 * largest of etcd's raft MajorityConfig and JointConfig.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { ProtocolError } from "./errors.js";

/** One acceptor of a configuration. `nodeId` identifies it for good; `host` and `port` are where it was last known. */
export interface Member {
  /** u64, never 0. */
  readonly nodeId: bigint;
  /** Without NUL characters; UTF-8 on the wire. */
  readonly host: string;
  /** u16, the port of the WAL protocol. */
  readonly port: number;
}

/** Who votes. Generation 0 means that configurations are not in use; each change takes a higher generation. */
export interface Configuration {
  /** u32. */
  readonly generation: number;
  readonly members: readonly Member[];
  /** Empty unless a change of members is under way. */
  readonly newMembers: readonly Member[];
}

/** Generation 0 without members: what protocol version 2 implies and a fresh acceptor reports. */
export const EMPTY_CONFIGURATION: Configuration = Object.freeze({
  generation: 0,
  members: Object.freeze([]),
  newMembers: Object.freeze([]),
});

/** Whether a change of members is under way, so that both sets must agree. */
export function isJoint(configuration: Configuration): boolean {
  return configuration.newMembers.length > 0;
}

/** Whether `nodeId` is in either set. */
export function isMember(configuration: Configuration, nodeId: bigint): boolean {
  return includes(configuration.members, nodeId) || includes(configuration.newMembers, nodeId);
}

/**
 * Checks what must hold in every configuration: a generation other than 0 has members, no set names a node twice,
 * and no node id is 0.
 *
 * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION
 */
export function checkConfiguration(configuration: Configuration): void {
  if (configuration.generation !== 0 && configuration.members.length === 0) {
    throw new ProtocolError(
      "ERR_PROTOCOL_CONFIGURATION",
      `membership configuration of generation ${String(configuration.generation)} has no members`,
    );
  }
  checkSet(configuration.members, "members");
  checkSet(configuration.newMembers, "new members");
}

/** Smallest number that is more than half of `count`: every two such subsets share an element. */
export function majority(count: number): number {
  return Math.floor(count / 2) + 1;
}

/**
 * Whether those for whom `has` is true form a majority of the members and, in a joint configuration, of the new
 * members too. A configuration without members has no quorum.
 */
export function hasQuorum(configuration: Configuration, has: (nodeId: bigint) => boolean): boolean {
  return (
    hasMajority(configuration.members, has) &&
    (!isJoint(configuration) || hasMajority(configuration.newMembers, has))
  );
}

/**
 * The highest LSN that a quorum has reached: the majority-th largest value over the members, and in a joint
 * configuration the smaller of both sets' values. 0/0 if there are no members.
 *
 * @param memberLsn what one member has confirmed; 0/0 for a member never heard of
 */
export function quorumLsn(configuration: Configuration, memberLsn: (nodeId: bigint) => Lsn): Lsn {
  const first = kthLargest(configuration.members, memberLsn);
  if (!isJoint(configuration)) return first;
  const second = kthLargest(configuration.newMembers, memberLsn);
  return second < first ? second : first;
}

function includes(set: readonly Member[], nodeId: bigint): boolean {
  for (const member of set) if (member.nodeId === nodeId) return true;
  return false;
}

function hasMajority(set: readonly Member[], has: (nodeId: bigint) => boolean): boolean {
  let count = 0;
  for (const member of set) if (has(member.nodeId)) count += 1;
  return count >= majority(set.length);
}

function kthLargest(set: readonly Member[], memberLsn: (nodeId: bigint) => Lsn): Lsn {
  const lsns = set.map((member) => memberLsn(member.nodeId));
  lsns.sort((a, b) => (a < b ? 1 : a > b ? -1 : 0));
  return lsns[majority(set.length) - 1] ?? INVALID_LSN;
}

function checkSet(set: readonly Member[], name: string): void {
  const seen = new Set<bigint>();
  for (const { nodeId } of set) {
    if (nodeId === 0n) {
      throw new ProtocolError("ERR_PROTOCOL_CONFIGURATION", `node id 0 among the ${name}`);
    }
    if (seen.has(nodeId)) {
      throw new ProtocolError(
        "ERR_PROTOCOL_CONFIGURATION",
        `node ${String(nodeId)} is twice among the ${name}`,
      );
    }
    seen.add(nodeId);
  }
}
