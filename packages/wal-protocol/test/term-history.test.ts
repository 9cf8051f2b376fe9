/**
 * Term histories against the dumbest model there is: a log whose every position carries the term that wrote it.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import {
  checkTermHistory,
  compareLogPosition,
  effectiveHistory,
  highestCommonPoint,
  lastLogTerm,
  streamingStart,
} from "../src/index.js";
import type { TermHistory } from "../src/index.js";
import { SeededRandom } from "./random-messages.js";

function history(...entries: readonly (readonly [number, number])[]): TermHistory {
  return entries.map(([term, lsn]) => ({ term: BigInt(term), lsn: toLsn(BigInt(lsn)) }));
}

/** What every broken history is refused with. */
const CONTRADICTION: unknown = expect.objectContaining({
  name: "ProtocolError",
  code: "ERR_PROTOCOL_HISTORY",
});

const lsn = (value: number): Lsn => toLsn(BigInt(value));

// Aim: the point where two logs part, case by case. Method: a table; the acceptor's end comes last.
test.each([
  {
    proposer: history([1, 10], [2, 20], [4, 40]),
    acceptor: history([1, 10], [2, 20], [3, 30]),
    end: 40,
    point: [2, 30],
  },
  {
    proposer: history([1, 10], [2, 20], [4, 40]),
    acceptor: history([1, 10], [2, 20]),
    end: 32,
    point: [2, 32],
  },
  { proposer: history([1, 10], [2, 20]), acceptor: history([1, 10], [2, 20]), end: 32, point: [2, 32] },
  { proposer: history([0, 1]), acceptor: history([1, 1], [2, 2]), end: 3, point: undefined },
  {
    proposer: history([0, 100], [3, 100], [4, 300]),
    acceptor: history([0, 100], [2, 100]),
    end: 450,
    point: [0, 100],
  },
  {
    proposer: history([0, 100], [3, 100], [4, 500]),
    acceptor: history([0, 100], [3, 100]),
    end: 300,
    point: [3, 300],
  },
  { proposer: history([1, 10], [2, 20]), acceptor: history([1, 10]), end: 25, point: [1, 20] },
  { proposer: history(), acceptor: history([1, 10]), end: 25, point: undefined },
  { proposer: history([1, 10]), acceptor: history(), end: 0, point: undefined },
  { proposer: history(), acceptor: history(), end: 0, point: undefined },
])("the highest common point of case %#", ({ proposer, acceptor, end, point }) => {
  const expected =
    point === undefined ? undefined : { term: BigInt(point[0] ?? 0), lsn: BigInt(point[1] ?? 0) };
  expect(highestCommonPoint(proposer, acceptor, lsn(end))).toEqual(expected);
});

// Aim: corruption is reported, not papered over. Method: one term that starts at two LSNs.
test("the same term at two LSNs is refused", () => {
  expect(() => highestCommonPoint(history([1, 10], [2, 20]), history([1, 10], [2, 21]), lsn(30))).toThrow(
    CONTRADICTION,
  );
  expect(() => streamingStart(history(), history(), lsn(0))).toThrow(CONTRADICTION);
});

// Aim: without a common point streaming starts where the proposer's log does. Method: an empty and a foreign log.
test("streaming starts at the proposer's first entry when nothing is shared", () => {
  expect(streamingStart(history([0, 7], [1, 7]), history(), lsn(0))).toEqual({ term: 0n, lsn: 7n });
  expect(streamingStart(history([1, 7]), history([2, 7]), lsn(9))).toEqual({ term: 1n, lsn: 7n });
});

// Aim: a term counts as soon as the log reaches its start. Method: the LSN before, at and after it.
test("an entry is effective from exactly its own LSN on", () => {
  const full = history([0, 10], [3, 50]);
  expect(lastLogTerm(full, lsn(49))).toBe(0n);
  expect(lastLogTerm(full, lsn(50))).toBe(3n);
  expect(effectiveHistory(full, lsn(49))).toEqual(history([0, 10]));
  expect(effectiveHistory(full, lsn(50))).toBe(full);
  expect(effectiveHistory(full, lsn(9))).toEqual([]);
  expect(lastLogTerm(full, lsn(9))).toBe(0n);
  expect(lastLogTerm([], lsn(9))).toBe(0n);
});

// Aim: the term of the end beats the length. Method: each order once.
test("logs are ordered by last term, then by length", () => {
  const position = (term: number, flush: number): { lastLogTerm: bigint; flushLsn: Lsn } => ({
    lastLogTerm: BigInt(term),
    flushLsn: lsn(flush),
  });
  expect(compareLogPosition(position(4, 100), position(3, 900))).toBeGreaterThan(0);
  expect(compareLogPosition(position(3, 900), position(4, 100))).toBeLessThan(0);
  expect(compareLogPosition(position(3, 100), position(3, 101))).toBeLessThan(0);
  expect(compareLogPosition(position(3, 101), position(3, 100))).toBeGreaterThan(0);
  expect(compareLogPosition(position(3, 100), position(3, 100))).toBe(0);
});

// Aim: only ordered histories pass. Method: terms that stand still or fall, LSNs that fall, LSNs that stand still.
test("histories out of order are refused", () => {
  checkTermHistory([]);
  checkTermHistory(history([0, 10], [1, 10], [5, 11]));
  for (const bad of [history([1, 10], [1, 11]), history([2, 10], [1, 11]), history([1, 10], [2, 9])]) {
    expect(() => {
      checkTermHistory(bad);
    }).toThrow(CONTRADICTION);
  }
});

const LOG_START = 10;
const LOG_LIMIT = 60;

/** Histories as elections make them: each term adopts some earlier log, cut anywhere, and starts at its end. */
function randomElections(random: SeededRandom): TermHistory[] {
  const histories: TermHistory[] = [history([0, LOG_START])];
  for (let term = 1; term < 8; term += 1) {
    if (random.chance(4)) continue; // this term had no proposer
    const donor = random.pick(histories);
    const start = lsn(LOG_START + random.below(LOG_LIMIT - LOG_START));
    histories.push([...effectiveHistory(donor, start), { term: BigInt(term), lsn: start }]);
  }
  return histories;
}

/** Which term wrote position `at`, read off entry by entry. */
function writerOf(entries: TermHistory, at: number): bigint | undefined {
  return entries.findLast((entry) => entry.lsn <= BigInt(at))?.term;
}

// Aim: streaming starts exactly where the logs' contents part. Method: 100 000 pairs of logs out of random
// elections, compared position by position; cutting the acceptor's history beforehand changes nothing.
test(
  "streaming starts at the first position that the proposer's log does not share",
  { timeout: 60_000 },
  () => {
    const random = new SeededRandom(77);
    for (let round = 0; round < 100_000; round += 1) {
      const histories = randomElections(random);
      const proposer = histories.at(-1) ?? [];
      const acceptor = random.pick(histories);
      const end = random.chance(20) ? 0 : LOG_START + random.below(LOG_LIMIT - LOG_START);
      let expected = LOG_START;
      while (expected < end && writerOf(proposer, expected) === writerOf(acceptor, expected)) expected += 1;
      const start = streamingStart(proposer, acceptor, lsn(end)).lsn;
      if (start !== BigInt(expected)) {
        expect({ proposer, acceptor, end, start }).toEqual({
          proposer,
          acceptor,
          end,
          start: BigInt(expected),
        });
      }
      const cut = effectiveHistory(acceptor, lsn(end));
      expect(streamingStart(proposer, cut, lsn(end)).lsn).toBe(start);
    }
  },
);
