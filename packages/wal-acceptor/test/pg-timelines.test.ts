import { writeFile } from "node:fs/promises";
import { formatTimelineHistory } from "@millrace/lsn";
import { expect, test } from "vitest";

import { PgTimelines } from "../src/pg-timelines.js";
import type { PgTimeline } from "../src/pg-timelines.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { at, codeOf, TENANT, thrownCode, TIMELINE } from "./fixtures.js";
import { Source } from "./test-reader.js";

const CONFLICT = "ERR_ACCEPTOR_PG_TIMELINE_CONFLICT";
const REFUSED = "ERR_ACCEPTOR_PG_TIMELINE_REFUSED";

function history(...switches: readonly (readonly [timelineId: number, lsn: number])[]): string {
  return formatTimelineHistory(
    switches.map(([timelineId, lsn]) => ({
      timelineId,
      switchLsn: at(lsn),
      reason: "no recovery target specified",
    })),
  );
}

const SECOND: PgTimeline = { timelineId: 2, beginLsn: at(1000), parentId: 1, history: history([1, 1000]) };
const FOURTH: PgTimeline = {
  timelineId: 4,
  beginLsn: at(5000),
  parentId: 2,
  history: history([1, 1000], [2, 5000]),
};

// Aim: positions find their timelines, and each timeline its end. Method: a chain of three, at and around the switches.
test("WAL belongs to the newest timeline that has begun", () => {
  const one = new PgTimelines();
  expect(one.list()).toMatchObject([{ timelineId: 1, beginLsn: 0n }]);
  expect(one.successorOf(1)).toBeUndefined();
  const three = one.with(SECOND).with(FOURTH);
  for (const [lsn, timelineId] of [
    [0, 1],
    [999, 1],
    [1000, 2],
    [4999, 2],
    [5000, 4],
    [9999, 4],
  ] as const) {
    expect(three.at(at(lsn)).timelineId).toBe(timelineId);
  }
  expect([1, 2, 3, 4].map((id) => three.successorOf(id)?.beginLsn)).toEqual([
    1000n,
    5000n,
    undefined,
    undefined,
  ]);
  expect(three.get(3)).toBeUndefined();
  expect(PgTimelines.parse(three.serialize()).list()).toEqual(three.list());
  expect(PgTimelines.parse(one.serialize()).list()).toEqual(one.list());
});

// Aim: a cluster whose first WAL here is on a later timeline. Method: it is registered without a parent.
test("the first timeline may be another than 1", () => {
  const third: PgTimeline = { timelineId: 3, beginLsn: at(700), parentId: undefined, history: "" };
  const chain = new PgTimelines().with(third);
  expect(chain.list()).toEqual([third]);
  expect(chain.at(at(0)).timelineId).toBe(3);
  const fifth: PgTimeline = {
    timelineId: 5,
    beginLsn: at(900),
    parentId: 3,
    // What came before this log is none of its business.
    history: history([1, 100], [2, 200], [3, 900]),
  };
  expect(chain.with(fifth).successorOf(3)?.timelineId).toBe(5);
});

// Aim: repeating is harmless, contradicting is refused. Method: a table of registrations after two.
test.each<[string, Partial<PgTimeline>, string]>([
  ["another begin of a known one", { beginLsn: at(1008), history: history([1, 1008]) }, CONFLICT],
  ["another history of a known one", { history: `${SECOND.history}\n` }, CONFLICT],
  [
    "a second child",
    { timelineId: 5, parentId: 1, beginLsn: at(2000), history: history([1, 2000]) },
    CONFLICT,
  ],
  [
    "a begin before the parent's",
    { timelineId: 5, parentId: 4, beginLsn: at(4000), history: history([1, 1000], [2, 5000], [4, 4000]) },
    CONFLICT,
  ],
  ["a second first one", { timelineId: 9, parentId: undefined }, CONFLICT],
  [
    "a history with another switch",
    { timelineId: 5, parentId: 4, beginLsn: at(9000), history: history([1, 1000], [2, 5008], [4, 9000]) },
    CONFLICT,
  ],
  [
    "a history that ends elsewhere",
    { timelineId: 5, parentId: 4, beginLsn: at(9000), history: history([1, 1000], [2, 5000]) },
    CONFLICT,
  ],
  ["no history", { timelineId: 5, parentId: 4, beginLsn: at(9000), history: "" }, CONFLICT],
  ["a history that is none", { timelineId: 5, parentId: 4, beginLsn: at(9000), history: "hello" }, REFUSED],
  ["a parent that is no ancestor", { timelineId: 5, parentId: 6, beginLsn: at(9000) }, REFUSED],
  ["timeline 0", { timelineId: 0, parentId: undefined }, REFUSED],
  ["a fraction", { timelineId: 5.5, parentId: 4 }, REFUSED],
  ["a begin at 0/0", { timelineId: 5, parentId: 4, beginLsn: at(0) }, REFUSED],
])("%s is refused", (_name, change, code) => {
  const known = new PgTimelines().with(SECOND).with(FOURTH);
  expect(known.with(SECOND)).toBe(known);
  expect(thrownCode(() => known.with({ ...SECOND, ...change }))).toBe(code);
});

// Aim: a damaged file is noticed. Method: documents that are not what was written.
test.each(["", "{}", '{"version":1,"timelines":[{"timeline_id":2}]}', '{"version":9,"timelines":[]}'])(
  "%j is not a list of timelines",
  (text) => {
    expect(thrownCode(() => PgTimelines.parse(Buffer.from(text)))).toBe("ERR_ACCEPTOR_RECORDS_CORRUPT");
  },
);

// Aim: a registration is durable when it is answered, and a damaged file keeps its timeline alone from loading.
// Method: register, reopen; then overwrite the file.
test("registrations survive a restart, and a damaged file is not taken for none", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(5));
  const second: PgTimeline = {
    timelineId: 2,
    beginLsn: source.wal.endLsn,
    parentId: 1,
    history: history([1, Number(source.wal.endLsn)]),
  };
  await source.timeline.readers.registerPgTimeline(second);
  await source.timeline.readers.registerPgTimeline(second);
  const other = { ...second, beginLsn: START, history: history([1, Number(START)]) };
  expect(await codeOf(source.timeline.readers.registerPgTimeline(other))).toBe(CONFLICT);
  await source.proposer.client.close();
  await harness.reopen();
  const reopened = harness.node.timelines.get(TENANT, TIMELINE);
  expect(reopened.status().pgTimelines).toMatchObject([{ timelineId: 1 }, second]);

  const file = `${harness.directory}/${TENANT}/${TIMELINE}/pg_timelines.json`;
  await writeFile(file, "damage", { flag: "r+" });
  await harness.reopen();
  expect(harness.node.timelines.size).toBe(0);
  expect(harness.node.timelines.unloadable()).toMatchObject([
    { error: { code: "ERR_ACCEPTOR_RECORDS_CORRUPT" } },
  ]);
});
