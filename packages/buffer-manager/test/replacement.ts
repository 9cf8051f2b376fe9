/**
 * A pool without files: replacement driven by hand, with a page's read and write reduced to their flags.
 *
 * What a read does is written down as in the traces of PostgreSQL's own replacement code: `h` hit, `f` a victim without valid
 * contents, `e` eviction, `r` ring reuse, `w` the write of a victim, `x` a victim that its ring rejected; then the buffer and,
 * in brackets, the block it held.
 */
import { createPoolMemory } from "@millrace/aligned-buffers";
import type { PoolMemory } from "@millrace/aligned-buffers";

import { Allocator } from "../src/allocate.js";
import { STATE, usageOf } from "../src/buffer-state.js";
import { ContentLocks } from "../src/content-locks.js";
import type { BufferHeaders } from "../src/headers.js";
import type { PoolLayout } from "../src/layout.js";
import type { Pins } from "../src/pins.js";
import type { PoolHook, PoolPoint } from "../src/points.js";
import { Ring, ringContext } from "../src/ring.js";
import { COUNTED, Counters, STATISTICS_DOUBLES } from "../src/statistics.js";
import type { Relation } from "../src/tag.js";
import type { Wait, Waiting } from "../src/waiting.js";
import { createWords } from "./words.js";

export const RELATION: Relation = { tablespace: 1663, database: 5, relation: 16_384 };

/** Runs a flow that is not expected to have to wait. */
export function runNow<T>(flow: Generator<Wait, T, unknown>): T {
  const step = flow.next();
  if (step.done !== true) throw new Error(`waits for ${JSON.stringify(step.value)}`);
  return step.value;
}

/** A ring that tells what it rejects. */
export class TracedRing extends Ring {
  readonly rejected: number[] = [];

  override reject(buffer: number, isFromRing: boolean): boolean {
    const isRejected = super.reject(buffer, isFromRing);
    if (isRejected) this.rejected.push(buffer);
    return isRejected;
  }
}

/** A backend of a pool of words, which reads and writes by setting flags. */
export class Replacer {
  readonly id: number;
  readonly headers: BufferHeaders;
  readonly pins: Pins;
  readonly locks: ContentLocks;
  readonly counters: Counters;
  readonly allocator: Allocator;
  hook: PoolHook = () => undefined;
  readonly #world: ReplacementPool;
  readonly #events: string[] = [];
  #ring: TracedRing | null = null;

  constructor(world: ReplacementPool, id: number) {
    const { words, layout, frames } = world;
    this.#world = world;
    this.id = id;
    this.headers = world.headersOf(id);
    this.pins = world.pinsOf(id);
    this.counters = new Counters(world.doubles, layout.statisticsAt + id * STATISTICS_DOUBLES);
    this.locks = new ContentLocks({ words, layout, id, at: layout.backendsAt + id * layout.backendWords });
    const context = {
      words,
      layout,
      frames,
      headers: this.headers,
      pins: this.pins,
      counters: this.counters,
      id,
      mayBlock: true,
      wal: { flush: (): void => undefined, isDurable: (lsn: bigint) => lsn <= world.durable },
      reach: (point: PoolPoint, buffer: number): void => this.hook(point, id, buffer),
    };
    this.allocator = new Allocator(context, this.locks, { flush: (buffer) => this.#flush(buffer) });
  }

  *#flush(buffer: number): Waiting<void> {
    yield* [];
    if (this.#world.writeError !== undefined) throw this.#world.writeError;
    this.#takeRejected();
    this.#world.onFlush?.(buffer);
    this.#events.push(`w${buffer}`);
    this.#world.setFlags(buffer, 0, STATE.dirty | STATE.justDirtied);
  }

  #takeRejected(): void {
    for (const buffer of this.#ring?.rejected.splice(0) ?? []) this.#events.push(`x${buffer}`);
  }

  /** Pins a block, and makes it valid if it is not. @returns what happened, as one word a step */
  pin(block: number, ring: TracedRing | null = null): string[] {
    const { blocks } = this.#world;
    const context = ringContext(ring);
    const before = this.#counts(context);
    this.#ring = ring;
    this.#events.length = 0;
    const now = this.allocator.tryAllocate(RELATION, 0, block, ring, context);
    const buffer = now >= 0 ? now : runNow(this.allocator.allocate(RELATION, 0, block, ring, context));
    this.#takeRejected();
    if (this.allocator.found) return [...this.#events, `h${buffer}`];
    const after = this.#counts(context);
    const kind = after.reuse > before.reuse ? "r" : after.evict > before.evict ? "e" : "f";
    const former = blocks.get(buffer);
    this.#world.setFlags(buffer, STATE.valid, 0);
    blocks.set(buffer, block);
    return [...this.#events, kind === "f" ? `f${buffer}` : `${kind}${buffer}(${former})`];
  }

  /** Pins a block and lets go of it. @returns as `pin` */
  read(block: number, ring: TracedRing | null = null): string[] {
    const steps = this.pin(block, ring);
    this.unpin(block);
    return steps;
  }

  /** Lets go of a block that is pinned. */
  unpin(block: number): void {
    this.pins.unpin(this.find(block));
  }

  /** The buffer of a block; -1 if it is not in the pool. */
  find(block: number): number {
    return this.allocator.mapping.lookup(RELATION, 0, block);
  }

  /** Makes a block dirty, with an LSN, if it is in the pool. */
  dirty(block: number, lsn: bigint): void {
    const buffer = this.find(block);
    if (buffer < 0) return;
    const page = this.#world.frames.view(buffer);
    new DataView(page.buffer, page.byteOffset).setUint32(4, Number(lsn), true);
    this.#world.setFlags(buffer, STATE.dirty | STATE.justDirtied, 0);
  }

  /** Throws a block out, as an explicit eviction does. @returns its buffer; -1 if it is not in the pool */
  evict(block: number): number {
    const buffer = this.find(block);
    if (buffer < 0) return buffer;
    this.#world.setFlags(buffer, 0, STATE.dirty | STATE.justDirtied);
    this.pins.pinLocked(buffer, this.headers.lock(buffer));
    if (!runNow(this.allocator.invalidateVictim(buffer))) throw new Error(`buffer ${buffer} is pinned`);
    this.pins.unpin(buffer);
    return buffer;
  }

  /** Throws a block out and puts its buffer on the free list, as dropping a relation does. */
  drop(block: number): void {
    const buffer = this.evict(block);
    if (buffer >= 0) this.allocator.pushFree(buffer);
  }

  #counts(context: number): { reuse: number; evict: number } {
    const count = (operation: number): number => this.counters.get(operation, context, false).count;
    return { reuse: count(COUNTED.reuse), evict: count(COUNTED.evict) };
  }
}

/** A pool's words and frames. */
export class ReplacementPool {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly layout: PoolLayout;
  readonly frames: PoolMemory;
  readonly headersOf: (backend: number) => BufferHeaders;
  readonly pinsOf: (backend: number) => Pins;
  /** The block that each buffer held last. */
  readonly blocks: Map<number, number> = new Map();
  /** The LSN up to which WAL is durable. */
  durable = 0n;
  /** Called with a buffer whose page is written. */
  onFlush: ((buffer: number) => void) | undefined = undefined;
  /** What writing a page throws. */
  writeError: Error | undefined = undefined;
  readonly #buffers: number;
  readonly #headers: BufferHeaders;

  /** @param flagsBy the backend whose words `setFlags` uses */
  constructor(buffers: number, flagsBy = 3) {
    const { words, layout, headersOf, pinsOf } = createWords(buffers);
    this.words = words;
    this.doubles = new Float64Array(words.buffer);
    this.layout = layout;
    this.headersOf = headersOf;
    this.pinsOf = pinsOf;
    this.frames = createPoolMemory({ frameCount: buffers });
    this.#buffers = buffers;
    this.#headers = headersOf(flagsBy);
  }

  /** A backend, by its number from 0 to 3. */
  backend(id = 0): Replacer {
    return new Replacer(this, id);
  }

  /** Sets and clears flags of a buffer. */
  setFlags(buffer: number, set: number, clear: number): void {
    const state = this.#headers.lock(buffer);
    this.#headers.unlock(buffer, (state | set) & ~clear);
  }

  /** Usage counts of all buffers. */
  usage(): number[] {
    return Array.from({ length: this.#buffers }, (_, buffer) => usageOf(this.#headers.state(buffer)));
  }
}
