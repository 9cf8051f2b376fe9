/**
 * Statistics as rows: what can never happen is blank, nothing counted is lost when a backend leaves, and a reset takes
 * nothing away from those who go on counting.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { attachContext, detachContext } from "../src/backend-context.js";
import type { BackendContext } from "../src/backend-context.js";
import type { FileLayer } from "../src/file-layer.js";
import {
  foldStatistics,
  isCounted,
  isCountedObject,
  readBackendStatistics,
  readStatistics,
  resetStatistics,
  statisticsResetAt,
} from "../src/io-statistics.js";
import type { StatisticsRow } from "../src/io-statistics.js";
import { tryLatchExclusive } from "../src/latch.js";
import { BACKEND_KINDS, HEADER } from "../src/layout.js";
import type { BackendKind } from "../src/layout.js";
import { BufferPool } from "../src/pool.js";
import { CONTEXT, COUNTED, STATISTICS_CONTEXTS, STATISTICS_OPERATIONS } from "../src/statistics.js";

function attach(pool: BufferPool, kind: BackendKind): BackendContext {
  return attachContext(pool.shared, { files: () => ({}) as FileLayer, mayBlock: true, kind });
}

function leave(context: BackendContext): void {
  context.aio.detach();
  detachContext(context);
}

function row(
  rows: readonly StatisticsRow[],
  kind: BackendKind,
  context: (typeof STATISTICS_CONTEXTS)[number],
  object = "relation",
): StatisticsRow {
  const found = rows.find((each) => each.kind === kind && each.context === context && each.object === object);
  if (found === undefined) throw new Error(`no row ${kind} ${object} ${context}`);
  return found;
}

const createPool = (): BufferPool =>
  BufferPool.create({ buffers: 16, backends: 3, aio: { method: "sync", required: true } });

/** What a cell shows: a letter for each operation that is counted, a dot for one that is not, nothing for no row. */
function blanks(kind: BackendKind, object: "relation" | "temporary"): string[] {
  return STATISTICS_CONTEXTS.map((context) =>
    isCountedObject(kind, object, context)
      ? STATISTICS_OPERATIONS.map((operation) =>
          isCounted(kind, object, context, operation) ? operation.slice(0, 2) : ".",
        ).join(" ")
      : "",
  );
}

describe("rows", () => {
  // Aim: blanks are PostgreSQL 18's. Method: the table written down from pgstat_tracks_io_op, for every kind and context.
  test("are blank where nothing is ever counted", () => {
    const client = [
      "ev fs hi . wr ex re wr", // normal: no ring, nothing is reused
      "ev . hi re wr . re wr", // bulkread: extends nothing; its syncs count as normal
      "ev . hi re wr ex re wr", // bulkwrite
      "ev . hi re wr ex re wr", // vacuum
      "ev fs hi . wr ex re wr", // init
    ];
    expect(blanks("client backend", "relation")).toEqual(client);
    expect(blanks("background worker", "relation")).toEqual(client);
    for (const kind of ["client backend", "background worker"] as const) {
      expect(blanks(kind, "temporary")).toEqual(["ev . hi . . ex re wr", "", "", "", ""]);
    }
    for (const kind of ["background writer", "checkpointer"] as const) {
      expect(blanks(kind, "relation")).toEqual([". fs . . wr . . wr", "", "", "", ". fs . . wr . . wr"]);
      expect(blanks(kind, "temporary")).toEqual(["", "", "", "", ""]);
    }
  });

  test("show counts, bytes of what moves bytes, and time of what takes time", async () => {
    await using pool = createPool();
    const context = attach(pool, "client backend");
    context.counters.count(COUNTED.read, CONTEXT.bulkread, false, 137, 2000 * 8192);
    context.counters.time(COUNTED.read, CONTEXT.bulkread, false, 2.5);
    context.counters.count(COUNTED.reuse, CONTEXT.bulkread, false, 1968);
    context.counters.count(COUNTED.hit, CONTEXT.normal, true, 4);
    const rows = readStatistics(context, 0, true);
    expect(rows).toHaveLength(2 * 6 + 2 * 2);
    expect(row(rows, "client backend", "bulkread")).toEqual({
      kind: "client backend",
      object: "relation",
      context: "bulkread",
      evict: { count: 0, bytes: null, ms: null },
      fsync: null,
      hit: { count: 0, bytes: null, ms: null },
      reuse: { count: 1968, bytes: null, ms: null },
      writeback: { count: 0, bytes: null, ms: 0 },
      extend: null,
      read: { count: 137, bytes: 16_384_000, ms: 2.5 },
      write: { count: 0, bytes: 0, ms: 0 },
    });
    expect(row(rows, "client backend", "normal", "temporary").hit?.count).toBe(4);
    expect(row(rows, "client backend", "normal").hit?.count).toBe(0);
    leave(context);
  });

  test("of one backend are its own, and begin anew with the next that has its place", async () => {
    await using pool = createPool();
    const [one, two] = [attach(pool, "client backend"), attach(pool, "checkpointer")];
    one.counters.count(COUNTED.write, CONTEXT.normal, false, 3, 24_576);
    two.counters.count(COUNTED.write, CONTEXT.normal, false, 5, 40_960);
    expect(row(readBackendStatistics(one, 0), "client backend", "normal").write?.count).toBe(3);
    expect(row(readBackendStatistics(one, 1), "checkpointer", "normal").write?.count).toBe(5);
    leave(one);
    const three = attach(pool, "background writer");
    expect(three.id).toBe(0);
    expect(row(readBackendStatistics(two, 0), "background writer", "normal").write?.count).toBe(0);
    expect(row(readStatistics(two, 1, true), "client backend", "normal").write?.count).toBe(3);
    expect(row(readStatistics(two, 1, true), "background writer", "normal").write?.count).toBe(0);
    leave(two);
    leave(three);
  });

  // Aim: sums are never wrong. Method: backends of random kinds come, count, leave; resets in between; a plain table of
  // numbers is the model.
  test("sum up what all backends of a kind have counted since the last reset, whoever has left", async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ do: fc.constant("count" as const), place: fc.nat(2), n: fc.nat(9) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant("swap" as const), place: fc.nat(2), n: fc.nat(3) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant("reset" as const), place: fc.nat(2), n: fc.nat(99) }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        await using pool = createPool();
        const places = BACKEND_KINDS.slice(0, 3).map((kind) => ({ kind, context: attach(pool, kind) }));
        const model = new Map<BackendKind, number>(BACKEND_KINDS.map((kind) => [kind, 0]));
        for (const { do: what, place, n } of steps) {
          const at = places[place] as (typeof places)[number];
          if (what === "count") {
            at.context.counters.count(COUNTED.write, CONTEXT.normal, false, n, n * 8192);
            model.set(at.kind, (model.get(at.kind) ?? 0) + n);
          } else if (what === "swap") {
            leave(at.context);
            at.kind = BACKEND_KINDS[n] as BackendKind;
            at.context = attach(pool, at.kind);
          } else {
            resetStatistics(at.context, at.context.id, true, n);
            expect(statisticsResetAt(at.context)).toBe(n);
            for (const kind of BACKEND_KINDS) model.set(kind, 0);
          }
        }
        const view = (places[0] as (typeof places)[number]).context;
        const rows = readStatistics(view, view.id, true);
        for (const [kind, count] of model) {
          expect(row(rows, kind, "normal").write).toEqual({ count, bytes: count * 8192, ms: 0 });
        }
        for (const { context } of places) leave(context);
      }),
      { numRuns: 30 },
    );
  });

  test("cannot be read or added to by a thread that must not sleep while a dead one has them locked", async () => {
    await using pool = createPool();
    const context = attach(pool, "client backend");
    expect(tryLatchExclusive(context.words, HEADER.statisticsLock, 2)).toBe(true);
    const panic = expect.objectContaining({ code: "ERR_BUFFER_PANIC" });
    expect(() => readStatistics(context, 0, false)).toThrow(panic);
    expect(() => foldStatistics(context, 0, 0, false)).toThrow(panic);
    Atomics.store(context.words, HEADER.statisticsLock, 0);
    leave(context);
  });
});
