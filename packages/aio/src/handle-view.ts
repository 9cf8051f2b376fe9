/**
 * A handle as callbacks see it: one object a thread, pointed at one handle after the other.
 *
 * Completion must not allocate without bound, so nothing here is made for each I/O: the target's words are copied into
 * the same small array each time. That is why a view is borrowed for the call only.
 */
import assert from "node:assert/strict";

import { HANDLE_STATE } from "./handle-state.js";
import type { HandleTable } from "./handle-table.js";
import { HANDLE, VECTOR } from "./layout.js";
import { operationName } from "./operations.js";
import type { IoOperation } from "./operations.js";
import type { IoView } from "./registry.js";
import { TARGET_WORDS } from "./result.js";
import type { SegmentTable } from "./segment-table.js";

/** The view of a thread. */
export class HandleView implements IoView {
  handle = 0;
  readonly #table: HandleTable;
  readonly #segments: SegmentTable;
  readonly #backend: number;
  readonly #target = new Int32Array(TARGET_WORDS);

  /** @param backend number of this thread's backend; -1 for a thread that issues nothing */
  constructor(table: HandleTable, segments: SegmentTable, backend: number) {
    this.#table = table;
    this.#segments = segments;
    this.#backend = backend;
  }

  /** Points the view at a handle. */
  of(handle: number): this {
    this.handle = handle;
    return this;
  }

  get generation(): number {
    return this.#table.generation(this.handle);
  }

  get owner(): number {
    return this.#table.get(this.handle, HANDLE.owner);
  }

  get operation(): IoOperation {
    return operationName(this.#table.operation(this.handle)) ?? assert.fail("no operation yet");
  }

  get offsetBytes(): number {
    return this.#table.offsetBytes(this.handle);
  }

  get lengthBytes(): number {
    return this.#table.get(this.handle, HANDLE.lengthBytes);
  }

  get rawResult(): number {
    const isKnown = this.#table.state(this.handle) >= HANDLE_STATE.completedIo;
    return isKnown ? this.#table.get(this.handle, HANDLE.rawResult) : 0;
  }

  get targetId(): number {
    return this.#table.targetId(this.handle);
  }

  get target(): Int32Array {
    copyTarget(this.#table, this.handle, this.#target);
    return this.#target;
  }

  get dataLength(): number {
    return this.#table.dataLength(this.handle);
  }

  dataAt(index: number): number {
    if (index < 0 || index >= this.dataLength) throw new RangeError(`no word ${index} of ${this.dataLength}`);
    return this.#table.words[this.#table.dataAt(this.handle) + index] as number;
  }

  get vectorCount(): number {
    return this.#table.vectorLength(this.handle);
  }

  vectorAt(index: number): Uint8Array {
    if (index < 0 || index >= this.vectorCount)
      throw new RangeError(`no piece ${index} of ${this.vectorCount}`);
    const { words } = this.#table;
    const at = this.#table.vectorAt(this.handle, index);
    const offset = words[at + VECTOR.offset] as number;
    const segment = this.#segments.view(words[at + VECTOR.segment] as number);
    return segment.subarray(offset, offset + (words[at + VECTOR.length] as number));
  }

  get isOwn(): boolean {
    return this.owner === this.#backend;
  }
}

/** Copies a handle's target words; those it was not given are 0. Without a loop: it is done for every I/O. */
export function copyTarget(table: HandleTable, handle: number, into: Int32Array): void {
  const { words } = table;
  const at = table.at(handle) + HANDLE.target;
  into[0] = words[at] as number;
  into[1] = words[at + 1] as number;
  into[2] = words[at + 2] as number;
  into[3] = words[at + 3] as number;
  into[4] = words[at + 4] as number;
  into[5] = words[at + 5] as number;
  into[6] = words[at + 6] as number;
  into[7] = words[at + 7] as number;
}
