/**
 * The writer against a string: random calls, failures, completions and aborts, with all invariants checked at every step.
 *
 * Twenty seeds by default, `WRITER_SEEDS` for more. The model knows nothing of buffers: it is the text of all writes that were
 * made, in order, and what each call may answer.
 */
import fc from "fast-check";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { AlignedArena } from "@millrace/aligned-buffers";
import { BufferedWriter } from "../src/index.js";
import type { ShutdownMode } from "../src/index.js";
import { errno, FakeClock, FakeFile } from "./fake-file.js";

const SEEDS = Number(process.env["WRITER_SEEDS"] ?? 20);
const ALIGNMENT = 512;

type Finish = (error?: Error) => void;

/** The file finishes an operation when it is told to, and then succeeds, fails for a while, or fails for good. */
class SteppedFile extends FakeFile {
  readonly #waiting: Finish[] = [];

  /** Takes an operation in flight to finish it: the oldest, or as old as said. */
  take(age: number = 0): Finish | undefined {
    return this.#waiting.splice(age % Math.max(this.#waiting.length, 1), 1)[0];
  }

  override async writeAllAt(...input: Parameters<FakeFile["writeAllAt"]>): Promise<void> {
    await this.#step();
    await super.writeAllAt(...input);
  }

  override async setLength(length: number): Promise<void> {
    await this.#step();
    await super.setLength(length);
  }

  async #step(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push((error) => (error === undefined ? resolve() : reject(error)));
    });
  }
}

type Step =
  | {
      readonly kind: "write" | "tryWrite" | "owned";
      readonly length: number;
      readonly skip: number | undefined;
    }
  | { readonly kind: "finish"; readonly count: number; readonly which: number }
  | { readonly kind: "retry" | "fail"; readonly which: number }
  | { readonly kind: "turn" | "hold" | "drop" | "cancel" };

/** Which of the operations in flight, by their age. */
const which = fc.nat(2);

const lengths = fc.oneof(fc.nat(20), fc.nat(3 * ALIGNMENT), fc.nat(12 * ALIGNMENT));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constantFrom("write" as const, "tryWrite" as const, "owned" as const),
      length: lengths,
      // Undefined: as far into a block of memory as the next byte is into one of the file, so that no copy is needed.
      skip: fc.option(fc.nat(ALIGNMENT - 1), { nil: undefined, freq: 1 }),
    }),
  },
  {
    weight: 15,
    arbitrary: fc.record({
      kind: fc.constant("finish" as const),
      count: fc.integer({ min: 1, max: 4 }),
      which,
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("retry" as const), which }) },
  { weight: 6, arbitrary: fc.constantFrom<Step>({ kind: "turn" }, { kind: "hold" }, { kind: "drop" }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const), which }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: "cancel" }) },
);
const modes = fc.constantFrom<ShutdownMode>(
  "dropTail",
  "padThenTruncate",
  { zeroPadTo: ALIGNMENT },
  { zeroPadTo: 8192 },
);
const shapes = fc.record({
  capacity: fc.integer({ min: 1, max: 6 }).map((blocks) => blocks * ALIGNMENT),
  queueDepth: fc.integer({ min: 1, max: 3 }),
  startOffset: fc.nat(3).map((blocks) => blocks * ALIGNMENT),
  bypassMin: fc.constantFrom(0, 1000, 4096, Infinity),
});

/** A writer, and the text that it should be. */
class World {
  readonly file: SteppedFile = new SteppedFile();
  readonly arena: AlignedArena = new AlignedArena({ bytes: 2 ** 20, alignment: ALIGNMENT, debug: true });
  readonly aborting: AbortController = new AbortController();
  readonly writer: BufferedWriter<SteppedFile>;
  readonly startOffset: number;
  readonly fatal: unknown[] = [];
  readonly #shares: {
    readonly share: Disposable & { equals(other: Uint8Array): boolean };
    readonly bytes: Buffer;
  }[] = [];
  readonly calls: Promise<unknown>[] = [];
  text: Buffer = Buffer.alloc(0);
  #next = 1;
  hasFailed = false;

  constructor(shape: { capacity: number; queueDepth: number; startOffset: number; bypassMin: number }) {
    this.startOffset = shape.startOffset;
    this.file.depth = shape.queueDepth;
    this.writer = new BufferedWriter(this.file, this.arena, {
      ...shape,
      alignment: ALIGNMENT,
      clock: new FakeClock(),
      signal: this.aborting.signal,
      onFatal: (error) => this.fatal.push(error),
    });
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index++)
      bytes[index] = (this.#next = (this.#next * 75) % 65_537) & 255;
    return bytes;
  }

  apply(step: Step): Promise<unknown> | undefined {
    if (step.kind === "write" || step.kind === "owned") this.#write(step);
    else if (step.kind === "tryWrite") this.#tryWrite(step.length);
    else if (step.kind === "finish")
      for (let left = step.count; left > 0; left--) this.file.take(step.which)?.();
    else if (step.kind === "retry") this.file.take(step.which)?.(errno("ENOSPC"));
    else if (step.kind === "fail") this.#fail(step.which);
    else if (step.kind === "cancel") this.#cancel();
    else if (step.kind === "hold") this.#hold();
    else if (step.kind === "drop") this.#shares.shift()?.share[Symbol.dispose]();
    return step.kind === "turn" || step.kind === "finish" ? turn() : undefined;
  }

  #write({ kind, length, skip }: Extract<Step, { readonly length: number }>): void {
    const bytes = this.#bytes(length);
    const offset = this.startOffset + this.text.length;
    this.text = Buffer.concat([this.text, bytes]);
    const written =
      kind === "write"
        ? this.writer.write(bytes)
        : this.writer.writeOwned(this.#owned(bytes, skip ?? offset % ALIGNMENT));
    const checked = written.then(
      (at) => expect(at).toBe(offset),
      (error: unknown) => this.#expectFailed(error),
    );
    this.calls.push(checked);
  }

  #owned(bytes: Buffer, skip: number): ReturnType<ReturnType<AlignedArena["alloc"]>["freeze"]> {
    using whole = this.arena.copyFrom(Buffer.concat([Buffer.alloc(skip), bytes])).freeze();
    return whole.slice(skip);
  }

  #tryWrite(length: number): void {
    const bytes = this.#bytes(length);
    try {
      const at = this.writer.tryWrite(bytes);
      if (at === undefined) return;
      expect(at).toBe(this.startOffset + this.text.length);
      this.text = Buffer.concat([this.text, bytes]);
    } catch (error) {
      this.#expectFailed(error);
    }
  }

  #fail(age: number): void {
    const finish = this.file.take(age);
    if (finish === undefined) return;
    this.hasFailed = true;
    finish(errno("EIO"));
  }

  #cancel(): void {
    this.hasFailed = true;
    this.aborting.abort();
  }

  #hold(): void {
    const share = this.writer.lastSubmitted();
    if (share !== undefined) this.#shares.push({ share, bytes: Buffer.from(share.unsafeView()) });
  }

  #expectFailed(error: unknown): void {
    expect(this.hasFailed, String(error)).toBe(true);
    expect(["ERR_FLUSH_CANCELLED", "ERR_WRITER_POISONED"]).toContain((error as { code: string }).code);
  }

  /** What holds at every moment. */
  check(): void {
    const { writer, file, startOffset, text } = this;
    const snapshot = writer.snapshot();
    const { acknowledged, fileUpTo } = snapshot;
    expect(acknowledged).toBe(writer.acknowledged);
    expect(acknowledged).toBeLessThanOrEqual(startOffset + text.length);
    expect(writer.confirmed).toBeLessThanOrEqual(writer.submitted);
    const fromMemory = new Uint8Array(acknowledged - fileUpTo);
    snapshot.copyInto(fromMemory, fileUpTo, acknowledged);
    const readable = Buffer.concat([file.content.subarray(startOffset, fileUpTo), fromMemory]);
    expect(readable.equals(text.subarray(0, acknowledged - startOffset)), "all that is acknowledged").toBe(
      true,
    );
    const confirmed = file.content.subarray(startOffset, writer.confirmed);
    const [own, padding] = [confirmed.subarray(0, text.length), confirmed.subarray(text.length)];
    expect(text.subarray(0, own.length).equals(own), "all that is confirmed").toBe(true);
    expect(padding.every((byte) => byte === 0)).toBe(true);
    for (const { share, bytes } of this.#shares) expect(share.equals(bytes), "a share").toBe(true);
  }

  /** Finishes every operation until a promise has settled. */
  async finishUntil<T>(promise: Promise<T>): Promise<T> {
    const progress = { isSettled: false };
    const mark = (): void => void (progress.isSettled = true);
    promise.then(mark, mark);
    while (!progress.isSettled) {
      this.file.take()?.();
      await turn();
      if (!progress.isSettled) this.check();
    }
    return await promise;
  }

  dropShares(): void {
    for (const { share } of this.#shares) share[Symbol.dispose]();
    this.#shares.length = 0;
  }
}

async function end(world: World, mode: ShutdownMode): Promise<void> {
  const { writer, file, text, startOffset } = world;
  const ending = writer.shutdown(mode);
  if (world.hasFailed) {
    await expect(world.finishUntil(ending)).rejects.toHaveProperty("code");
    await world.finishUntil(Promise.all(world.calls));
    world.check();
    await world.finishUntil(writer[Symbol.asyncDispose]());
    return;
  }
  const { finalLength } = await world.finishUntil(ending);
  const length = startOffset + text.length;
  const multiple = typeof mode === "object" ? mode.zeroPadTo : 1;
  if (mode === "dropTail") expect(finalLength).toBeLessThanOrEqual(length);
  else expect(finalLength).toBe(Math.ceil(length / multiple) * multiple);
  // A file that nothing was written to stays as short as it was.
  if (text.length > 0 && mode !== "dropTail") expect(file.content.length).toBe(finalLength);
  const content = file.content.subarray(startOffset, finalLength);
  const expected = Buffer.concat([text, Buffer.alloc(8192)]).subarray(0, content.length);
  expect(expected.equals(content)).toBe(true);
  expect(writer.confirmed).toBeGreaterThanOrEqual(finalLength);
}

// Aim: whatever happens, every acknowledged byte is readable, the file is the text, and all memory comes back. Method: as above.
test(`random lives agree with a string (${String(SEEDS)} seeds)`, async () => {
  const property = fc.asyncProperty(
    shapes,
    fc.array(step, { maxLength: 60, size: "max" }),
    modes,
    async (shape, steps, mode) => {
      const world = new World(shape);
      for (const next of steps) {
        await world.apply(next);
        world.check();
      }
      await end(world, mode);
      world.dropShares();
      expect(world.arena.stats.liveBuffers).toBe(0);
      expect(world.fatal.length).toBeLessThanOrEqual(1);
    },
  );
  await fc.assert(property, { numRuns: SEEDS });
});
