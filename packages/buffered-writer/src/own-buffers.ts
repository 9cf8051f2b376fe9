/**
 * A writer's own buffers: one that is being filled, and those that have come back.
 *
 * There are always `count` of them, here or on their way, so that steady writing allocates nothing. A buffer that comes back
 * while a reader still has a share of it cannot be filled again: it is the reader's then, and another one takes its place.
 */
import type { AlignedArena, IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";

/** Invariant: buffers here, the one being filled and those on their way are `count`, or fewer until one is replaced. */
export class OwnBuffers {
  readonly #arena: AlignedArena;
  readonly #capacity: number;
  readonly #align: number;
  readonly #count: number;
  readonly #free: IoBufferMut[] = [];
  #existing = 0;
  /** Buffers that were replaced because somebody held a share. */
  replaced = 0;

  /** @throws {ArenaExhaustedError} ERR_ARENA_EXHAUSTED, having taken nothing */
  constructor(arena: AlignedArena, capacity: number, alignment: number, count: number) {
    this.#arena = arena;
    this.#capacity = capacity;
    this.#align = Math.max(alignment, arena.alignment);
    this.#count = count;
    try {
      for (; this.#existing < count; this.#existing++)
        this.#free.push(arena.alloc(capacity, { align: this.#align }));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** An empty buffer, if one is here or can be had. */
  tryTake(): IoBufferMut | undefined {
    const free = this.#free.pop();
    if (free !== undefined || this.#existing === this.#count) return free;
    const buffer = this.#arena.tryAlloc(this.#capacity, { align: this.#align });
    if (buffer !== undefined) this.#existing += 1;
    return buffer;
  }

  /** Whether one of the buffers is missing, so that `takeNew` may be called. */
  get lacksOne(): boolean {
    return this.#existing < this.#count;
  }

  /** A replacement, as soon as the arena has room. */
  async takeNew(signal: AbortSignal): Promise<IoBufferMut> {
    const buffer = await this.#arena.allocAsync(this.#capacity, { align: this.#align, signal });
    this.#existing += 1;
    return buffer;
  }

  /** A buffer comes back from its write. */
  takeBack(share: IoBuffer): void {
    const back = share.tryIntoMut();
    if (back.ok) {
      back.buffer.clear();
      this.#free.push(back.buffer);
      return;
    }
    share[Symbol.dispose]();
    this.#existing -= 1;
    this.replaced += 1;
  }

  /** Gives those that are here back to the arena. */
  dispose(): void {
    for (const buffer of this.#free) buffer[Symbol.dispose]();
    this.#free.length = 0;
  }
}
