/**
 * The books of replacement balance: each buffer that was made free is one that a block was read into, or a relation grew by, or
 * that somebody else turned out not to have needed.
 *
 * That is property P10: evictions, reuses and victims without a page add up to misses, extended pages and lost races. A victim
 * that is found in use again after it was counted, which PostgreSQL counts too, is a race that its thread lost.
 */
import { constants } from "node:os";

import fc from "fast-check";
import { expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { STATE } from "../src/buffer-state.js";
import { DESCRIPTOR } from "../src/layout.js";
import { openPool } from "../src/pool-core.js";
import type { PoolPoint } from "../src/points.js";
import { BufferPool } from "../src/pool.js";
import type { Ring } from "../src/ring.js";
import { segmentedFiles } from "../src/segmented-files.js";
import type { StatisticsOperation } from "../src/statistics.js";
import { DataDirectory, PAGE, TABLE } from "./data-directory.js";
import { checkInvariants } from "./invariants.js";

const BUFFERS = 24;
const BLOCKS = 60;
const BACKENDS = 3;
const GROWING = { ...TABLE, relation: TABLE.relation + 1 };

/** What another backend does in the middle of an operation: pin the victim, dirty it, be faster with the same block. */
type Disturbance = "none" | "pin" | "dirty" | "race";

interface Pin {
  readonly manager: BufferManager;
  readonly buffer: number;
}

interface Step {
  readonly what: "read" | "ring" | "change" | "extend" | "extendTo" | "evict" | "drop" | "fail";
  readonly backend: number;
  readonly block: number;
  readonly kept: boolean;
  readonly disturbance: Disturbance;
}

const STEP: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(
    "read",
    "read",
    "read",
    "ring",
    "ring",
    "change",
    "change",
    "extend",
    "extendTo",
    "evict",
    "drop",
    "fail",
  ),
  backend: fc.nat(BACKENDS - 1),
  block: fc.nat(BLOCKS - 1),
  kept: fc.boolean(),
  disturbance: fc.constantFrom("none", "none", "pin", "dirty", "race"),
});

/** Three backends on one thread, and what they should have counted. */
class World implements AsyncDisposable {
  /** Victims without a page; races lost. */
  free = 0;
  lost = 0;
  readonly pool: BufferPool;
  readonly #directory = new DataDirectory();
  readonly #managers: readonly BufferManager[];
  readonly #rings: readonly (Ring | null)[];
  readonly #pins: Pin[] = [];
  /** Pins that a disturbance has taken, until the operation is over. */
  readonly #struck: Pin[] = [];
  /** What happens at a control point that the operation comes to, once. */
  #strike: ((point: PoolPoint, buffer: number) => boolean) | undefined;
  #durable = 0n;
  #end = 0n;

  constructor() {
    this.#directory.writeBlocks(TABLE, BLOCKS);
    this.#directory.writeBlocks(GROWING, 0);
    const aio = { method: "sync", required: true } as const;
    this.pool = BufferPool.create({ buffers: BUFFERS, backends: BACKENDS, pinBackends: 1, aio });
    const files = segmentedFiles({ directory: this.#directory.path });
    const wal = {
      flush: (lsn: bigint): void => {
        if (lsn > this.#durable) this.#durable = lsn;
      },
      isDurable: (lsn: bigint) => lsn <= this.#durable,
    };
    const hook = (point: PoolPoint, _: number, buffer: number): void => this.#reached(point, buffer);
    this.#managers = Array.from({ length: BACKENDS }, () =>
      BufferManager.attach(this.pool.shared, { files, wal, hook, mayBlock: true }),
    );
    this.#rings = this.#managers.map((manager, index) =>
      manager.ring(index === 0 ? "bulkread" : "vacuum", 24),
    );
  }

  #reached(point: PoolPoint, buffer: number): void {
    if (point === "victim:before-invalidate") {
      const { words, layout } = openPool(this.pool.shared);
      const state = words[layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.state] as number;
      if ((state & STATE.valid) === 0) this.free += 1;
    }
    const strike = this.#strike;
    // What the other one does comes to control points too.
    this.#strike = undefined;
    if (strike?.(point, buffer) === true) this.lost += 1;
    else this.#strike = strike;
  }

  /** Pins what a victim holds, if it holds a page. */
  #pinVictim(other: BufferManager, point: PoolPoint, buffer: number): number {
    if (point !== "victim:before-invalidate") return 0;
    const { words, layout } = openPool(this.pool.shared);
    const at = layout.descriptorsAt + buffer * DESCRIPTOR.words;
    const relation = { ...TABLE, relation: words[at + DESCRIPTOR.relation] as number };
    return other.tryRead(relation, words[at + DESCRIPTOR.block] as number);
  }

  /** @returns whether the operation under way loses its victim by that */
  #disturb(
    { what, disturbance, block }: Step,
    other: BufferManager,
    point: PoolPoint,
    buffer: number,
  ): boolean {
    if (disturbance === "pin" || disturbance === "dirty") {
      const pinned = this.#pinVictim(other, point, buffer);
      if (pinned === 0) return false;
      if (disturbance === "pin") this.#struck.push({ manager: other, buffer: pinned });
      else this.#change(other, pinned);
      return true;
    }
    if (what === "extendTo") {
      if (point !== "victim:before-invalidate") return false;
      other.release(other.extend(GROWING, 1).buffers[0] as number);
      return true;
    }
    if (point !== "alloc:before-insert") return false;
    other.release(other.read(TABLE, block));
    return true;
  }

  /** Dirties a page and lets go of it. Every other change is in durable WAL already. */
  #change(manager: BufferManager, buffer: number): void {
    manager.lock(buffer, "exclusive");
    this.#end += 1n;
    if (this.#end % 2n === 0n) this.#durable = this.#end;
    const page = manager.page(buffer);
    new DataView(page.buffer, page.byteOffset).setUint32(4, Number(this.#end), true);
    manager.markDirty(buffer);
    manager.unlock(buffer);
    manager.release(buffer);
  }

  run(step: Step): void {
    const manager = this.#managers[step.backend] as BufferManager;
    const other = this.#managers[(step.backend + 1) % BACKENDS] as BufferManager;
    // An error in the middle of it would be another story.
    if (step.disturbance !== "none" && step.what !== "fail")
      this.#strike = (point, buffer) => this.#disturb(step, other, point, buffer);
    try {
      this.#do(step, manager);
    } catch (error) {
      expect(error).toMatchObject({ code: "ERR_BUFFER_WRITE" });
    }
    this.#strike = undefined;
    for (const { manager: pinner, buffer } of this.#struck.splice(0)) pinner.release(buffer);
    while (this.#pins.length > 4) this.#letGo();
  }

  #do({ what, backend, block, kept }: Step, manager: BufferManager): void {
    if (what === "evict") manager.evict(1 + (block % BUFFERS));
    else if (what === "drop") manager.dropRelations([GROWING]);
    else if (what === "extend") {
      for (const buffer of manager.extend(GROWING, 2).buffers) manager.release(buffer);
    } else if (what === "extendTo") {
      const buffer = manager.extendTo(GROWING, this.#blocksOfGrowing() + 1);
      if (buffer !== 0) manager.release(buffer);
    } else if (what === "fail") {
      const spec = { point: "instead", operation: "writev", result: -constants.errno.EIO, times: 1 } as const;
      const armed = this.pool.aio.faults.arm(spec);
      try {
        manager.release(manager.read(TABLE, block));
      } finally {
        armed[Symbol.dispose]();
      }
    } else {
      const buffer = manager.read(TABLE, block, {
        ring: what === "ring" ? (this.#rings[backend] ?? null) : null,
      });
      if (what === "change") this.#change(manager, buffer);
      else if (kept) this.#pins.push({ manager, buffer });
      else manager.release(buffer);
    }
  }

  #blocksOfGrowing(): number {
    return this.#directory.sizeOf(GROWING, 0) / PAGE;
  }

  #letGo(): void {
    const { manager, buffer } = this.#pins.shift() as Pin;
    manager.release(buffer);
  }

  /** What all have counted of an operation: how often, or how many pages. */
  counted(operation: StatisticsOperation): number {
    const rows = (this.#managers[0] as BufferManager).statistics().map((row) => row[operation]);
    return rows.reduce(
      (sum, cell) => sum + (cell === null ? 0 : cell.bytes === null ? cell.count : cell.bytes / PAGE),
      0,
    );
  }

  check(): void {
    while (this.#pins.length > 0) this.#letGo();
    checkInvariants(this.pool.shared);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#pins.length > 0) this.#letGo();
    for (const manager of this.#managers) manager.detach();
    await this.pool.close();
    this.#directory[Symbol.dispose]();
  }
}

test("victims add up to misses, extended pages and lost races", async () => {
  let lost = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { minLength: 50, maxLength: 300, size: "max" }), async (steps) => {
      await using world = new World();
      for (const step of steps) world.run(step);
      const made = world.counted("evict") + world.counted("reuse") + world.free;
      expect(made).toBe(world.counted("read") + world.counted("extend") + world.lost);
      lost += world.lost;
      world.check();
    }),
    { numRuns: 30 },
  );
  expect(lost, "races were lost").toBeGreaterThan(100);
});
