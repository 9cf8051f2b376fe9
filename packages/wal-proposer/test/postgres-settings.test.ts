// Settings as SHOW prints them: their units, the grammar of synchronous_standby_names, and what is worth a warning.
import fc from "fast-check";
import { expect, test } from "vitest";
import { durabilityWarnings } from "../src/index.js";
import {
  parseBytesSetting,
  parseDurationSetting,
  parseSynchronousStandbyNames,
} from "../src/postgres-settings.js";

const refused = expect.objectContaining({ code: "ERR_BRIDGE_SETTING" });
const GOOD = {
  synchronousStandbyNames: "FIRST 1 (walbridge)",
  synchronousCommit: "on",
  fsync: "on",
  fullPageWrites: "on",
  walLevel: "replica",
};

function warned(settings: Partial<typeof GOOD>): readonly string[] {
  return durabilityWarnings({ ...GOOD, ...settings }, "walbridge").map(({ warning }) => warning);
}

// Aim: every unit that PostgreSQL prints, and nothing else. Method: examples of each.
test("sizes and durations are read with their units", () => {
  expect(parseBytesSetting("wal_segment_size", "16MB")).toBe(16 * 1024 * 1024);
  expect(parseBytesSetting("wal_segment_size", "1GB")).toBe(1024 ** 3);
  expect(parseBytesSetting("wal_segment_size", "512kB")).toBe(524_288);
  expect(parseDurationSetting("wal_sender_timeout", "1min")).toBe(60_000);
  expect(parseDurationSetting("wal_sender_timeout", "1500ms")).toBe(1500);
  expect(parseDurationSetting("wal_sender_timeout", "0")).toBe(0);
  for (const text of ["", "MB", "16 MB", "-1s", "16XB", "1e3", "9".repeat(40)]) {
    expect(() => parseBytesSetting("x", text)).toThrow(refused);
  }
});

// Aim: all forms of the grammar. Method: one example a form, compared with what syncrep.c makes of it.
test("synchronous_standby_names is read in all its forms", () => {
  expect(parseSynchronousStandbyNames("")).toBeUndefined();
  expect(parseSynchronousStandbyNames("  ")).toBeUndefined();
  expect(parseSynchronousStandbyNames("walbridge")).toEqual({
    method: "first",
    count: 1,
    names: ["walbridge"],
  });
  expect(parseSynchronousStandbyNames("a, b")).toEqual({ method: "first", count: 1, names: ["a", "b"] });
  expect(parseSynchronousStandbyNames("2 (a, b,c)")).toEqual({
    method: "first",
    count: 2,
    names: ["a", "b", "c"],
  });
  expect(parseSynchronousStandbyNames("ANY 2 ( a ,*)")).toEqual({
    method: "any",
    count: 2,
    names: ["a", "*"],
  });
  expect(parseSynchronousStandbyNames('first 1 ("od""d, (name", first)')).toEqual({
    method: "first",
    count: 1,
    names: ['od"d, (name', "first"],
  });
  expect(parseSynchronousStandbyNames("first")).toEqual({ method: "first", count: 1, names: ["first"] });
  for (const text of ["a,", ",a", "a b", "2 (a", "ANY 1 ()", "ANY 1 (a) b", '"a', "(a)"]) {
    expect(() => parseSynchronousStandbyNames(text)).toThrow(refused);
  }
});

// Aim: no text makes the parser hang or throw anything else. Method: strings of the grammar's own characters.
test("any text is either read or refused", () => {
  const piece = fc.constantFrom("a", "ANY", "first", "1", "2", "(", ")", ",", '"', " ", "*", "\\", "\n");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40, size: "max" }), (pieces) => {
      try {
        const parsed = parseSynchronousStandbyNames(pieces.join(""));
        expect(parsed === undefined || parsed.names.length > 0).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_BRIDGE_SETTING" });
      }
    }),
  );
});

// Aim: an operator hears of everything that lets a commit return without the quorum. Method: one setting at a time.
test("settings that undermine the guarantee are named", () => {
  expect(warned({})).toEqual([]);
  expect(warned({ synchronousStandbyNames: "" })).toEqual(["synchronous_standby_names"]);
  expect(warned({ synchronousStandbyNames: "other" })).toEqual(["synchronous_standby_names"]);
  expect(warned({ synchronousStandbyNames: "*" })).toEqual(["synchronous_standby_names"]);
  expect(warned({ synchronousStandbyNames: "ANY 1 (walbridge, other)" })).toEqual([
    "synchronous_standby_names",
  ]);
  expect(warned({ synchronousStandbyNames: "FIRST 1 (walbridge, other)" })).toEqual([
    "synchronous_standby_names",
  ]);
  expect(warned({ synchronousStandbyNames: "FIRST 2 (walbridge, other)" })).toEqual([]);
  expect(warned({ synchronousStandbyNames: "ANY 2 (WalBridge, other)" })).toEqual([]);
  expect(warned({ synchronousStandbyNames: "ANY 2 (walbridge, a, b)" })).toEqual([
    "synchronous_standby_names",
  ]);
  expect(warned({ synchronousCommit: "local" })).toEqual(["synchronous_commit"]);
  expect(warned({ synchronousCommit: "off" })).toEqual(["synchronous_commit"]);
  expect(warned({ synchronousCommit: "remote_write" })).toEqual([]);
  expect(warned({ fsync: "off", fullPageWrites: "off", walLevel: "minimal" })).toEqual([
    "fsync",
    "full_page_writes",
    "wal_level",
  ]);
});
