import * as fc from "fast-check";
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { chunkBytes } from "../src/replication-chunk.js";
import { TimelineFrontier } from "../src/timeline-frontier.js";
import { Harness, START } from "./acceptor-harness.js";
import { SYSTEM_ID } from "./fixtures.js";
import { Source, TestReader } from "./test-reader.js";
import { MIB, PAGE, WalStream } from "./wal-stream.js";

const SERVER = { pgVersion: 150_018, systemId: SYSTEM_ID, segmentBytes: MIB };
/** Stock clients start where a segment does. */
const SEGMENT = BigInt(3 * MIB) as Lsn;
const FPW_CHANGE = { rmid: 0, info: 0x80 };

/** Feeds the stream in the chunks of commits at the given boundaries; where the frontier stops it, if it does. */
function follow(wal: WalStream, commits: readonly number[], newest: number): Lsn | undefined {
  const frontier = new TimelineFrontier(SERVER);
  let at = wal.startLsn;
  const ends = [...commits, wal.boundaries.length - 1].toSorted((a, b) => a - b);
  for (const index of ends) {
    const endLsn = wal.boundaries[index] ?? wal.endLsn;
    while (at < endLsn) {
      const bytes = chunkBytes(at, endLsn, MIB);
      const chunk = Buffer.from(wal.slice(at, at + BigInt(bytes)));
      const found = frontier.find(at, chunk, newest);
      if (found !== undefined) return found;
      at = (at + BigInt(bytes)) as Lsn;
    }
  }
  return undefined;
}

// Aim: nothing of an unregistered timeline gets past, everything before it does, however the WAL is cut into messages.
// Method: a stream with a promotion at any place, followed in any commits; a record torn by a page's end is seen with
// the page, its first bytes being no record to anybody.
test("the frontier is where the new timeline begins, whatever the messages", () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 60, size: "max" });
  fc.assert(
    fc.property(
      sizes,
      sizes,
      fc.boolean(),
      fc.array(fc.nat(120), { size: "max", maxLength: 40 }),
      (before, after, settings, commits) => {
        const wal = new WalStream({ startLsn: SEGMENT });
        for (const size of before) wal.record(size);
        const switchLsn = wal.endLsn;
        if (settings) wal.record(2, FPW_CHANGE);
        const recordLsn = wal.endLsn;
        wal.endOfRecovery(2);
        const recordEnd = wal.endLsn;
        for (const size of after) wal.record(size);
        const cuts = commits.map((index) => index % wal.boundaries.length);
        expect(follow(wal, cuts, 2)).toBeUndefined();
        const found = follow(wal, cuts, 1);
        if (found === undefined) throw new Error("not found");
        const page = (lsn: bigint): bigint => lsn / BigInt(PAGE);
        const torn = page(recordLsn) !== page(recordEnd - 1n);
        const apart =
          settings &&
          (cuts.some((cut) => wal.boundaries[cut] === recordLsn) || page(switchLsn) !== page(recordLsn));
        if (torn) expect(found > switchLsn && page(found) === page(recordEnd - 1n)).toBe(true);
        else if (apart) expect(found >= switchLsn && found <= recordLsn + 40n).toBe(true);
        // A record behind a page header starts behind it.
        else expect(found - switchLsn <= 40n && found >= switchLsn).toBe(true);
      },
    ),
  );
});

// Aim: an ordinary shutdown is no promotion. Method: a checkpoint record that names the timeline it is on.
test("a shutdown checkpoint on the known timeline stops nothing, on another it does", () => {
  const wal = new WalStream({ startLsn: SEGMENT });
  const body = new Uint8Array(90);
  body[0] = 255;
  body[1] = 88;
  body[10] = 1;
  wal.record(40).record(90, { rmid: 0, info: 0x00, body }).record(40);
  expect(follow(wal, [], 1)).toBeUndefined();
  body[10] = 7;
  const end = wal.endLsn;
  wal.record(90, { rmid: 0, info: 0x00, body });
  expect(follow(wal, [], 1)).toBe(end);
});

// Aim: a standby waits where its timeline ends although nobody has said so yet, and is told once somebody has. Method:
// a promotion in the WAL without a registration, a reader on the old timeline; then the registration.
test("a stream stops before an unregistered timeline and ends properly once it is registered", async () => {
  await using harness = await Harness.open();
  const wal = new WalStream({ startLsn: START });
  for (let index = 0; index < 9; index += 1) wal.record(100);
  const left = wal.endLsn;
  wal.endOfRecovery(2);
  for (let index = 0; index < 300; index += 1) wal.record(100);
  const source = await Source.open(harness, wal);
  await source.write(wal.endLsn, wal.endLsn);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(SEGMENT)} TIMELINE 1`);
  const { walData } = await reader.data();
  expect(walData.subarray(40)).toEqual(Buffer.from(wal.slice(START, left)));
  expect(harness.log.of("pg-timeline-unknown")).toMatchObject([{ lsn: formatLsn(left) }]);
  harness.clock.advance(1000);
  expect(await reader.next()).toMatchObject({ type: "keepalive", endLsn: left });

  // A reader that knows nothing of timelines gets everything.
  const whole = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)}`);
  await whole.until(wal.endLsn);

  const history = `1\t${formatLsn(left)}\tno recovery target specified\n`;
  await source.timeline.readers.registerPgTimeline({ timelineId: 2, beginLsn: left, parentId: 1, history });
  expect(await reader.end()).toBe("done");
  const [next] = await reader.finish();
  expect(next?.rows).toEqual([["2", formatLsn(left)]]);
  const follower = await TestReader.start(harness, `START_REPLICATION ${formatLsn(left)} TIMELINE 2`);
  await follower.until(wal.endLsn);
});
