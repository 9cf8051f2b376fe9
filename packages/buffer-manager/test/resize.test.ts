/**
 * Changing the number of buffers: nothing is lost, nobody gets a buffer that is about to go, and what cannot go stays.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { BACKEND, HEADER, STRATEGY } from "../src/layout.js";
import { acknowledgeResize } from "../src/resize-barrier.js";
import { Resizer } from "../src/resize.js";
import type { ResizeOptions, ResizeReport } from "../src/resize.js";
import { RESIZE_PHASE } from "../src/resize-sizes.js";
import type { Wait, Waiting } from "../src/waiting.js";
import { violations } from "./invariants.js";
import { ReplacementPool, runNow, TracedRing } from "./replacement.js";
import type { Replacer } from "./replacement.js";

const code = (code: string): unknown => expect.objectContaining({ code });
const RESIZER = 2;

/** A pool whose pages hold numbers, a disk to write them to, two backends that use it and one that resizes it. */
class World {
  readonly pool: ReplacementPool;
  readonly users: readonly Replacer[];
  readonly disk = new Map<number, number>();
  readonly phases: number[] = [];
  readonly #resizing: Replacer;

  constructor(buffers: number) {
    this.pool = new ReplacementPool(buffers);
    this.users = [this.pool.backend(0), this.pool.backend(1)];
    this.#resizing = this.pool.backend(RESIZER);
    for (const id of [0, 1, RESIZER]) this.pool.words[this.atOf(id) + BACKEND.inUse] = id + 1;
    this.pool.onFlush = (buffer) => {
      this.disk.set(this.pool.blocks.get(buffer) as number, this.value(buffer));
    };
  }

  atOf(id: number): number {
    return this.pool.layout.backendsAt + id * this.pool.layout.backendWords;
  }

  size(): [number, number] {
    return [this.pool.words[HEADER.low] as number, this.pool.words[HEADER.high] as number];
  }

  value(buffer: number): number {
    return new DataView(
      this.pool.frames.view(buffer).buffer,
      this.pool.frames.byteOffsetOf(buffer),
    ).getUint32(64);
  }

  setValue(buffer: number, value: number): void {
    const view = new DataView(this.pool.frames.view(buffer).buffer, this.pool.frames.byteOffsetOf(buffer));
    view.setUint32(64, value);
  }

  /** What the next call of a backend does first. */
  call(user: number): void {
    acknowledgeResize((this.users[user] as Replacer).headers, this.atOf(user));
  }

  /** Pins a block, reading it from the disk if it is not there. @returns what happened, and the buffer */
  pin(user: number, block: number, ring: TracedRing | null = null): { steps: string[]; buffer: number } {
    this.call(user);
    const backend = this.users[user] as Replacer;
    const steps = backend.pin(block, ring);
    const buffer = backend.find(block);
    if (!steps.at(-1)?.startsWith("h")) this.setValue(buffer, this.disk.get(block) ?? 0);
    return { steps, buffer };
  }

  unpin(user: number, block: number): void {
    this.call(user);
    (this.users[user] as Replacer).unpin(block);
  }

  read(user: number, block: number, ring: TracedRing | null = null): string[] {
    const { steps } = this.pin(user, block, ring);
    this.unpin(user, block);
    return steps;
  }

  write(user: number, block: number, value: number): void {
    const { buffer } = this.pin(user, block);
    this.setValue(buffer, value);
    this.pool.setFlags(buffer, STATE.dirty | STATE.justDirtied, 0);
    this.unpin(user, block);
  }

  resize(buffers: number, options: ResizeOptions = {}): Waiting<ResizeReport> {
    const { words, layout } = this.pool;
    const { headers, pins, locks, allocator, id } = this.#resizing;
    const context = {
      words,
      layout,
      headers,
      pins,
      id,
      at: this.atOf(id),
      mayBlock: true,
      reach: (_: string, phase: number): void => void this.phases.push(phase),
    };
    const pool = this.pool;
    const writer = {
      *flush(buffer: number): Waiting<void> {
        yield* [];
        pool.onFlush?.(buffer);
        pool.setFlags(buffer, 0, STATE.dirty | STATE.justDirtied);
      },
    };
    return new Resizer({ context, allocator, locks, writer }).resize(buffers, options);
  }

  /** Runs a flow until it waits for something other than the backends, whose calls it makes. */
  settle<T>(flow: Generator<Wait, T, unknown>): IteratorResult<Wait, T> {
    let step = flow.next();
    while (step.done !== true && step.value.kind === "word" && step.value.event === "PoolResizeBarrier") {
      this.call(0);
      this.call(1);
      step = flow.next();
    }
    return step;
  }

  finish<T>(flow: Generator<Wait, T, unknown>): T {
    const step = this.settle(flow);
    if (step.done !== true) throw new Error(`waits for ${JSON.stringify(step.value)}`);
    return step.value;
  }

  check(): void {
    expect(violations(this.pool)).toEqual([]);
    const { words } = this.pool;
    expect([words[HEADER.resizer], words[HEADER.resizePhase]]).toEqual([0, RESIZE_PHASE.none]);
  }
}

describe("shrinking", () => {
  test("writes and throws out what is above the mark, and growing back gives it out again", () => {
    const world = new World(64);
    const ring = new TracedRing("vacuum", 4);
    for (let block = 0; block < 60; block++) world.write(0, block, block + 1000);
    // Blocks 60 to 63 are in the ring's buffers, the last four.
    for (let block = 60; block < 64; block++) world.read(0, block, ring);
    expect(ring.buffers().every((buffer) => buffer >= 60)).toBe(true);
    const report = world.finish(world.resize(32));
    expect(report).toEqual({ before: 64, buffers: 32, evicted: 32, written: 28, releasedBytes: 0 });
    expect(world.size()).toEqual([32, 32]);
    expect(world.phases).toEqual([RESIZE_PHASE.marked, RESIZE_PHASE.acknowledged, RESIZE_PHASE.evicted]);
    for (let buffer = 32; buffer < 64; buffer++) {
      expect((world.users[0] as Replacer).headers.state(buffer) & (STATE.tagValid | STATE.valid)).toBe(0);
    }
    expect(world.read(0, 200, ring), "a slot above the mark counts as empty").toEqual([
      expect.stringMatching(/^w\d+$/),
      expect.stringMatching(/^e\d+\(\d+\)$/),
    ]);
    for (let block = 300; block < 400; block++) {
      const [step] = world.read(1, block).slice(-1);
      expect(Number(/\d+/.exec(step as string)?.[0])).toBeLessThan(32);
    }
    for (let block = 0; block < 60; block++) {
      const { buffer } = world.pin(0, block);
      expect(world.value(buffer)).toBe(block + 1000);
      world.unpin(0, block);
    }
    world.check();
    expect(world.finish(world.resize(48))).toMatchObject({ before: 32, buffers: 48, evicted: 0 });
    expect(Array.from({ length: 16 }, (_, index) => world.read(0, 500 + index)[0])).toEqual(
      Array.from({ length: 16 }, (_, index) => `f${32 + index}`),
    );
    expect(world.read(0, 600).at(-1)).toMatch(/^e/);
    world.check();
  });

  test("waits until every backend has been heard of before it throws anything out", () => {
    const world = new World(32);
    for (let block = 0; block < 32; block++) world.read(0, block);
    const flow = world.resize(16);
    const at = world.atOf(RESIZER) + BACKEND.wake;
    expect(flow.next().value).toMatchObject({ kind: "word", at, event: "PoolResizeBarrier" });
    expect(world.size()).toEqual([16, 32]);
    const before = world.pool.words[at] as number;
    world.call(0);
    expect(world.pool.words[at]).toBe(before + 1);
    expect(flow.next().done, "the other one has not called").toBe(false);
    expect(world.read(0, 20), "its page is found until then").toEqual(["h20"]);
    world.call(0);
    expect(world.pool.words[at], "nobody is woken twice").toBe(before + 1);
    world.call(1);
    expect(flow.next().done).toBe(true);
    expect(world.read(0, 20)).not.toEqual(["h20"]);
    world.check();
  });

  test("brings the hand and the free list below the mark", () => {
    const world = new World(64);
    for (let block = 0; block < 64; block++) world.read(0, block);
    for (let block = 100; block < 140; block++) world.read(0, block);
    const { allocator } = world.users[0] as Replacer;
    const before = allocator.sweep.syncStart();
    expect(before.hand).toBe(40);
    for (const block of [108, 110, 63]) (world.users[0] as Replacer).drop(block);
    world.finish(world.resize(24));
    const after = allocator.sweep.syncStart();
    expect(after.hand).toBe(16);
    expect(after.passes).toBe(before.passes);
    expect((world.pool.words[world.pool.layout.strategyAt + STRATEGY.firstFree] as number) - 1).toBeLessThan(
      24,
    );
    world.check();
  });

  test("and growing refuse what is out of range, and what is not a change changes nothing", () => {
    const world = new World(32);
    for (const buffers of [15, 33, 16.5]) expect(() => runNow(world.resize(buffers))).toThrow(RangeError);
    expect(runNow(world.resize(32))).toEqual({
      before: 32,
      buffers: 32,
      evicted: 0,
      written: 0,
      releasedBytes: 0,
    });
    world.check();
  });
});

describe("a pinned page above the mark", () => {
  const pinned = (): World => {
    const world = new World(32);
    for (let block = 0; block < 32; block++) world.read(0, block);
    world.pin(1, 20);
    return world;
  };

  test("is waited for, and thrown out when its pin goes", () => {
    const world = pinned();
    const flow = world.resize(16);
    const step = world.settle(flow);
    const at = world.atOf(RESIZER) + BACKEND.wake;
    expect(step.value).toMatchObject({ kind: "word", at, event: "BufferPin" });
    const before = world.pool.words[at] as number;
    expect(world.size()).toEqual([16, 32]);
    world.unpin(1, 20);
    expect(world.pool.words[at], "the resizer is woken").toBe(before + 1);
    expect(flow.next()).toMatchObject({ done: true, value: { evicted: 16 } });
    world.check();
  });

  test("that this backend has pinned itself, or somebody waits for already, is looked at again", () => {
    const world = pinned();
    const headers = (world.users[0] as Replacer).headers;
    const state = headers.lock(20);
    headers.unlock(20, state | STATE.pinCountWaiter);
    const flow = world.resize(16);
    expect(world.settle(flow).value).toMatchObject({ event: "BufferPin", timeoutMs: 10 });
    world.pool.setFlags(20, 0, STATE.pinCountWaiter);
    world.unpin(1, 20);
    expect(flow.next().done).toBe(true);
    world.check();
  });

  test("makes it fail when the time is over, with the size that it had", () => {
    const world = pinned();
    let time = 0;
    const flow = world.resize(16, { onPinned: "fail", timeoutMs: 50, now: () => time });
    expect(world.settle(flow).value).toMatchObject({ event: "BufferPin", timeoutMs: 50 });
    time = 50;
    expect(() => flow.next()).toThrow(code("ERR_BUFFER_RESIZE_PINNED"));
    expect(world.size()).toEqual([32, 32]);
    expect(world.read(0, 20)).toEqual(["h20"]);
    expect(world.read(0, 100), "what was thrown out is free").toEqual(["f16"]);
    world.unpin(1, 20);
    world.check();
  });

  test("makes it go back when the time is over", () => {
    const world = pinned();
    let time = 0;
    const flow = world.resize(16, { onPinned: "rollback", timeoutMs: 50, now: () => time });
    world.settle(flow);
    time = 60;
    expect(flow.next()).toEqual({
      done: true,
      value: { before: 32, buffers: 32, evicted: 15, written: 0, releasedBytes: 0 },
    });
    expect(world.size()).toEqual([32, 32]);
    world.unpin(1, 20);
    world.check();
  });

  test("keeps another resize out", () => {
    const world = pinned();
    const flow = world.resize(16);
    world.settle(flow);
    expect(() => runNow(world.resize(24))).toThrow(code("ERR_BUFFER_RESIZE_BUSY"));
    world.unpin(1, 20);
    expect(flow.next().done).toBe(true);
    expect(runNow(world.resize(24))).toMatchObject({ before: 16, buffers: 24 });
    world.check();
  });
});

test("a backend that is never heard of lets a resize fail, not hang", () => {
  const world = new World(32);
  let time = 0;
  const flow = world.resize(16, { onPinned: "fail", timeoutMs: 50, now: () => time });
  expect(flow.next().value).toMatchObject({ event: "PoolResizeBarrier", timeoutMs: 50 });
  time = 51;
  expect(() => flow.next()).toThrow(code("ERR_BUFFER_RESIZE_PINNED"));
  expect(world.size()).toEqual([32, 32]);
  world.check();
});

test("a page that cannot be written ends the resize, and the pool has the size that it had", () => {
  const world = new World(32);
  for (let block = 0; block < 32; block++) world.write(0, block, block);
  world.pool.onFlush = () => {
    throw new Error("no space");
  };
  const flow = world.resize(16);
  expect(() => world.settle(flow)).toThrow("no space");
  expect(world.size()).toEqual([32, 32]);
  world.check();
});

// Aim: no page is lost and nobody is given a buffer that is to go. Method: two backends read, write, pin and unpin at random;
// a third one resizes, one step of its flow at a time, also in the middle of what the others do, where they have selected a
// victim and are about to use it. The model is a map from block to number.
test("random reads, writes and pins agree with a map while the pool grows and shrinks", () => {
  const step = fc.record({
    what: fc.constantFrom("read", "read", "write", "write", "pin", "unpin", "resize", "step", "step"),
    user: fc.nat(1),
    block: fc.nat(59),
    /** Steps of the resize in the middle. */
    inside: fc.nat(2),
    size: fc.integer({ min: 16, max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 100, maxLength: 400, size: "max" }), (steps) => {
      const world = new World(40);
      const model = new Map<number, number>();
      const pins: { user: number; block: number }[] = [];
      let flow: Waiting<ResizeReport> | undefined;
      let inside = 0;
      const advance = (): void => {
        if (flow?.next().done === true) flow = undefined;
      };
      for (const user of world.users) {
        user.hook = (point) => {
          if (point !== "victim:selected" && point !== "alloc:before-insert") return;
          for (; inside > 0; inside--) advance();
        };
      }
      let next = 1;
      for (const { what, user, block, size, ...each } of steps) {
        inside = each.inside;
        if (what === "read" || (what === "pin" && pins.length < 6)) {
          const { steps: seen, buffer } = world.pin(user, block);
          expect(world.value(buffer)).toBe(model.get(block) ?? 0);
          if (!seen.at(-1)?.startsWith("h")) expect(buffer).toBeLessThan(world.size()[0]);
          if (what === "pin") pins.push({ user, block });
          else world.unpin(user, block);
        } else if (what === "write") {
          world.write(user, block, (next += 1));
          model.set(block, next);
        } else if (what === "unpin") {
          const pin = pins.shift();
          if (pin !== undefined) world.unpin(pin.user, pin.block);
        } else if (what === "resize" && flow === undefined) flow = world.resize(size);
        else advance();
        const [low, high] = world.size();
        expect(low).toBeLessThanOrEqual(high);
      }
      for (const { user, block } of pins) world.unpin(user, block);
      if (flow !== undefined) world.finish(flow);
      for (const [block, value] of model) {
        const { buffer } = world.pin(0, block);
        expect(world.value(buffer)).toBe(value);
        world.unpin(0, block);
      }
      world.check();
    }),
    { numRuns: 30 },
  );
});
