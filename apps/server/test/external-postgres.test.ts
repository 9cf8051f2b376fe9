/**
 * Judging a PostgreSQL that somebody else runs: what is said about each setting.
 */
import { expect, test } from "vitest";

import { checkExternalPostgres, checkFacts, settingLines } from "../src/postgres/external-postgres.js";
import type { ServerFacts } from "../src/postgres/external-postgres.js";
import { redactUrl } from "../src/postgres/url.js";

const GOOD: ServerFacts = {
  server_version_num: "160004",
  server_version: "16.4",
  wal_level: "replica",
  max_wal_senders: "10",
  max_replication_slots: "10",
  synchronous_standby_names: "FIRST 1 (walbridge)",
  synchronous_commit: "on",
  fsync: "on",
  full_page_writes: "on",
  may_replicate: "t",
  in_recovery: "f",
};

function judge(changed: Partial<ServerFacts>): { problems: readonly string[]; warnings: readonly string[] } {
  return checkFacts({ ...GOOD, ...changed }, "walbridge");
}

// Aim: a server that is set up right gives no complaint. Method: the good facts, and logical instead of replica.
test("a server with the right settings passes without a word", () => {
  expect(judge({})).toMatchObject({ problems: [], warnings: [] });
  expect(judge({ wal_level: "logical", synchronous_commit: "remote_apply" })).toMatchObject({
    problems: [],
    warnings: [],
  });
});

// Aim: each setting that makes streaming impossible is a problem that names it. Method: one bad fact at a time.
test.each([
  [{ wal_level: "minimal" }, /wal_level is minimal/],
  [{ server_version_num: "140012", server_version: "14.12" }, /14\.12 is not supported/],
  [{ in_recovery: "t" }, /standby/],
  [{ may_replicate: "f" }, /REPLICATION/],
  [{ max_wal_senders: "2" }, /max_wal_senders is 2/],
  [{ max_replication_slots: "0" }, /max_replication_slots/],
] as const)("%j is a problem", (changed, message) => {
  const { problems } = judge(changed);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(message);
});

// Aim: each setting that only weakens the guarantee is a warning. Method: one bad fact at a time.
test.each([
  [{ synchronous_standby_names: "" }, /synchronous_standby_names: it is empty/],
  [{ synchronous_standby_names: "ANY 1 (walbridge, b)" }, /can be satisfied without/],
  [{ synchronous_commit: "off" }, /synchronous_commit = off/],
  [{ synchronous_commit: "local" }, /synchronous_commit = local/],
  [{ fsync: "off" }, /fsync is off/],
  [{ full_page_writes: "off" }, /full_page_writes is off/],
] as const)("%j is a warning", (changed, message) => {
  const { problems, warnings } = judge(changed);
  expect(problems).toEqual([]);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(message);
});

// Aim: following the printed lines ends the complaints. Method: apply them to the worst server that can be helped.
test("the printed lines are the cure", () => {
  const lines = Object.fromEntries(
    settingLines("walbridge")
      .split("\n")
      .map((line) => /^\s*(\w+) = '?([^']*)'?$/.exec(line)?.slice(1, 3) ?? []),
  ) as Partial<ServerFacts>;
  const bad = { wal_level: "minimal", synchronous_standby_names: "", synchronous_commit: "off" };
  expect(judge(bad).problems.length + judge(bad).warnings.length).toBe(3);
  expect(judge({ ...bad, ...lines })).toMatchObject({ problems: [], warnings: [] });
});

// Aim: what is shown of a URL never holds a password, wherever it stands. Method: user part, parameter, socket, garbage.
test.each([
  ["postgresql://u:sesame@h:5/db", "h:5/db"],
  ["postgresql://h/db?password=sesame", "h/db"],
  ["postgresql://u:sesame@/db?host=/run/pg", "/run/pg/db"],
  ["sesame", "(not a URL)"],
])("%s is shown as %s", (url, shown) => {
  expect(redactUrl(url)).toBe(shown);
});

// Aim: a server that does not answer is an error that says where it was looked for. Method: a port without listener.
test("a server that does not answer is reported", async () => {
  const check = checkExternalPostgres("postgresql://u:sesame@127.0.0.1:1/db", "walbridge");
  await expect(check).rejects.toMatchObject({
    code: "ERR_SERVER_POSTGRES",
    message: expect.not.stringContaining("sesame") as string,
  });
});
