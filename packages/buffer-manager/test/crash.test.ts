/**
 * What is left after a crash: with a log that says what was committed, nothing that was is missing.
 *
 * A page counts how often it was changed, its LSN says up to which record of the log it is. Random changes, flushes,
 * checkpoints, background writing, evictions and failing writes run; then everything in memory is forgotten, as is the part of the log
 * that was not durable. The log from the start of the last complete checkpoint on is replayed on the files, by the rule that
 * a record is applied to a page whose LSN is older.
 */
import { constants } from "node:os";
import { readFileSync } from "node:fs";
import { verifyPage } from "@millrace/checksums";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { BackgroundWriter } from "../src/background-writer.js";
import { checkpoint } from "../src/checkpoint.js";
import { evictAll } from "../src/evict.js";
import { METHODS, PAGE } from "./data-directory.js";
import { TABLE, WriteWorld } from "./write-world.js";

const BLOCKS = 40;
const BUFFERS = 16;

/** A change of the log: the count of a block after it. */
interface LogRecord {
  readonly lsn: bigint;
  readonly block: number;
  readonly count: number;
}

type Step =
  | { readonly do: "change"; readonly block: number }
  | { readonly do: "commit" }
  | { readonly do: "write" }
  | { readonly do: "checkpoint" }
  | { readonly do: "evict" }
  | { readonly do: "fail"; readonly result: number };

const STEP: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ do: fc.constant("change" as const), block: fc.nat(BLOCKS - 1) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("commit" as const, "write" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("checkpoint" as const, "evict" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("fail" as const),
      result: fc.constantFrom(-constants.errno.EIO, 4096),
    }),
  },
);

/** Runs steps, and knows what was committed. */
class Workload {
  readonly world: WriteWorld;
  readonly records: LogRecord[] = [];
  readonly committed: number[] = Array.from({ length: BLOCKS }, () => 0);
  readonly #counts: number[] = Array.from({ length: BLOCKS }, () => 0);
  readonly #writer: BackgroundWriter;
  /** The log from here on is needed for recovery. */
  redo = 0n;
  failures = 0;

  constructor(world: WriteWorld) {
    this.world = world;
    this.#writer = new BackgroundWriter(world.parts, { multiplier: 10 });
  }

  run(step: Step): void {
    const { world } = this;
    if (step.do === "change") this.#attempt(() => this.#change(step.block));
    else if (step.do === "commit") this.#commit();
    else if (step.do === "write") this.#attempt(() => this.#writer.cycle());
    else if (step.do === "checkpoint") this.#attempt(() => this.#checkpoint());
    else if (step.do === "evict") {
      const parts = { ...world.parts, allocator: world.backend.allocator };
      this.#attempt(() => world.context.waiter.run(evictAll(parts)));
    } else {
      const point = step.result < 0 ? "instead" : "afterwards";
      const armed = world.pool.aio.faults.arm({ point, operation: "writev", times: 2, result: step.result });
      this.#attempt(() => this.#checkpoint());
      armed[Symbol.dispose]();
    }
  }

  /** A write may fail here, and nothing else may. */
  #attempt(body: () => unknown): void {
    try {
      body();
    } catch (error) {
      expect(error).toMatchObject({ code: "ERR_BUFFER_WRITE" });
      this.failures += 1;
    }
  }

  #change(block: number): void {
    const buffer = this.world.load(TABLE, block);
    try {
      const count = (this.#counts[block] ?? 0) + 1;
      const lsn = this.world.change(buffer, count % 251);
      this.#counts[block] = count;
      this.records.push({ lsn, block, count });
    } finally {
      this.world.context.pins.unpin(buffer);
    }
  }

  #commit(): void {
    this.world.log.flush(this.world.log.end);
    for (const { block, count } of this.records) this.committed[block] = count;
  }

  #checkpoint(): void {
    const redo = this.world.log.end;
    this.world.context.waiter.run(checkpoint(this.world.parts, { isImmediate: true, sync: false }));
    this.redo = redo;
  }

  /** Replays the durable log on the files as they are. @returns the count of each block, modulo 251 */
  recover(): number[] {
    const file = readFileSync(this.world.directory.segment(TABLE, 0));
    const { durable } = this.world.log;
    return Array.from({ length: BLOCKS }, (_, block) => {
      const page = file.subarray(block * PAGE, (block + 1) * PAGE);
      expect(verifyPage(page, block), `block ${block} is whole`).toBe("valid");
      const lsn = (BigInt(page.readUInt32LE(0)) << 32n) | BigInt(page.readUInt32LE(4));
      expect(lsn <= durable, `block ${block} is not ahead of the log`).toBe(true);
      let value = page[100] as number;
      let at = lsn;
      for (const record of this.records) {
        if (record.block !== block || record.lsn <= this.redo || record.lsn > durable) continue;
        if (record.lsn <= at) continue;
        // A change can only be replayed on the page that it was made on.
        expect(value).toBe((record.count - 1) % 251);
        value = record.count % 251;
        at = record.lsn;
      }
      return value;
    });
  }
}

describe.each(METHODS)("after a crash, with method %s,", (method) => {
  // Aim: nothing committed is missing, and no page is ahead of the log. Method: as the header of this file says. Short
  // writes stay whole pages here: a torn page is what full-page images are for.
  test("replaying the log from the last checkpoint on finds everything that was committed", async () => {
    let failures = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(STEP, { minLength: 20, maxLength: 250, size: "max" }), async (steps) => {
        await using world = new WriteWorld({
          aio: { method, required: true, ioWorkers: 1 },
          buffers: BUFFERS,
        });
        world.create(TABLE, BLOCKS);
        const workload = new Workload(world);
        for (const step of steps) workload.run(step);
        const found = workload.recover();
        const expected = workload.records
          .filter(({ lsn }) => lsn <= world.log.durable)
          .reduce(
            (counts, { block, count }) => {
              counts[block] = count % 251;
              return counts;
            },
            Array.from({ length: BLOCKS }, () => 0),
          );
        expect(found).toEqual(expected);
        for (const [block, count] of workload.committed.entries()) {
          const durable = workload.records.findLast(
            (record) => record.block === block && record.lsn <= world.log.durable,
          );
          expect(durable?.count ?? 0).toBeGreaterThanOrEqual(count);
        }
        failures += workload.failures;
      }),
      { numRuns: method === "sync" ? 40 : 12 },
    );
    expect(failures, "some writes did fail").toBeGreaterThan(0);
  });
});
