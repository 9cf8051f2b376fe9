/**
 * Quorum arithmetic: tables for the cases people argue about, and a comparison with the definition.
 */
import { toLsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  checkConfiguration,
  EMPTY_CONFIGURATION,
  hasQuorum,
  isJoint,
  isMember,
  majority,
  ProtocolError,
  quorumLsn,
} from "../src/index.js";
import type { Configuration } from "../src/index.js";

function configuration(members: readonly number[], newMembers: readonly number[] = []): Configuration {
  const set = (ids: readonly number[]): { nodeId: bigint; host: string; port: number }[] =>
    ids.map((id) => ({ nodeId: BigInt(id), host: `node${String(id)}`, port: 5454 }));
  return { generation: 1, members: set(members), newMembers: set(newMembers) };
}

// Aim: which nodes may be down during a change of members. Method: the table, node by node.
test.each([
  { members: [1, 2, 3], newMembers: [], stopped: [3], works: true },
  { members: [1, 2, 3], newMembers: [], stopped: [1, 3], works: false },
  { members: [1, 2, 3, 4], newMembers: [], stopped: [1, 2], works: false },
  { members: [1, 2, 3], newMembers: [2, 3, 4], stopped: [1, 4], works: true },
  { members: [1, 2, 3], newMembers: [2, 3, 4], stopped: [1, 2], works: false },
  { members: [1, 2, 3], newMembers: [2, 3, 4], stopped: [2, 4], works: false },
  { members: [1, 2, 3], newMembers: [2, 3, 4], stopped: [3], works: true },
  { members: [1, 2, 3], newMembers: [4], stopped: [4], works: false },
  { members: [1, 2, 3], newMembers: [4], stopped: [1], works: true },
])("$members to $newMembers without $stopped: $works", ({ members, newMembers, stopped, works }) => {
  const conf = configuration(members, newMembers);
  const up = (nodeId: bigint): boolean => !stopped.includes(Number(nodeId));
  expect(hasQuorum(conf, up)).toBe(works);
  const committed = quorumLsn(conf, (nodeId) => toLsn(up(nodeId) ? 100n : 0n));
  expect(committed).toBe(works ? 100n : 0n);
});

// Aim: quorumLsn is "the highest LSN a quorum has reached". Method: try every candidate with hasQuorum.
test("the quorum LSN is the highest one that a quorum has reached", () => {
  const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 9, size: "max" });
  const lsns = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 10, maxLength: 10, size: "max" });
  fc.assert(
    fc.property(ids, ids, lsns, (members, newMembers, values) => {
      const conf = configuration(members, newMembers);
      const lsnOf = (nodeId: bigint): bigint => BigInt(values[Number(nodeId)] ?? 0);
      const reached = values
        .map(BigInt)
        .filter((candidate) => hasQuorum(conf, (nodeId) => lsnOf(nodeId) >= candidate));
      const expected = reached.reduce((best, candidate) => (candidate > best ? candidate : best), 0n);
      expect(quorumLsn(conf, (nodeId) => toLsn(lsnOf(nodeId)))).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});

// Aim: two quorums of one configuration always share a node. Method: complements of quorums are never quorums.
test("two quorums intersect", () => {
  const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9, size: "max" });
  fc.assert(
    fc.property(ids, ids, fc.integer({ min: 0, max: 1023 }), (members, newMembers, mask) => {
      const conf = configuration(members, newMembers);
      const has = (nodeId: bigint): boolean => ((mask >> Number(nodeId)) & 1) === 1;
      if (hasQuorum(conf, has)) expect(hasQuorum(conf, (nodeId) => !has(nodeId))).toBe(false);
    }),
    { numRuns: 2000 },
  );
});

// Aim: nothing is decided by nobody. Method: the empty configuration.
test("a configuration without members has no quorum", () => {
  expect(hasQuorum(EMPTY_CONFIGURATION, () => true)).toBe(false);
  expect(quorumLsn(EMPTY_CONFIGURATION, () => toLsn(5n))).toBe(0n);
  expect(isJoint(EMPTY_CONFIGURATION)).toBe(false);
  expect([1, 2, 3, 4, 5].map(majority)).toEqual([1, 2, 2, 3, 3]);
});

// Aim: membership spans both sets. Method: a node of each, and a stranger.
test("members of either set are members", () => {
  const conf = configuration([1, 2], [3]);
  expect([1n, 2n, 3n, 4n].map((nodeId) => isMember(conf, nodeId))).toEqual([true, true, true, false]);
  expect(isJoint(conf)).toBe(true);
});

// Aim: a bad configuration is named as such before it decides anything. Method: each rule broken once.
test("configurations that contradict themselves are refused", () => {
  checkConfiguration(EMPTY_CONFIGURATION);
  checkConfiguration(configuration([1, 2], [2, 3]));
  for (const bad of [
    configuration([]),
    configuration([1, 1]),
    configuration([1], [2, 2]),
    configuration([0]),
  ]) {
    expect(() => {
      checkConfiguration(bad);
    }).toThrow(ProtocolError);
  }
});
