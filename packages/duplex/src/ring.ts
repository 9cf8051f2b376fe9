/**
 * A first-in first-out queue in a circular array that grows by doubling.
 *
 * The slots are a power of two, so that `& mask` wraps an index. It starts small and grows when it is full: a channel
 * with room for a million values that never holds more than ten costs ten slots. It does not shrink, so that memory
 * stays at the high-water mark. The owner checks the bound before `push` and emptiness before `shift`. A slot that
 * was read is overwritten at once: a value that was received can be collected although the channel lives on.
 */
import assert from "node:assert/strict";

/** Slots of a new queue; most channels here have a capacity of 1 or some tens. */
const SLOTS_INITIAL = 4;

export class Ring<T> {
  #slots: (T | undefined)[] = [];
  #head = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Slots allocated so far: 0 or a power of two. For tests and memory accounts. */
  get slotCount(): number {
    return this.#slots.length;
  }

  push(value: T): void {
    if (this.#size === this.#slots.length) this.#grow();
    this.#slots[(this.#head + this.#size) & (this.#slots.length - 1)] = value;
    this.#size += 1;
  }

  /** Takes the oldest value. The queue must not be empty. */
  shift(): T {
    if (this.#size === 0) assert.fail("shift from an empty queue"); // a call of assert() would allocate
    const value = this.#slots[this.#head];
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    this.#size -= 1;
    // An undefined here is a payload: the slot was filled by push, as size was above zero.
    return value as T;
  }

  /** Drops all values and the slots. */
  clear(): void {
    this.#slots = [];
    this.#head = 0;
    this.#size = 0;
  }

  #grow(): void {
    const before = this.#slots;
    const count = Math.max(SLOTS_INITIAL, 2 * before.length);
    const slots: (T | undefined)[] = [];
    for (let index = 0; index < before.length; index++)
      slots.push(before[(this.#head + index) & (before.length - 1)]);
    while (slots.length < count) slots.push(undefined);
    this.#slots = slots;
    this.#head = 0;
  }
}
