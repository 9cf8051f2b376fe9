/**
 * The file against a string: random appends, reads of all kinds, completions in any order, failures, aborts, and disposal in the
 * middle, with all that is in memory read at every step.
 *
 * Twenty seeds by default, `EPHEMERAL_SEEDS` for more. The model is the text of all appends that were made, in order; a read
 * must give what was acknowledged when it was called.
 */
import fc from "fast-check";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { EphemeralFile } from "../src/index.js";
import type { ByteRange, VectoredResult } from "../src/index.js";
import type { Act } from "./test-engine.js";
import { errno } from "./test-engine.js";
import { expectSame, memoryWorld } from "./world.js";
import type { World } from "./world.js";

const SEEDS = Number(process.env["EPHEMERAL_SEEDS"] ?? 20);
const BLOCK = 512;

type Step =
  | { readonly kind: "append" | "tryAppend"; readonly length: number }
  | { readonly kind: "read" | "readAll"; readonly range: ByteRange; readonly isAborted: boolean }
  | { readonly kind: "readVectored"; readonly ranges: readonly ByteRange[]; readonly isAborted: boolean }
  | { readonly kind: "finish"; readonly which: readonly number[] }
  | { readonly kind: "failRead" | "retry" | "turn" | "abortReads" | "cancel" | "failWrite" | "dispose" };

const length = fc.oneof(fc.nat(20), fc.nat(3 * BLOCK), fc.nat(10 * BLOCK));
/** Mostly where there is something; offsets count back from the end. */
const range = fc.record({
  offsetBytes: fc.nat(12 * BLOCK),
  lengthBytes: fc.oneof(fc.nat(20), fc.nat(8 * BLOCK)),
});
const isAborted = fc.boolean();
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({ kind: fc.constantFrom("append" as const, "tryAppend" as const), length }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constantFrom("read" as const, "readAll" as const), range, isAborted }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("readVectored" as const),
      ranges: fc.array(range, { maxLength: 8, size: "max" }),
      isAborted,
    }),
  },
  {
    weight: 16,
    arbitrary: fc.record({
      kind: fc.constant("finish" as const),
      which: fc.array(fc.nat(9), { minLength: 1, maxLength: 6, size: "max" }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.constantFrom<Step>(
      { kind: "retry" },
      { kind: "turn" },
      { kind: "failRead" },
      { kind: "abortReads" },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step>({ kind: "cancel" }, { kind: "failWrite" }, { kind: "dispose" }),
  },
);
const shapes = fc.record({
  capacity: fc.integer({ min: 1, max: 4 }).map((blocks) => blocks * BLOCK),
  queueDepth: fc.integer({ min: 1, max: 3 }),
  ioMode: fc.constantFrom("direct-rw" as const, "buffered" as const),
  arenaBlocks: fc.integer({ min: 20, max: 80 }),
});

interface Waiting {
  readonly call: "read" | "write";
  readonly finish: (error?: Error) => void;
}

/** A file, and the text that it should be. */
class Life {
  readonly world: World;
  readonly file: EphemeralFile;
  readonly #cancel: AbortController;
  readonly #waiting: Waiting[];
  #aborting = new AbortController();
  readonly calls: Promise<void>[] = [];
  text: Buffer = Buffer.alloc(0);
  #next = 1;
  #hasReadFault = false;
  #hasWriteFault = false;
  isDisposed = false;

  constructor(world: World, file: EphemeralFile, cancel: AbortController, waiting: Waiting[]) {
    this.world = world;
    this.file = file;
    this.#cancel = cancel;
    this.#waiting = waiting;
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index++)
      bytes[index] = (this.#next = (this.#next * 75) % 65_537) & 255;
    return bytes;
  }

  apply(step: Step): Promise<unknown> | undefined {
    switch (step.kind) {
      case "append":
        this.#append(step.length);
        break;
      case "tryAppend":
        this.#tryAppend(step.length);
        break;
      case "read":
        this.#keep(this.#read(this.#place(step.range), this.#signal(step.isAborted)));
        break;
      case "readAll":
        this.#keep(this.#readAll(this.#signal(step.isAborted)));
        break;
      case "readVectored":
        this.#keep(
          this.#readVectored(
            step.ranges.map((range) => this.#place(range)),
            this.#signal(step.isAborted),
          ),
        );
        break;
      case "finish":
        for (const which of step.which) this.#finish(which);
        break;
      case "abortReads":
        this.#aborting.abort("no more");
        this.#aborting = new AbortController();
        break;
      case "cancel":
        this.#hasWriteFault = true;
        this.#cancel.abort("enough");
        break;
      case "dispose":
        this.dispose();
        break;
      case "retry":
      case "failWrite":
      case "failRead":
        this.#fail(step.kind);
        break;
      case "turn":
        break;
    }
    return step.kind === "turn" || step.kind === "finish" ? turn() : undefined;
  }

  /** From the end, where it is interesting. */
  #place({ offsetBytes, lengthBytes }: ByteRange): ByteRange {
    return { offsetBytes: Math.max(0, this.file.length + BLOCK - offsetBytes), lengthBytes };
  }

  #signal(isAborted: boolean): { readonly signal?: AbortSignal } {
    return isAborted ? { signal: this.#aborting.signal } : {};
  }

  #append(length: number): void {
    const bytes = this.#bytes(length);
    const offset = this.text.length;
    this.text = Buffer.concat([this.text, bytes]);
    const appended = this.file.append(bytes).then(
      (at) => expect(at).toBe(offset),
      (error: unknown) => this.#expectEnded(error),
    );
    this.#keep(appended);
  }

  #tryAppend(length: number): void {
    const bytes = this.#bytes(length);
    try {
      const at = this.file.tryAppend(bytes);
      if (at === undefined) return;
      expect(at).toBe(this.text.length);
      this.text = Buffer.concat([this.text, bytes]);
    } catch (error) {
      this.#expectEnded(error);
    }
  }

  async #read(
    { offsetBytes, lengthBytes }: ByteRange,
    options: { readonly signal?: AbortSignal },
  ): Promise<void> {
    const expected = this.text.subarray(offsetBytes, Math.min(this.file.length, offsetBytes + lengthBytes));
    const target = Buffer.alloc(lengthBytes, 0xee);
    try {
      const count = await this.file.read(offsetBytes, target, options);
      expectSame(target.subarray(0, count), expected, "a read");
      expect(target.subarray(count).every((byte) => byte === 0xee)).toBe(true);
    } catch (error) {
      this.#expectUnread(error, options.signal);
    }
  }

  async #readAll(options: { readonly signal?: AbortSignal }): Promise<void> {
    const expected = this.text.subarray(0, this.file.length);
    try {
      using whole = await this.file.readAll(options);
      expectSame(whole.unsafeView(), expected, "everything");
    } catch (error) {
      const isWithoutRoom = (error as { readonly code?: string }).code === "ERR_ARENA_EXHAUSTED";
      const isTooLong = error instanceof RangeError && expected.length > this.world.arena.stats.total - BLOCK;
      if (!isWithoutRoom && !isTooLong) this.#expectUnread(error, options.signal);
    }
  }

  async #readVectored(
    ranges: readonly ByteRange[],
    options: { readonly signal?: AbortSignal },
  ): Promise<void> {
    const { length } = this.file;
    const expected = ranges.map(({ offsetBytes, lengthBytes }) =>
      this.text.subarray(offsetBytes, offsetBytes + lengthBytes),
    );
    try {
      const limits = { batchBytesMax: 4 * BLOCK, inFlightMax: 2 };
      const results = await this.file.readVectored(ranges, { ...options, ...limits });
      for (const [index, { offsetBytes, lengthBytes }] of ranges.entries()) {
        const result = results[index] as VectoredResult;
        const isBeyond = lengthBytes > 0 && offsetBytes + lengthBytes > length;
        if (result.ok) {
          expect(isBeyond).toBe(false);
          expectSame(result.bytes, expected[index] as Buffer, "a range");
        } else if (isBeyond) expect(result.error).toMatchObject({ code: "ERR_FILE_UNEXPECTED_EOF" });
        else this.#expectUnread(result.error, undefined);
      }
    } catch (error) {
      this.#expectUnread(error, options.signal);
    }
  }

  #finish(which: number, error?: Error): void {
    if (this.#waiting.length === 0) return;
    const [{ finish }] = this.#waiting.splice(which % this.#waiting.length, 1) as [Waiting];
    finish(error);
  }

  #fail(kind: "retry" | "failWrite" | "failRead"): void {
    const index = this.#waiting.findIndex(({ call }) => call === (kind === "failRead" ? "read" : "write"));
    if (index === -1) return;
    if (kind === "failRead") this.#hasReadFault = true;
    if (kind === "failWrite") this.#hasWriteFault = true;
    this.#finish(index, errno(kind === "retry" ? "ENOSPC" : "EIO"));
  }

  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    this.#keep(this.file[Symbol.asyncDispose]());
  }

  #keep(call: Promise<unknown>): void {
    this.calls.push(call.then(() => undefined));
    // Whoever waits for all of them hears of it; until then it is nobody's.
    call.catch(() => undefined);
  }

  #expectEnded(error: unknown): void {
    const { code } = error as { readonly code: string };
    if (this.isDisposed && /ERR_(EPHEMERAL|WRITER)_CLOSED/.test(code)) return;
    expect(this.#hasWriteFault, String(error)).toBe(true);
    expect(["ERR_FLUSH_CANCELLED", "ERR_WRITER_POISONED"]).toContain(code);
  }

  #expectUnread(error: unknown, signal: AbortSignal | undefined): void {
    if (signal?.aborted === true && error === "no more") return;
    const { code, errnoCode } = error as { readonly code?: string; readonly errnoCode?: string };
    if (this.isDisposed && code === "ERR_EPHEMERAL_CLOSED") return;
    expect([this.#hasReadFault, errnoCode], String(error)).toEqual([true, "EIO"]);
  }

  /** What holds at every moment: nothing unacknowledged shows, and what is in memory is what was appended. */
  check(): void {
    if (this.isDisposed) return;
    const { length } = this.file;
    expect(length).toBeLessThanOrEqual(this.text.length);
    const target = Buffer.alloc(this.text.length + 1);
    let from = length;
    for (let step = 1; step <= length; step *= 2) {
      const count = this.file.tryRead(length - step, target);
      if (count === undefined) break;
      expect(count).toBe(step);
      from = length - step;
      expectSame(target.subarray(0, count), this.text.subarray(from, length), "memory");
    }
  }

  /** Finishes every operation until all calls have settled. */
  async end(): Promise<void> {
    const progress = { isSettled: false };
    const all = Promise.all(this.calls);
    const mark = (): void => void (progress.isSettled = true);
    all.then(mark, mark);
    while (!progress.isSettled) {
      this.#finish(0);
      await turn();
      this.check();
    }
    await all;
  }
}

// Aim: whatever happens, a read gives what was acknowledged or says why not, and everything comes back. Method: as above.
test(`random lives agree with a string (${String(SEEDS)} seeds)`, { timeout: 600_000 }, async () => {
  const property = fc.asyncProperty(
    shapes,
    fc.array(step, { maxLength: 80, size: "max" }),
    async ({ capacity, queueDepth, ioMode, arenaBlocks }, steps) => {
      await using world = memoryWorld({
        ioMode,
        arenaBytes: arenaBlocks * BLOCK + (queueDepth + 1) * capacity,
      });
      const cancel = new AbortController();
      const waiting: Waiting[] = [];
      const file = await EphemeralFile.create(world.directory, world.environment, {
        capacity,
        queueDepth,
        signal: cancel.signal,
        clock: { sleep: () => turn() },
      });
      const stepped =
        (call: "read" | "write"): Act =>
        async (make) => {
          await new Promise<void>((resolve, reject) => {
            waiting.push({ call, finish: (error) => (error === undefined ? resolve() : reject(error)) });
          });
          return await make();
        };
      world.engine.usual = (call) => (call === "read" || call === "write" ? stepped(call) : (make) => make());
      const life = new Life(world, file, cancel, waiting);
      for (const next of steps) {
        if (life.isDisposed && next.kind !== "finish" && next.kind !== "turn") continue;
        await life.apply(next);
        life.check();
      }
      await life.end();
      life.dispose();
      await life.end();
    },
  );
  await fc.assert(property, { numRuns: SEEDS });
});
