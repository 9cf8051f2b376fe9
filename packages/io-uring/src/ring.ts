/**
 * One ring, owned by the thread that created it: fills entries and reads completions in the mapped memory itself.
 *
 * The kernel's queues are two ArrayBuffers here. An entry is twelve plain 32-bit stores; the tail is published with
 * one Atomics.store when the batch is submitted; a completion is four loads. Only entering the kernel is a call into
 * C, and that is as fast as having all of it in C. How the queues are walked is in ring-queues.ts; here is what a caller
 * may do with them, and what is checked.
 *
 * Completions are copied before the head moves on: behind it the kernel may overwrite them. After the queues of
 * liburing and PostgreSQL's method_io_uring.c.
 */
import { UringError, UringSystemError } from "./errors.js";
import { setupReason } from "./errno.js";
import { faultCompletions } from "./faults.js";
import { IovecTable } from "./iovec-table.js";
import { addressOf } from "./memory.js";
import type { TypedArray } from "./memory.js";
import { RING_FACT, nativeOrThrow } from "./native.js";
import type { Native } from "./native.js";
import { OPCODE, SETUP } from "./opcodes.js";
import { RingPoll } from "./ring-poll.js";
import { COMPLETION_WORDS, ENTRY_WORDS, RingQueues } from "./ring-queues.js";

const TWO_32 = 2 ** 32;
const UINT32_MAX = 2 ** 32 - 1;
const SETUP_KNOWN = Object.values(SETUP).reduce((all, flag) => all | flag, 0);
const REGISTER = { buffers: 0, unregisterBuffers: 1, files: 2, unregisterFiles: 3, filesUpdate: 6 } as const;

export interface RingOptions {
  /** Entries of the submission queue; the kernel rounds up to a power of two. At most 32768. */
  readonly entries: number;
  /** Bits of SETUP. Zero, the default, is what lets other threads reap. */
  readonly flags?: number;
  /** Entries of the completion queue; twice `entries` by default. Overflowing it is slow but loses nothing. */
  readonly cqEntries?: number;
}

export class Ring implements Disposable {
  /** Known to the whole process: what another thread attaches to. Comes back after 2^19 other rings at the earliest. */
  readonly id: number;
  readonly fd: number;
  readonly entries: number;
  readonly cqEntries: number;
  /** Bits of FEATURE. */
  readonly features: number;

  /** The queues themselves, for who walks them without a call for each entry. They belong to this thread. */
  readonly queues: RingQueues;
  readonly #native: Native;
  #isClosed = false;
  #registered: readonly TypedArray[] = []; // keeps their memory alive while the kernel has them

  private constructor(native: Native, facts: Uint32Array, rings: ArrayBuffer, sqes: ArrayBuffer) {
    const fact = (name: keyof typeof RING_FACT): number => facts[RING_FACT[name]] ?? 0;
    this.#native = native;
    this.id = fact("id");
    this.fd = fact("fd");
    this.entries = fact("entries");
    this.cqEntries = fact("cqEntries");
    this.features = fact("features");
    this.queues = new RingQueues(fact, rings, sqes);
  }

  /**
   * Sets up a ring that belongs to the calling thread.
   *
   * @throws {UringError} ERR_URING_UNAVAILABLE; ERR_URING_SETUP (`errno`, and the message says what to change)
   * @throws {RangeError} a number of entries that is none, or a flag this package does not know
   */
  static create(options: RingOptions): Ring {
    const { entries, flags = 0, cqEntries = 0 } = options;
    if (!Number.isInteger(entries) || entries < 1) throw new RangeError(`entries: ${entries}`);
    if (!Number.isInteger(cqEntries) || cqEntries < 0) throw new RangeError(`cqEntries: ${cqEntries}`);
    if ((flags & ~SETUP_KNOWN) !== 0 || !Number.isInteger(flags)) throw new RangeError(`flags: ${flags}`);
    const native = nativeOrThrow();
    const facts = new Uint32Array(RING_FACT.count);
    const result = native.ringCreate(entries, flags, cqEntries, facts);
    if (result < 0) throw new UringSystemError("ERR_URING_SETUP", result, setupReason(result));
    const id = facts[RING_FACT.id] ?? 0;
    const rings = native.ringMemory(id, 0);
    const sqes = native.ringMemory(id, 1);
    if (typeof rings === "number" || typeof sqes === "number") {
      native.ringClose(id);
      const failed = typeof rings === "number" ? rings : (sqes as number);
      throw new UringSystemError("ERR_URING_SETUP", failed, setupReason(failed));
    }
    return new Ring(native, facts, rings, sqes);
  }

  /** Entries prepared and not yet taken by the kernel. */
  get pending(): number {
    this.#mustBeOpen();
    return this.queues.pending;
  }

  /** Completions in the queue, 0 to `cqEntries`. Zero only if the kernel keeps nothing back for want of room. */
  get ready(): number {
    this.#mustBeOpen();
    const count = this.queues.completed;
    return count === 0 && this.#flush() ? this.queues.completed : count;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** How many buffers are registered; 0 says that fixed reads and writes cannot be used. */
  get registeredBuffers(): number {
    return this.#registered.length;
  }

  /**
   * Fills the next entry. The kernel sees it with the next submit.
   *
   * @param opcode of OPCODE   @param sqeFlags bits of SQE
   * @param fd a descriptor, or the index of a registered file with SQE.fixedFile
   * @param offset in the file, in bytes
   * @param address of the bytes (addressOf) or of an iovec array; the memory is lent until the completion is reaped
   * @param length in bytes, or entries of the iovec array
   * @param rwFlags bits of RWF, or FSYNC_DATASYNC for an fsync   @param bufIndex of a registered buffer, else 0
   * @param userLo comes back with the completion, low and high word
   * @returns false if the queue is full: submit, then try again
   * @throws {UringError} ERR_URING_CLOSED
   * @throws {RangeError} an offset, address or length that is negative or does not fit
   */
  prepare(
    opcode: number,
    sqeFlags: number,
    fd: number,
    offset: number,
    address: number,
    length: number,
    rwFlags: number,
    bufIndex: number,
    userLo: number,
    userHi: number,
  ): boolean {
    if (this.#isClosed) throw closed();
    if (!(offset >= 0 && offset <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`offset: ${offset}`);
    if (!(address >= 0 && address <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`address: ${address}`);
    if (!(length >= 0 && length <= UINT32_MAX)) throw new RangeError(`length: ${length}`);
    const { queues } = this;
    const sqes = queues.entries;
    const word = queues.claim();
    if (word < 0) return false;
    sqes[word] = (opcode & 0xff) | ((sqeFlags & 0xff) << 8);
    sqes[word + 1] = fd;
    sqes[word + 2] = offset;
    sqes[word + 3] = offset / TWO_32;
    sqes[word + 4] = address;
    sqes[word + 5] = address / TWO_32;
    sqes[word + 6] = length;
    sqes[word + 7] = rwFlags;
    sqes[word + 8] = userLo;
    sqes[word + 9] = userHi;
    sqes[word + 10] = bufIndex & 0xffff;
    return true;
  }

  /**
   * Fills an entry that asks the kernel to cancel the request whose user data is given. Its own completion says 0,
   * -ENOENT (not found: finished already) or -EALREADY (too late); the request's comes in any case.
   */
  prepareCancel(targetLo: number, targetHi: number, userLo: number, userHi: number): boolean {
    if (this.#isClosed) throw closed();
    const word = this.queues.claim();
    if (word < 0) return false;
    const sqes = this.queues.entries;
    sqes.fill(0, word, word + ENTRY_WORDS);
    sqes[word] = OPCODE.asyncCancel;
    sqes[word + 1] = -1;
    sqes[word + 4] = targetLo;
    sqes[word + 5] = targetHi;
    sqes[word + 8] = userLo;
    sqes[word + 9] = userHi;
    return true;
  }

  /**
   * Hands everything prepared to the kernel.
   *
   * @returns entries taken, or a negative errno if none was: -EAGAIN and -EBUSY ask to reap first
   * @throws {UringError} ERR_URING_CLOSED
   */
  submit(): number {
    return this.#enter(0);
  }

  /**
   * Hands everything prepared to the kernel and blocks the thread until `minComplete` completions can be reaped,
   * those that are there already included. More than are in flight would block forever.
   *
   * @returns as submit
   * @throws {UringError} ERR_URING_CLOSED
   */
  submitAndWait(minComplete: number): number {
    if (!Number.isInteger(minComplete) || minComplete < 0)
      throw new RangeError(`minComplete: ${minComplete}`);
    return this.#enter(Math.min(minComplete, this.cqEntries));
  }

  /**
   * Takes completions, oldest first: for each one userLo, userHi, the result (a count or a negative errno) and the
   * completion's flags.
   *
   * @param out filled from its start; has room for `max` times COMPLETION_WORDS words
   * @returns completions taken, 0 to `max`
   * @throws {UringError} ERR_URING_CLOSED
   */
  reap(out: Int32Array, max: number): number {
    this.#mustBeOpen();
    if (!(max >= 0 && out.length >= max * COMPLETION_WORDS))
      throw new RangeError(`max: ${max}, room: ${out.length} words`);
    let count = this.#copy(out, 0, max);
    while (count < max && this.#flush()) {
      const more = this.#copy(out, count, max);
      if (more === 0) break;
      count += more;
    }
    faultCompletions(out, count);
    return count;
  }

  /**
   * Copies completions as `reap` does, but leaves them in the queue: the same ones come again until `advance`. For those
   * who must have noted a completion somewhere safe before the kernel hears that it was seen. Does not look for
   * completions that the kernel keeps back because the queue was full.
   *
   * @throws as reap
   */
  peek(out: Int32Array, max: number): number {
    this.#mustBeOpen();
    if (!(max >= 0 && out.length >= max * COMPLETION_WORDS))
      throw new RangeError(`max: ${max}, room: ${out.length} words`);
    const count = this.#look(out, 0, max);
    faultCompletions(out, count);
    return count;
  }

  /**
   * Takes the oldest completions out of the queue, after they were peeked at.
   *
   * @param count 0 to as many as there are
   * @throws {UringError} ERR_URING_CLOSED
   */
  advance(count: number): void {
    this.#mustBeOpen();
    const ready = this.queues.completed;
    if (!(count >= 0 && count <= ready)) throw new RangeError(`count: ${count}, ready: ${ready}`);
    if (count > 0) this.queues.retire(count);
  }

  /**
   * Calls `callback` from the event loop whenever there is something to reap. It is called again and again until
   * the queue is empty, so reap in it. Keeps the loop alive; see RingPoll.unref.
   *
   * @throws {UringError} ERR_URING_POLL if the ring has a poll already or the loop refuses; ERR_URING_CLOSED
   */
  onReadable(callback: () => void): RingPoll {
    this.#mustBeOpen();
    if (typeof callback !== "function") throw new TypeError("callback is not a function");
    return new RingPoll(this.#native, this.id, callback);
  }

  /**
   * Registers descriptors, so that entries with SQE.fixedFile name them by index; -1 leaves a gap to be filled.
   *
   * @returns 0 or a negative errno; -EBUSY if there are registered files already
   */
  registerFiles(fds: ArrayLike<number>): number {
    return this.#register(REGISTER.files, Int32Array.from(fds), fds.length, 0);
  }

  /** Replaces registered descriptors from index `offset` on; -1 empties a place. @returns how many, or an errno */
  updateFiles(offset: number, fds: ArrayLike<number>): number {
    return this.#register(REGISTER.filesUpdate, Int32Array.from(fds), fds.length, offset);
  }

  unregisterFiles(): number {
    return this.#register(REGISTER.unregisterFiles, undefined, 0, 0);
  }

  /**
   * Registers memory, so that OPCODE.readFixed and writeFixed need not look its pages up. At most 1 GiB a view. The
   * pages are pinned and count against RLIMIT_MEMLOCK: on -ENOMEM go on without.
   *
   * @param views kept alive until unregisterBuffers or close
   * @returns 0 or a negative errno
   */
  registerBuffers(views: readonly TypedArray[]): number {
    const iovecs = new IovecTable(views.length);
    views.forEach((view, index) => iovecs.set(index, addressOf(view), view.byteLength));
    const result = this.#register(REGISTER.buffers, iovecs.words, views.length, 0);
    if (result >= 0) this.#registered = [...views];
    return result;
  }

  unregisterBuffers(): number {
    const result = this.#register(REGISTER.unregisterBuffers, undefined, 0, 0);
    if (result >= 0) this.#registered = [];
    return result;
  }

  /**
   * Closes the ring: its poll ends, its memory is unmapped, the kernel drops its registrations. Closing twice is
   * allowed. There must be no I/O in flight, which only the caller knows: the kernel does not wait for it and goes on
   * using its memory.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#native.ringClose(this.id);
    this.queues.close();
    this.#registered = [];
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #mustBeOpen(): void {
    if (this.#isClosed) throw closed();
  }

  #enter(waitFor: number): number {
    this.#mustBeOpen();
    const { queues } = this;
    queues.publish();
    let submitted = 0;
    // More than one round only if the kernel refused an entry: it stops there, having made its completion.
    for (;;) {
      const { pending } = queues;
      if (pending === 0 && (waitFor === 0 || submitted > 0)) return submitted;
      const taken = this.#native.ringEnter(this.id, pending, waitFor, 0);
      if (taken < 0) return submitted > 0 ? submitted : taken;
      submitted += taken;
      if (taken === pending || taken === 0) return submitted;
    }
  }

  /** Has the kernel bring what it kept back. @returns whether there was something to bring */
  #flush(): boolean {
    return this.queues.mustEnterToReap && this.#native.ringEnter(this.id, 0, 0, 1) >= 0;
  }

  /** Copies and takes, from index `from` of `out` on. */
  #copy(out: Int32Array, from: number, max: number): number {
    const count = this.#look(out, from, max);
    if (count > 0) this.queues.retire(count);
    return count;
  }

  #look(out: Int32Array, from: number, max: number): number {
    const { queues } = this;
    const { words, head } = queues;
    const count = Math.min(queues.completed, max - from);
    let target = from * COMPLETION_WORDS;
    for (let index = 0; index < count; index++) {
      const word = queues.completionAt(head + index);
      out[target] = words[word] as number;
      out[target + 1] = words[word + 1] as number;
      out[target + 2] = words[word + 2] as number;
      out[target + 3] = words[word + 3] as number;
      target += COMPLETION_WORDS;
    }
    return count;
  }

  #register(
    opcode: number,
    data: Uint32Array | Int32Array | undefined,
    count: number,
    offset: number,
  ): number {
    this.#mustBeOpen();
    return this.#native.ringRegister(this.id, opcode, data, count, offset);
  }
}

function closed(): UringError {
  return new UringError("ERR_URING_CLOSED", "the ring is closed");
}
