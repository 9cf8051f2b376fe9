// The chain of PostgreSQL's timelines, and a stream that follows it.
import { addBytes, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import type { CatchUpStream } from "../src/index.js";
import { PostgresHistory } from "../src/postgres-history.js";
import { TimelineStream } from "../src/timeline-stream.js";

const SECOND = "1\t0/3000100\tno recovery target specified\n";
/** As PostgreSQL writes it: the parent's file, an empty line, one line more. */
const FOURTH = `${SECOND}\n2\t0/4000000\tbefore 2026-01-01\n`;

// Aim: every ancestor gets the file that it had itself. Method: the history of a server that was promoted twice.
test("a history file tells of all ancestors and their own files", () => {
  const history = PostgresHistory.parse(4, FOURTH);
  expect(history.timelines).toEqual([
    { timelineId: 1, beginLsn: 0n, parentId: undefined, history: "" },
    { timelineId: 2, beginLsn: parseLsn("0/3000100"), parentId: 1, history: SECOND },
    { timelineId: 4, beginLsn: parseLsn("0/4000000"), parentId: 2, history: FOURTH },
  ]);
  expect(history.at(parseLsn("0/30000FF")).timelineId).toBe(1);
  expect(history.at(parseLsn("0/3000100")).timelineId).toBe(2);
  expect(history.at(parseLsn("F/0")).timelineId).toBe(4);
  expect(history.endOf(1)).toBe(parseLsn("0/3000100"));
  expect(history.endOf(4)).toBeUndefined();
  expect([...history.ids]).toEqual([1, 2, 4]);
  expect(PostgresHistory.parse(1, "").current).toEqual(history.timelines[0]);
});

// Aim: what is no history is not believed. Method: a file of another timeline, and one that does not parse.
test("a damaged history is refused", () => {
  for (const text of ["2\t0/4000000\titself\n", "1 nowhere\n", `1\t0/1\t${"x".repeat(2000)}\n`]) {
    expect(() => PostgresHistory.parse(2, text)).toThrow(
      expect.objectContaining({ code: "ERR_BRIDGE_TIMELINE_ID" }) as Error,
    );
  }
});

/** A source of pieces of 100 bytes that end with their timeline, as PostgreSQL's do. */
class Pieces {
  readonly opened: [Lsn, number][] = [];
  readonly #history: PostgresHistory;
  openCount = 0;

  constructor(history: PostgresHistory) {
    this.#history = history;
  }

  readonly open = async (fromLsn: Lsn, timelineId: number): Promise<CatchUpStream> => {
    this.opened.push([fromLsn, timelineId]);
    this.openCount += 1;
    let startLsn = fromLsn;
    let isOpen = true;
    const endLsn = this.#history.endOf(timelineId) ?? addBytes(fromLsn, 10_000);
    return {
      next: async () => {
        if (!isOpen || startLsn >= endLsn) throw new Error("the stream has ended");
        const bytes = Buffer.alloc(Math.min(100, Number(endLsn - startLsn)));
        const chunk = { startLsn, bytes };
        startLsn = addBytes(startLsn, bytes.byteLength);
        return chunk;
      },
      close: () => {
        if (isOpen) this.openCount -= 1;
        isOpen = false;
      },
    };
  };
}

// Aim: one stream without a seam, of which each part is asked for under its own id. Method: read across two switches.
test("a stream follows the timelines and leaves nothing open", async () => {
  const history = PostgresHistory.parse(3, "1\t0/30000FA\ta\n\n2\t0/3000200\tb\n");
  const pieces = new Pieces(history);
  const fromLsn = parseLsn("0/3000000");
  const stream = await TimelineStream.open(history, fromLsn, pieces.open);
  let nextLsn = fromLsn;
  while (nextLsn < parseLsn("0/3000300")) {
    const { startLsn, bytes } = await stream.next();
    expect(startLsn).toBe(nextLsn);
    nextLsn = addBytes(startLsn, bytes.byteLength);
  }
  expect(pieces.opened).toEqual([
    [fromLsn, 1],
    [parseLsn("0/30000FA"), 2],
    [parseLsn("0/3000200"), 3],
  ]);
  expect(pieces.openCount).toBe(1);
  stream.close();
  expect(pieces.openCount).toBe(0);
});

// Aim: closing counts also while the next part is being opened. Method: close in the middle of that.
test("a stream that is closed between two timelines opens nothing for good", async () => {
  const history = PostgresHistory.parse(2, "1\t0/3000064\ta\n");
  const pieces = new Pieces(history);
  const stream = await TimelineStream.open(history, parseLsn("0/3000000"), pieces.open);
  await stream.next();
  const next = stream.next();
  stream.close();
  await expect(next).rejects.toMatchObject({ code: "ERR_BRIDGE_POSTGRES" });
  expect(pieces.openCount).toBe(0);
});
