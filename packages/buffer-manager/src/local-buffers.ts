/**
 * Local buffers: pages of temporary relations, which one backend alone ever sees.
 *
 * They have their own table and their own clock and no locks; their state words look like the shared ones, but live in the
 * thread's memory and are moved by plain stores. Only their frames are in the pool's memory, because I/O is done on them.
 * The I/O lock is the reference to the I/O itself: whoever finds one waits for it. The reference count is one for this
 * backend's pins, however many, and one for the I/O. At the public face they have negative numbers, -1 for the first.
 *
 * Unlike in PostgreSQL, several flows of the thread can be at work at a time: what a flow finds after a wait it looks at again,
 * and a page dirtied while it is written stays dirty. After localbuf.c of PostgreSQL 18.
 */
import { createIoReturn } from "@millrace/aio";
import type { IoHandle, WaitRef } from "@millrace/aio";

import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, REFCOUNT_ONE, STATE, USAGE_MASK, USAGE_MAX, USAGE_ONE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import { LocalTable } from "./local-table.js";
import { setPageChecksum } from "./set-checksum.js";
import { localFrame } from "./pool-core.js";
import { LOCAL_BUFFERS_MIN, PAGE_BYTES } from "./settings.js";
import { CONTEXT, COUNTED } from "./statistics.js";
import type { Fork, Relation, Tag } from "./tag.js";
import { acquireHandle } from "./waiting.js";
import type { Waiting } from "./waiting.js";

const NONE = -1;
/** Buffers whose frames and words are there at first; doubled as they are used up. */
const FIRST_BUFFERS = 16;
/** PostgreSQL keeps three quarters of the buffers from those that only want to read ahead. */
const LIMIT_DIVISOR = 4;

/** The local buffers of one backend; `buffer` is an index from 0. */
export class LocalBuffers {
  readonly #context: BackendContext;
  readonly #io: (WaitRef | undefined)[] = [];
  /** Of the relation that a buffer holds a block of: a part of its file's name. */
  readonly #owners: (number | undefined)[] = [];
  #size: number;
  /** Made when the first buffer is asked for; from then on the size is fixed. */
  #table: LocalTable | undefined;
  #states: Int32Array = new Int32Array(0);
  #pins: Int32Array = new Int32Array(0);
  #hand = 0;
  #pinned = 0;

  constructor(context: BackendContext) {
    this.#context = context;
    this.#size = context.settings.localBuffers;
  }

  /** Buffers there are, or will be. */
  get size(): number {
    return this.#size;
  }

  /** Whether any has been used: the size cannot change any more. */
  get isInUse(): boolean {
    return this.#table !== undefined;
  }

  /** Different buffers pinned by this backend. */
  get pinnedCount(): number {
    return this.#pinned;
  }

  /** Pins that those who read ahead should have at most. */
  get pinLimit(): number {
    return Math.floor(this.#size / LIMIT_DIVISOR);
  }

  /** Pins that may still be added under that limit. */
  get additionalPins(): number {
    return Math.max(0, this.pinLimit - this.#pinned);
  }

  /**
   * Sets the number of buffers, at most what the pool has reserved for each backend.
   *
   * @throws {RangeError} less than 100, or more than are reserved
   * @throws {BufferError} ERR_BUFFER_LOCAL_IN_USE: a temporary relation has been read or written by this backend
   */
  setSize(size: number): void {
    const max = this.#context.settings.localBuffers;
    if (!Number.isInteger(size) || size < LOCAL_BUFFERS_MIN || size > max) {
      throw new RangeError(`from ${LOCAL_BUFFERS_MIN} to ${max} local buffers, not ${size}`);
    }
    if (this.#table !== undefined && size !== this.#size) {
      const message = "the number of local buffers cannot change once a temporary relation has been used";
      throw new BufferError("ERR_BUFFER_LOCAL_IN_USE", message);
    }
    this.#size = size;
  }

  /** The frame of a buffer. */
  frame(buffer: number): number {
    return localFrame(this.#context.settings, this.#context.id) + buffer;
  }

  state(buffer: number): number {
    return this.#states[buffer] as number;
  }

  isValid(buffer: number): boolean {
    return (this.state(buffer) & STATE.valid) !== 0;
  }

  tag(buffer: number): Tag {
    return this.#open().tag(buffer);
  }

  hasTag(buffer: number, relation: Relation, fork: Fork, block: number): boolean {
    return this.#open().hasTag(buffer, relation, fork, block);
  }

  /** The buffer of a block, not pinned; -1 if there is none. */
  lookup(relation: Relation, fork: Fork, block: number): number {
    return this.#table === undefined ? NONE : this.#table.find(relation, fork, block);
  }

  /** Pins the buffer of a block. @returns -1 if there is none */
  lookupAndPin(relation: Relation, fork: Fork, block: number): number {
    const buffer = this.lookup(relation, fork, block);
    if (buffer >= 0) this.pin(buffer);
    return buffer;
  }

  /**
   * Pins the buffer of a block, making one free for it if it has none. The page is to be read unless `isValid`.
   *
   * @throws {BufferError} ERR_BUFFER_NO_LOCAL: all are pinned; what writing a page throws
   */
  *allocate(relation: Relation, fork: Fork, block: number): Waiting<number> {
    const known = this.lookupAndPin(relation, fork, block);
    if (known >= 0) return known;
    const victim = yield* this.getVictim();
    // Another flow of this thread may have been as far while this one waited.
    const winner = this.lookupAndPin(relation, fork, block);
    if (winner >= 0) {
      this.unpin(victim);
      return winner;
    }
    this.insert(victim, relation, fork, block);
    return victim;
  }

  /** Gives a pinned buffer without a tag to a block that has no buffer. */
  insert(buffer: number, relation: Relation, fork: Fork, block: number): void {
    this.#open().insert(buffer, relation, fork, block);
    this.#owners[buffer] = relation.owner;
    this.#states[buffer] = (this.state(buffer) & REFCOUNT_MASK) | USAGE_ONE | STATE.tagValid;
  }

  /** Makes a buffer free: pinned once, clean, without a tag. @throws as `allocate` */
  *getVictim(): Waiting<number> {
    this.#open();
    for (;;) {
      const buffer = this.#sweep();
      this.pin(buffer, false);
      let isTaken = false;
      try {
        if ((this.state(buffer) & STATE.dirty) !== 0) yield* this.flush(buffer);
        isTaken = this.#pins[buffer] === 1 && (this.state(buffer) & (STATE.dirty | REFCOUNT_MASK)) === 1;
      } finally {
        if (!isTaken) this.unpin(buffer);
      }
      if (!isTaken) continue;
      if ((this.state(buffer) & STATE.tagValid) !== 0) {
        this.#open().remove(buffer);
        this.#states[buffer] = REFCOUNT_ONE;
        this.#context.counters.count(COUNTED.evict, CONTEXT.normal, true);
      }
      return buffer;
    }
  }

  /** Pins a buffer once more. @param isUse whether its usage count goes up with the first pin */
  pin(buffer: number, isUse = true): void {
    const count = this.#pins[buffer] as number;
    this.#pins[buffer] = count + 1;
    if (count > 0) return;
    this.#pinned += 1;
    let state = this.state(buffer) + REFCOUNT_ONE;
    if (isUse && (state & USAGE_MASK) < USAGE_MAX * USAGE_ONE) state += USAGE_ONE;
    this.#states[buffer] = state;
  }

  /** How often this backend has a buffer pinned. */
  pinCount(buffer: number): number {
    return this.#pins[buffer] ?? 0;
  }

  /** Takes a pin back. @throws {BufferError} ERR_BUFFER_BAD_ID: there is none */
  unpin(buffer: number): void {
    const count = this.pinCount(buffer);
    if (count === 0) {
      throw new BufferError("ERR_BUFFER_BAD_ID", `this backend has no pin on local buffer ${-1 - buffer}`);
    }
    this.#pins[buffer] = count - 1;
    if (count > 1) return;
    this.#pinned -= 1;
    this.#states[buffer] = this.state(buffer) - REFCOUNT_ONE;
  }

  /** Says that the page has changed. It is pinned. */
  markDirty(buffer: number): void {
    this.#states[buffer] = this.state(buffer) | STATE.dirty | STATE.justDirtied;
  }

  /** The I/O under way on a buffer. */
  io(buffer: number): WaitRef | undefined {
    return this.#io[buffer];
  }

  /**
   * Says whether there is I/O to do; waits for the one under way. Nothing is taken: a second caller gets the same answer
   * until the I/O is staged.
   *
   * @param isInput whether the page is to be read
   */
  *startIo(buffer: number, isInput: boolean): Waiting<boolean> {
    yield* this.waitForIo(buffer);
    return this.tryStartIo(buffer, isInput);
  }

  /** The same without waiting. @returns false also if an I/O is under way */
  tryStartIo(buffer: number, isInput: boolean): boolean {
    if (this.#io[buffer] !== undefined) return false;
    return isInput ? !this.isValid(buffer) : (this.state(buffer) & STATE.dirty) !== 0;
  }

  /** Hands a buffer to an I/O, which has a pin of its own from now on. */
  stageIo(buffer: number, ref: WaitRef): void {
    this.#io[buffer] = ref;
    this.#states[buffer] = this.state(buffer) + REFCOUNT_ONE;
  }

  /**
   * Says that an I/O is over, as for shared buffers; in the issuer's thread only.
   *
   * @param clearDirty the page is in the file, unless it was dirtied again meanwhile
   * @param setFlags `STATE.valid`, `STATE.ioError` or 0
   * @param releaseIo whether the I/O was staged: its pin and the reference to it go
   */
  terminateIo(buffer: number, clearDirty: boolean, setFlags: number, releaseIo: boolean): void {
    let state = this.state(buffer) & ~STATE.ioError;
    if (clearDirty && (state & STATE.justDirtied) === 0) state &= ~STATE.dirty;
    if (releaseIo) {
      this.#io[buffer] = undefined;
      state -= REFCOUNT_ONE;
    }
    this.#states[buffer] = state | setFlags;
  }

  /** Takes the page's validity away, for a block that is to be made anew. */
  clearValid(buffer: number): void {
    this.#states[buffer] = this.state(buffer) & ~STATE.valid;
  }

  /**
   * Writes a page if it is dirty. It is pinned.
   *
   * @throws {AioIoError} it could not be written: it stays dirty
   */
  *flush(buffer: number): Waiting<void> {
    const { aio, ioScope, counters } = this.#context;
    while (yield* this.startIo(buffer, false)) {
      // The I/O is over when this is called, whether or not this flow still waits for it.
      const slot = createIoReturn(({ result }) => {
        const isWritten = result.status === "ok";
        this.terminateIo(buffer, isWritten, isWritten ? 0 : STATE.ioError, true);
      });
      const handle = yield* acquireHandle(aio, ioScope, slot);
      if (!this.tryStartIo(buffer, false)) {
        handle.release();
        continue;
      }
      const ref = handle.ref();
      this.#states[buffer] = this.state(buffer) & ~STATE.justDirtied;
      this.stageIo(buffer, ref);
      const begun = performance.now();
      this.#startWrite(handle, buffer);
      yield { kind: "io", ref };
      counters.time(COUNTED.write, CONTEXT.normal, true, performance.now() - begun);
      if (slot.result.status !== "ok") aio.report(slot, "error");
      counters.count(COUNTED.write, CONTEXT.normal, true, 1, PAGE_BYTES);
      return;
    }
  }

  #startWrite(handle: IoHandle, buffer: number): void {
    const { files, frames, settings } = this.#context;
    const { fork, block, ...numbers } = this.tag(buffer);
    const owner = this.#owners[buffer];
    const relation: Relation = {
      ...numbers,
      persistence: "temporary",
      ...(owner === undefined ? {} : { owner }),
    };
    const frame = this.frame(buffer);
    // In place: nobody else reads the page, and whoever changes it now makes it dirty again.
    if (settings.checksums) setPageChecksum(frames.view(frame), block);
    const vector = {
      segment: frames.segmentIndexOf(frame),
      offsetBytes: frames.byteOffsetOf(frame),
      lengthBytes: PAGE_BYTES,
    };
    try {
      files.startWrite(handle, relation, fork, block, [vector], 1);
    } catch (error) {
      handle.release();
      this.terminateIo(buffer, false, STATE.ioError, true);
      throw error;
    }
  }

  /** Buffers that this backend has pinned. */
  pinnedBuffers(): number[] {
    return Array.from(this.#pins.keys()).filter((buffer) => (this.#pins[buffer] as number) > 0);
  }

  /** Takes a buffer's block away from it, dirty or not. Nobody has it pinned. */
  forget(buffer: number): void {
    if ((this.state(buffer) & STATE.tagValid) !== 0) this.#open().remove(buffer);
    this.#states[buffer] = 0;
  }

  /** Buffers that hold a block of a relation now. */
  ofRelation(relation: Relation): number[] {
    return Array.from(this.#states.keys()).filter(
      (buffer) => (this.state(buffer) & STATE.tagValid) !== 0 && this.#open().isOfRelation(buffer, relation),
    );
  }

  /** Waits until no I/O is under way on a buffer. */
  *waitForIo(buffer: number): Waiting<void> {
    for (let ref = this.#io[buffer]; ref !== undefined; ref = this.#io[buffer]) yield { kind: "io", ref };
  }

  #sweep(): number {
    let tries = this.#size;
    for (;;) {
      const buffer = this.#hand;
      this.#hand = (buffer + 1) % this.#size;
      if (buffer >= this.#states.length) this.#grow();
      const state = this.state(buffer);
      if ((state & REFCOUNT_MASK) !== 0) {
        tries -= 1;
        if (tries === 0) throw new BufferError("ERR_BUFFER_NO_LOCAL", "all local buffers are pinned");
      } else if ((state & USAGE_MASK) !== 0) {
        this.#states[buffer] = state - USAGE_ONE;
        tries = this.#size;
      } else return buffer;
    }
  }

  #grow(): void {
    const length = Math.min(this.#size, Math.max(FIRST_BUFFERS, this.#states.length * 2));
    const [states, pins] = [new Int32Array(length), new Int32Array(length)];
    states.set(this.#states);
    pins.set(this.#pins);
    this.#states = states;
    this.#pins = pins;
  }

  #open(): LocalTable {
    this.#table ??= new LocalTable(this.#size);
    return this.#table;
  }
}
