import { expect, test } from "vitest";
import { removableSegment } from "../src/wal-removal.js";
import type { RemovalPositions } from "../src/wal-removal.js";
import { at } from "./fixtures.js";
import { MIB } from "./wal-stream.js";

/** The start of segment `n`, and `bytes` more. */
function segment(n: number, bytes = 0) {
  return at(BigInt(n) * BigInt(MIB) + BigInt(bytes));
}

const idle: RemovalPositions = {
  segmentBytes: MIB,
  persistedCommitLsn: segment(100, 5),
  flushLsn: segment(101),
  peerHorizonLsn: segment(101),
  slotLsns: [],
  walKeepBytes: 0,
};

// Aim: whatever lags most holds WAL back, and its own segment stays. Method: let each position lag in turn.
test.each([
  ["nothing but commit", {}, 99n],
  ["the log's own end", { flushLsn: segment(80, 1) }, 79n],
  ["a lagging acceptor", { peerHorizonLsn: segment(70) }, 69n],
  ["a standby's slot", { slotLsns: [segment(90), segment(60, MIB - 8)] }, 59n],
  ["the archive", { archivedLsn: segment(50, 8) }, 49n],
  ["what the operator keeps", { walKeepBytes: 60 * MIB }, 39n],
] as const)("%s decides which segments may go", (_, change, last) => {
  expect(removableSegment({ ...idle, ...change })).toBe(last);
});

// Aim: unknown positions hold everything. Method: 0/0 anywhere, more to keep than there is, the very first segment.
test("nothing may go while a position is unknown or everything is kept", () => {
  expect(removableSegment({ ...idle, peerHorizonLsn: at(0) })).toBeUndefined();
  expect(removableSegment({ ...idle, persistedCommitLsn: at(0) })).toBeUndefined();
  expect(removableSegment({ ...idle, slotLsns: [at(0)] })).toBeUndefined();
  expect(removableSegment({ ...idle, walKeepBytes: 101 * MIB })).toBeUndefined();
  expect(removableSegment({ ...idle, peerHorizonLsn: segment(0, 500) })).toBeUndefined();
});
