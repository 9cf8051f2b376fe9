/**
 * Leases on file descriptors: a number and a generation that tell whether a descriptor is still the file it was.
 *
 * All threads of a process share its descriptors, and a closed number is reused at once. An I/O that waits in a queue
 * while its file is closed would then read a stranger's. So an I/O names a slot of this table and the slot's generation,
 * and closing takes two steps. The closer stores that the lease takes no new I/O, then looks for submitted I/O and waits
 * for it, and only then ends the lease. An issuer makes its I/O visible as SUBMITTED and then looks whether the lease
 * takes it. At least one of them sees the other: the I/O is refused, or waited for. Whoever executes it, perhaps much
 * later, looks once more whether the lease has been ended: by the death of its thread, without any waiting.
 */
import { threadId } from "node:worker_threads";

import { AioError } from "./errors.js";
import { FILE } from "./layout.js";
import type { Layout } from "./layout.js";

/**
 * The right to do I/O on an open descriptor. Plain data: it may be sent to other threads of the process, but it ends with
 * the thread that took it if that is supervised: Node closes what was opened in a worker thread when that thread ends.
 */
export interface FileLease {
  readonly fd: number;
  readonly slot: number;
  /** Odd while the lease holds. */
  readonly generation: number;
}

/** The files of a system, as one thread sees them. */
export class FileTable {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #count: number;
  #next = 0;

  constructor(words: Int32Array, layout: Layout) {
    this.#words = words;
    this.#at = layout.filesAt;
    this.#count = layout.files;
  }

  /**
   * Takes a slot for an open descriptor.
   *
   * @throws {RangeError} not a descriptor
   * @throws {AioError} ERR_AIO_LIMIT: the table is full
   */
  lease(fd: number): FileLease {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`not a file descriptor: ${fd}`);
    for (let step = 0; step < this.#count; step++) {
      const slot = (this.#next + step) % this.#count;
      const word = this.#at + slot * FILE.words;
      const generation = Atomics.load(this.#words, word + FILE.generation);
      if ((generation & 1) === 1) continue;
      // An odd generation means taken. The fd is stored first by the only thread that wins the exchange: nobody
      // has a lease with this generation before it is returned here.
      const taken = (generation + 1) | 0;
      if (Atomics.compareExchange(this.#words, word + FILE.generation, generation, taken) !== generation)
        continue;
      this.#words[word + FILE.fd] = fd;
      this.#words[word + FILE.thread] = threadId + 1;
      this.#next = slot + 1;
      return { fd, slot, generation: taken };
    }
    throw new AioError("ERR_AIO_LIMIT", `all ${this.#count} files of the system are open`);
  }

  /** Whether a lease takes new I/O. Asked after the I/O has become SUBMITTED. */
  accepts(slot: number, generation: number): boolean {
    if (!this.holds(slot, generation)) return false;
    return Atomics.load(this.#words, this.#at + slot * FILE.words + FILE.closing) !== generation;
  }

  /** From now on a lease takes no new I/O; what is submitted goes on. */
  beginClosing(lease: FileLease): void {
    if (!this.holds(lease.slot, lease.generation)) return;
    Atomics.store(this.#words, this.#at + lease.slot * FILE.words + FILE.closing, lease.generation);
  }

  /** Whether a lease has not been ended. */
  holds(slot: number, generation: number): boolean {
    if (slot < 0 || slot >= this.#count) return false;
    return Atomics.load(this.#words, this.#at + slot * FILE.words) === generation;
  }

  /**
   * Ends the leases that a thread took and did not end. The thread is gone, and Node closes the descriptors that were
   * opened in it: their numbers may be other files by now.
   */
  endOfThread(thread: number): void {
    for (let slot = 0; slot < this.#count; slot++) {
      const word = this.#at + slot * FILE.words;
      const generation = Atomics.load(this.#words, word + FILE.generation);
      if ((generation & 1) === 0 || this.#words[word + FILE.thread] !== thread + 1) continue;
      Atomics.compareExchange(this.#words, word + FILE.generation, generation, (generation + 1) | 0);
    }
  }

  /** Ends a lease: no I/O that names it is executed from now on. @returns false if it had ended already */
  end(lease: FileLease): boolean {
    const word = this.#at + lease.slot * FILE.words + FILE.generation;
    const next = (lease.generation + 1) | 0;
    return Atomics.compareExchange(this.#words, word, lease.generation, next) === lease.generation;
  }
}
