import { expect, test } from "vitest";
import { parseArguments, usage } from "../src/arguments.js";

const KNOWN = ["commit", "channel"];

// Aim: what the command line says is what is run. Method: examples of each option.
test("options and suites are read in any order", () => {
  expect(parseArguments([], KNOWN)).toEqual({
    suites: KNOWN,
    json: undefined,
    quick: false,
    rounds: 5,
    directory: undefined,
    help: false,
  });
  expect(
    parseArguments(["channel", "--json", "a.json", "--rounds", "7", "channel", "--directory=/d"], KNOWN),
  ).toMatchObject({ suites: ["channel"], json: "a.json", rounds: 7, directory: "/d" });
  expect(parseArguments(["--quick"], KNOWN)).toMatchObject({ quick: true, rounds: 1 });
  expect(parseArguments(["--quick", "--rounds=2"], KNOWN)).toMatchObject({ quick: true, rounds: 2 });
});

// Aim: a typing error never runs something else. Method: unknown names and numbers that are none.
test("what is not understood is refused", () => {
  for (const argv of [
    ["comit"],
    ["--fast"],
    ["--rounds", "0"],
    ["--rounds", "2.5"],
    ["--rounds", "x"],
    ["--json"],
  ]) {
    expect(() => parseArguments(argv, KNOWN)).toThrow(expect.objectContaining({ code: "ERR_BENCH_USAGE" }));
  }
});

// Aim: the help names every suite. Method: look for names and questions.
test("the help lists the suites with their questions", () => {
  const text = usage([{ name: "commit", question: "How many?" }]);
  expect(text).toMatch(/commit\s+How many\?/);
});
