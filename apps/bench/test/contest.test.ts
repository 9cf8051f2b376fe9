import fc from "fast-check";
import { expect, test } from "vitest";
import { contest, orderOf } from "../src/contest.js";
import type { Contestant, RowSpec } from "../src/contest.js";

const SPEC: RowSpec = {
  id: "G0",
  name: "a row",
  question: "which?",
  unit: "1/s",
  reference: "old",
  candidate: "new",
  judge: "median",
  gate: { ratio: 1 },
  goal: { ratio: 2 },
  cache: "none",
};

/** A contestant that gives the listed rates, one a run, and writes down that it ran. */
function scripted(name: string, rates: readonly number[], log: string[] = [], checksum = "c"): Contestant {
  let at = 0;
  return {
    name,
    command: `run ${name}`,
    run(round) {
      log.push(`${round}${name}`);
      const rate = rates[at] ?? rates.at(-1) ?? 1;
      at += 1;
      return [{ rate, checksum, details: { p50Ms: 1 / rate } }];
    },
  };
}

// Aim: nobody always goes first. Method: over each pair of rounds the places of every contestant add up to the same.
test("each round runs everybody once, and two rounds in opposite orders", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.nat(100), (count, round) => {
      const [one, two] = [orderOf(count, round), orderOf(count, round + 1)];
      expect(new Set(one).size).toBe(count);
      for (let index = 0; index < count; index += 1)
        expect(one.indexOf(index) + two.indexOf(index)).toBe(count - 1);
    }),
  );
});

// Aim: reference and candidate alternate. Method: the log of a contest of three rounds.
test("contestants alternate and the order turns round", async () => {
  const log: string[] = [];
  const [row] = await contest({
    contestants: [scripted("old", [10], log), scripted("new", [15], log)],
    rows: [SPEC],
    rounds: 3,
    quick: false,
  });
  expect(log).toEqual(["0old", "0new", "1new", "1old", "2old", "2new"]);
  expect(row).toMatchObject({
    verdict: "below goal",
    tries: 1,
    ratio: { median: 1.5, min: 1.5, max: 1.5, judged: 1.5 },
    reference: { name: "old", command: "run old", median: 10, rounds: [10, 10, 10], details: { p50Ms: 0.1 } },
    checksum: "c",
  });
});

// Aim: a set in which the reference wobbles is repeated, and only until one counts. Method: a reference that is steady
// in its second set only; the candidate's later rates would fail.
test("a void set is repeated and the first steady one counts", async () => {
  const log: string[] = [];
  const [row] = await contest({
    contestants: [scripted("old", [10, 20, 10, 11], log), scripted("new", [1, 1, 25, 25], log)],
    rows: [SPEC],
    rounds: 2,
    quick: false,
  });
  expect(row).toMatchObject({ verdict: "pass", tries: 2, reference: { rounds: [10, 11] } });
  expect(log).toHaveLength(8);
});

// Aim: noise is never a failure. Method: a reference that wobbles in every set, a candidate far below the gate.
test("a reference that always wobbles makes the row inconclusive after three sets", async () => {
  const log: string[] = [];
  const [row] = await contest({
    contestants: [scripted("old", [10, 20, 10, 20, 10, 20], log), scripted("new", [1], log)],
    rows: [SPEC],
    rounds: 2,
    quick: false,
  });
  expect(row).toMatchObject({ verdict: "inconclusive", tries: 3 });
  expect(log).toHaveLength(12);
});

// Aim: rows of one contest are settled one by one. Method: two measures, of which only the second is void at first.
test("a row that counts is kept when another one's set is repeated", async () => {
  const both = (name: string, first: readonly number[], second: readonly number[]): Contestant => {
    let at = 0;
    return {
      name,
      command: name,
      run() {
        const samples = [first, second].map((rates) => ({ rate: rates[at] ?? 1, checksum: "c" }));
        at += 1;
        return samples;
      },
    };
  };
  const rows = await contest({
    contestants: [
      both("old", [10, 10, 99, 99], [10, 20, 10, 10]),
      both("new", [30, 30, 1, 1], [30, 30, 30, 30]),
    ],
    rows: [SPEC, { ...SPEC, measure: 1 }],
    rounds: 2,
    quick: false,
  });
  expect(rows.map(({ tries, verdict, ratio }) => [tries, verdict, ratio.median])).toEqual([
    [1, "pass", 3],
    [2, "pass", 3],
  ]);
});

// Aim: a smoke run judges and repeats nothing. Method: a wobbling reference and a failing candidate, quick.
test("a quick contest is one set without a verdict", async () => {
  const [row] = await contest({
    contestants: [scripted("old", [10, 90]), scripted("new", [1])],
    rows: [SPEC],
    rounds: 2,
    quick: true,
  });
  expect(row).toMatchObject({ verdict: "smoke", tries: 1 });
});

// Aim: speed without the right outcome is no result. Method: differing checksums, no rate, an unknown contestant.
test("wrong work is an error and not a row", async () => {
  const options = { rows: [{ ...SPEC, sameWork: true }], rounds: 1, quick: false };
  const differing = [scripted("old", [1], [], "a"), scripted("new", [1], [], "b")];
  await expect(contest({ ...options, contestants: differing })).rejects.toMatchObject({
    code: "ERR_BENCH_WORK",
  });
  const idle = [scripted("old", [1]), scripted("new", [0])];
  await expect(contest({ ...options, contestants: idle })).rejects.toMatchObject({ code: "ERR_BENCH_WORK" });
  await expect(contest({ ...options, contestants: [scripted("old", [1])] })).rejects.toThrow(
    "no contestant is named new",
  );
});
