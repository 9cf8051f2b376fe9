/**
 * Method io_uring: a ring for each backend, filled and reaped by its owner in JavaScript, reaped by others at need.
 *
 * Only the owner submits. Whoever reaps holds the ring's lock in shared memory, records every result in its handle before
 * it tells the kernel that the completion has been seen, and runs the callbacks after: a thread that dies in between loses
 * nothing, and no slot is reused before it was read. User data is the handle and the low bits of its generation, so that
 * a completion nobody waits for any more is recognised.
 *
 * Ring flags are 0. DEFER_TASKRUN forbids other threads to reap, COOP_TASKRUN makes them wait for the next tick, and
 * SQPOLL burns a core. Idea: PostgreSQL 18's method_io_uring.c.
 */
import { constants } from "node:os";

import {
  COMPLETION_WORDS,
  ForeignRing,
  FSYNC_DATASYNC,
  IovecTable,
  OPCODE,
  Ring,
  SQE,
} from "@millrace/io-uring";
import type { RingPoll } from "@millrace/io-uring";

import { AioError } from "../errors.js";
import { settle } from "../execute.js";
import type { FileLease } from "../file-table.js";
import { HANDLE_STATE, STATE_BITS } from "../handle-state.js";
import { BACKEND, byteAt, HANDLE, HEADER, LENGTHS, META, SUBMIT_BATCH, VECTOR } from "../layout.js";
import type { Layout } from "../layout.js";
import type { EventSource, IoMethod, MethodContext } from "../method.js";
import { lock, tryLock, unlock } from "../mutex.js";
import { FLAG, OPERATION } from "../operations.js";
import { PANIC } from "../panic.js";
import { WAIT_EVENT } from "../wait-events.js";
import {
  announceEntered,
  attachIfOpen,
  drainOwnRing,
  drainRing,
  GENERATION_MASK,
  LINKED_PART,
  OPERATION_PART,
  SYNC_PART,
} from "./uring-completions.js";

/** Buffered I/O goes to a kernel worker at once when more than this is in flight: it may block in the page cache. */
const OFFLOAD_ABOVE = 4;
/** Files registered with a ring at most: its table is allocated at once. */
const FIXED_FILES_MAX = 4096;
/** Longest sleep for another thread's submission before looking whether the system has stopped. */
const LOOK_FOR_STOP_MS = 100;
const TWO_32 = 2 ** 32;
const EAGAIN = -constants.errno.EAGAIN;
const EBUSY = -constants.errno.EBUSY;
const EBADF = -constants.errno.EBADF;

/** The method of one backend. */
export class UringMethod implements IoMethod {
  readonly name = "io_uring";
  readonly #context: MethodContext;
  readonly #layout: Layout;
  readonly #ring: Ring;
  readonly #at: number;
  readonly #iovecs: readonly IovecTable[];
  readonly #iovecAddresses: Float64Array;
  readonly #foreign = new Map<number, ForeignRing>();
  readonly #hasFixedBuffers: boolean;
  /** For each file slot, the generation that is registered with the ring; undefined where none is registered at all. */
  readonly #fixedFiles: Int32Array | undefined;

  /**
   * @param fixBuffers register the memory segments with the ring, where the limit on locked memory allows it
   * @throws {UringError} no ring could be set up
   */
  constructor(context: MethodContext, layout: Layout, fixBuffers: boolean) {
    this.#context = context;
    this.#layout = layout;
    // Two entries for each handle: a write linked to its sync takes both.
    this.#ring = Ring.create({ entries: Math.min(32_768, 2 * layout.concurrency) });
    this.#at = layout.backendsAt + context.backend * BACKEND.words;
    // A slot's earlier owner counted on from 0 too.
    Atomics.store(context.table.words, this.#at + BACKEND.entered, 0);
    Atomics.store(context.table.words, this.#at + BACKEND.ring, this.#ring.id + 1);
    this.#iovecs = Array.from({ length: SUBMIT_BATCH }, () => new IovecTable(layout.combine));
    this.#iovecAddresses = Float64Array.from(this.#iovecs, ({ address }) => address);
    const views = Array.from({ length: context.segments.count }, (_, index) => context.segments.view(index));
    this.#hasFixedBuffers = fixBuffers && views.length > 0 && this.#ring.registerBuffers(views) === 0;
    // A registered file stays open until every ring has forgotten it: only where there is just this one ring.
    const isAlone = layout.backends === 1 && layout.files <= FIXED_FILES_MAX;
    const isFixed = isAlone && this.#ring.registerFiles(new Int32Array(layout.files).fill(-1)) === 0;
    this.#fixedFiles = isFixed ? new Int32Array(layout.files) : undefined;
  }

  /** Whether reads and writes go through registered buffers. */
  get hasFixedBuffers(): boolean {
    return this.#hasFixedBuffers;
  }

  submit(handles: Int32Array, count: number): void {
    const { table, faults, completer } = this.#context;
    const inFlight = this.#context.inFlight();
    const last = handles[count - 1] as number;
    const accepted = this.#context.markSubmitted(handles, count);
    const { isArmed } = faults;
    for (let index = 0; index < accepted; index++) {
      const handle = handles[index] as number;
      const struck = isArmed ? this.#struck(handle) : undefined;
      if (struck !== undefined) completer.complete(handle, struck);
      else this.#prepare(handle, index, inFlight + index);
    }
    const entered = table.get(last, HANDLE.submitTick) + 1;
    if (faults.isArmed) faults.holdHere("submitted", table.operation(last), table.get(last, HANDLE.fd));
    this.#enter();
    announceEntered(table.words, this.#at, entered);
  }

  poll(): number {
    if (this.#ring.ready === 0) return 0;
    const { words } = this.#context.table;
    // A thread that has the lock completes everything there is, and rings our bell.
    if (!tryLock(words, this.#at + BACKEND.ringLock, this.#context.backend + 1)) return 0;
    try {
      return this.#drainOwn();
    } finally {
      unlock(words, this.#at + BACKEND.ringLock);
    }
  }

  #drainOwn(): number {
    const { own, backend } = this.#context;
    return drainOwnRing(this.#context, own, backend, this.#ring);
  }

  waitOne(handle: number, generation: number): void {
    const { table, mayBlock, backend } = this.#context;
    const { words } = table;
    const owner = table.get(handle, HANDLE.owner);
    const ownerAt = this.#layout.backendsAt + owner * BACKEND.words;
    const lockAt = ownerAt + BACKEND.ringLock;
    let entered: number;
    if (mayBlock) lock(words, lockAt, backend + 1);
    else if (!tryLock(words, lockAt, backend + 1)) throw wouldBlock();
    try {
      const ring = owner === backend ? this.#ring : this.#foreignRing(owner);
      for (;;) {
        entered = Atomics.load(words, ownerAt + BACKEND.entered);
        if (table.generation(handle) !== generation || table.state(handle) !== HANDLE_STATE.submitted) return;
        if (ring === undefined) return;
        if (ring.ready > 0) this.#drain(ring);
        else if (!mayBlock) throw wouldBlock();
        else if (owner !== backend && ((entered - table.get(handle, HANDLE.submitTick)) | 0) <= 0) break;
        else this.#block(ring);
      }
    } finally {
      unlock(words, lockAt);
    }
    this.#awaitEntered(ownerAt, entered);
  }

  #drain(ring: Ring | ForeignRing): void {
    if (ring === this.#ring) this.#drainOwn();
    else drainRing(this.#context, ring);
  }

  /**
   * Sleeps until the owner has handed more to the kernel, or its I/O was seen to otherwise. In the kernel one would wait
   * for ever for an I/O that was refused, or whose owner died on the way, and with the ring's lock.
   */
  #awaitEntered(ownerAt: number, entered: number): void {
    const { words } = this.#context.table;
    words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.uringSubmit;
    Atomics.add(words, ownerAt + BACKEND.enteredWaiters, 1);
    if (Atomics.load(words, HEADER.panic) === PANIC.none) {
      // A stop does not change this word, so it may be missed; who waits looks for it again after a while.
      Atomics.wait(words, ownerAt + BACKEND.entered, entered, LOOK_FOR_STOP_MS);
    }
    Atomics.sub(words, ownerAt + BACKEND.enteredWaiters, 1);
    words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.none;
  }

  reapFor(handle: number): void {
    const { table, backend } = this.#context;
    const owner = table.get(handle, HANDLE.owner);
    const lockAt = this.#layout.backendsAt + owner * BACKEND.words + BACKEND.ringLock;
    if (!tryLock(table.words, lockAt, backend + 1)) return;
    try {
      const ring = this.#foreignRing(owner);
      if (ring !== undefined && ring.ready > 0) drainRing(this.#context, ring);
    } finally {
      unlock(table.words, lockAt);
    }
  }

  listen(onReady: () => void): EventSource {
    const poll: RingPoll = this.#ring.onReadable(onReady).unref();
    return {
      keepAlive: (isWanted) => void (isWanted ? poll.ref() : poll.unref()),
      stop: () => poll.stop(),
    };
  }

  forgetFile({ slot, generation }: FileLease): void {
    if (this.#fixedFiles?.[slot] !== generation) return;
    this.#fixedFiles[slot] = 0;
    this.#ring.updateFiles(slot, [-1]);
  }

  close(): void {
    this.#awaitKernel();
    // In this order: whoever finds the number of a ring that is closed looks again, an unknown ring would stay for ever.
    this.#ring.close();
    Atomics.store(this.#context.table.words, this.#at + BACKEND.ring, 0);
  }

  /** The result that a fault has in place of an I/O's. */
  #struck(handle: number): number | undefined {
    const { table, faults } = this.#context;
    const operation = table.operation(handle);
    if (operation === OPERATION.nop) return undefined;
    const struck = faults.strike("instead", operation, table.get(handle, HANDLE.fd));
    return struck === undefined ? undefined : settle(this.#context, handle, struck);
  }

  #prepare(handle: number, index: number, inFlight: number): void {
    const { table } = this.#context;
    const at = table.at(handle);
    const { words } = table;
    const meta = words[at + HANDLE.meta] as number;
    const userHigh = ((words[at] as number) >>> STATE_BITS) & GENERATION_MASK;
    const operation = byteAt(meta, META.operation);
    if (operation === OPERATION.nop) {
      this.#put(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 0, handle, userHigh);
      return;
    }
    const isFixed = this.#isFixedFile(at);
    const fileFlag = isFixed ? SQE.fixedFile : 0;
    const fd = words[at + (isFixed ? HANDLE.fileSlot : HANDLE.fd)] as number;
    if (operation === OPERATION.fsync || operation === OPERATION.fdatasync) {
      const dataOnly = operation === OPERATION.fdatasync ? FSYNC_DATASYNC : 0;
      this.#put(OPCODE.fsync, fileFlag, fd, 0, 0, 0, 0, dataOnly, 0, handle, userHigh);
      return;
    }
    const flags = byteAt(meta, META.flags);
    const isOffloaded = (flags & FLAG.buffered) !== 0 && inFlight > OFFLOAD_ABOVE;
    const isSynced = (flags & (FLAG.thenDataSync | FLAG.thenSync)) !== 0;
    const sqeFlags = fileFlag | (isOffloaded ? SQE.async : 0) | (isSynced ? SQE.link : 0);
    if (isSynced) words[at + HANDLE.partsLeft] = OPERATION_PART | LINKED_PART;
    this.#putTransfer(handle, index, operation === OPERATION.writev, sqeFlags, fd, userHigh);
    if (isSynced) {
      const dataOnly = (flags & FLAG.thenDataSync) !== 0 ? FSYNC_DATASYNC : 0;
      this.#put(OPCODE.fsync, fileFlag, fd, 0, 0, 0, 0, dataOnly, 0, handle, userHigh | SYNC_PART);
    }
  }

  /** Whether an I/O's file is registered; registers it with its first I/O. */
  #isFixedFile(at: number): boolean {
    const fixed = this.#fixedFiles;
    if (fixed === undefined) return false;
    const { words } = this.#context.table;
    const slot = words[at + HANDLE.fileSlot] as number;
    const generation = words[at + HANDLE.fileGeneration] as number;
    if (fixed[slot] === generation) return true;
    if (this.#ring.updateFiles(slot, [words[at + HANDLE.fd] as number]) < 0) return false;
    fixed[slot] = generation;
    return true;
  }

  #putTransfer(
    handle: number,
    index: number,
    isWrite: boolean,
    sqeFlags: number,
    fd: number,
    userHigh: number,
  ): void {
    const { table, segments } = this.#context;
    const { words } = table;
    const at = table.at(handle);
    const count = byteAt(words[at + HANDLE.lengths] as number, LENGTHS.vectors);
    const [low, high] = [words[at + HANDLE.offsetLow] as number, words[at + HANDLE.offsetHigh] as number];
    const first = table.vectorAt(handle, 0);
    if (count === 1) {
      const segment = words[first + VECTOR.segment] as number;
      const address = segments.address(segment) + (words[first + VECTOR.offset] as number);
      const length = words[first + VECTOR.length] as number;
      const isFixed = this.#hasFixedBuffers;
      const opcode = isWrite
        ? isFixed
          ? OPCODE.writeFixed
          : OPCODE.write
        : isFixed
          ? OPCODE.readFixed
          : OPCODE.read;
      const bufIndex = isFixed ? segment : 0;
      this.#put(opcode, sqeFlags, fd, low, high, address, length, 0, bufIndex, handle, userHigh);
      return;
    }
    const iovecs = this.#iovecs[index] as IovecTable;
    for (let piece = 0; piece < count; piece++) {
      const pieceAt = first + piece * VECTOR.words;
      const base = segments.address(words[pieceAt + VECTOR.segment] as number);
      const length = words[pieceAt + VECTOR.length] as number;
      iovecs.set(piece, base + (words[pieceAt + VECTOR.offset] as number), length);
    }
    const opcode = isWrite ? OPCODE.writev : OPCODE.readv;
    const address = this.#iovecAddresses[index] as number;
    this.#put(opcode, sqeFlags, fd, low, high, address, count, 0, 0, handle, userHigh);
  }

  #put(
    opcode: number,
    sqeFlags: number,
    fd: number,
    low: number,
    high: number,
    address: number,
    length: number,
    rwFlags: number,
    bufIndex: number,
    user: number,
    userHigh: number,
  ): void {
    const { queues } = this.#ring;
    const at = queues.claim();
    if (at < 0) {
      // Never: the queue has two entries for each handle, and is emptied by each submission.
      this.#context.panic(PANIC.submitFailed);
      throw new AioError("ERR_AIO_PANIC", "the submission queue is full");
    }
    const { entries } = queues;
    entries[at] = opcode | (sqeFlags << 8);
    entries[at + 1] = fd;
    entries[at + 2] = low;
    entries[at + 3] = high;
    entries[at + 4] = address;
    entries[at + 5] = address / TWO_32;
    entries[at + 6] = length;
    entries[at + 7] = rwFlags;
    entries[at + 8] = user;
    entries[at + 9] = userHigh;
    entries[at + 10] = bufIndex;
  }

  /** Hands everything to the kernel. What it does not take is fatal: those handles are SUBMITTED already. */
  #enter(): void {
    const { words } = this.#context.table;
    while (this.#ring.pending > 0) {
      const taken = this.#ring.submit();
      if (taken > 0) continue;
      if (taken !== EAGAIN && taken !== EBUSY) {
        this.#context.panic(PANIC.submitFailed);
        throw new AioError("ERR_AIO_PANIC", `the kernel refused submitted I/O: errno ${-taken}`);
      }
      // It asks for completions to be reaped first.
      words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.uringSubmit;
      this.poll();
      words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.none;
    }
  }

  #block(ring: Ring | ForeignRing): void {
    const { words } = this.#context.table;
    words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.uringExecution;
    const result = ring instanceof Ring ? ring.submitAndWait(1) : ring.wait(1);
    words[this.#at + BACKEND.waitEvent] = WAIT_EVENT.none;
    // EBADF: another thread's ring that it has closed meanwhile, after its last I/O.
    if (result < 0 && result !== EAGAIN && result !== EBUSY && result !== EBADF) {
      this.#context.panic(PANIC.submitFailed);
      throw new AioError("ERR_AIO_PANIC", `waiting for the kernel failed: errno ${-result}`);
    }
  }

  #foreignRing(owner: number): ForeignRing | undefined {
    const { words } = this.#context.table;
    const id = (words[this.#layout.backendsAt + owner * BACKEND.words + BACKEND.ring] as number) - 1;
    if (id < 0) return undefined;
    let ring = this.#foreign.get(owner);
    if (ring?.id !== id) {
      ring = attachIfOpen(id);
      if (ring !== undefined) this.#foreign.set(owner, ring);
    }
    return ring;
  }

  /** Only after a stop is there anything: the kernel must have let go of the memory before it can be given back. */
  #awaitKernel(): void {
    const inside = ForeignRing.attach(this.#ring.id);
    const discarded = new Int32Array(SUBMIT_BATCH * COMPLETION_WORDS);
    while (inside.inKernel > 0 && this.#ring.submitAndWait(1) >= 0) this.#ring.reap(discarded, SUBMIT_BATCH);
  }
}

function wouldBlock(): AioError {
  return new AioError("ERR_AIO_WOULD_BLOCK", "this thread must not sleep: use the asynchronous form");
}
