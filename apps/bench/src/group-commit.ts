/**
 * Commits of many clients in as few durable writes as possible.
 *
 * One half of the memory is being filled while the other one is on its way to the disk. A commit that finds no flush in flight starts
 * one at the end of the current microtasks, so that whoever is about to commit goes with it; the others wait for the next.
 * Each flush is whole pages; the rest of its last one is zeros. The file is a ring: what comes to its end goes on at its beginning.
 */
import type { MemorySegment } from "@millrace/aligned-buffers";

import { BenchError } from "./errors.js";

/** What commits go to. */
export interface CommitLog {
  /** Lent: all of it. */
  readonly memory: MemorySegment;
  /** Of the file, a multiple of `pageBytes`. */
  readonly fileBytes: number;
  readonly pageBytes: number;
  /** Starts a write. @returns its end */
  readonly start: (memoryOffset: number, lengthBytes: number, position: number) => bigint;
  /** Resolves when everything before is durable. */
  readonly flush: (end: bigint) => Promise<unknown>;
}

interface Committer {
  readonly resolve: (position: number) => void;
  readonly reject: (error: unknown) => void;
  readonly position: number;
}

/** Invariant: while a flush is in flight, its half of the memory is left alone. */
export class GroupCommit {
  readonly #log: CommitLog;
  readonly #halfBytes: number;
  #half: 0 | 1 = 0;
  /** Bytes in use of the half that is being filled. */
  #used = 0;
  /** Bytes in use of each half when it was flushed last: behind them there are zeros. */
  readonly #dirty: [number, number] = [0, 0];
  /** Where in the file the half that is being filled will begin. */
  #position = 0;
  #committers: Committer[] = [];
  #isFlushing = false;

  /** @param log its memory is zeros */
  constructor(log: CommitLog) {
    this.#log = log;
    this.#halfBytes = log.memory.byteLength / 2;
  }

  /**
   * Commits a record.
   *
   * @param record borrowed for the call; its length divides that of a page
   * @returns where in the file it is, once it is durable there
   */
  append(record: Uint8Array): Promise<number> {
    const { memory, fileBytes } = this.#log;
    const used = this.#used;
    if (used + record.length > this.#halfBytes)
      return Promise.reject(new BenchError("ERR_BENCH_WORK", "more commits at once than fit in memory"));
    memory.bytes.set(record, this.#half * this.#halfBytes + used);
    this.#used = used + record.length;
    const position = (this.#position + used) % fileBytes;
    return new Promise((resolve, reject) => {
      this.#committers.push({ resolve, reject, position });
      if (this.#isFlushing) return;
      this.#isFlushing = true;
      queueMicrotask(() => void this.#flush());
    });
  }

  /** Flushes until nobody waits. Never rejects: whoever waits hears of a failure. */
  async #flush(): Promise<void> {
    while (this.#committers.length > 0) {
      const committers = this.#committers;
      this.#committers = [];
      try {
        await this.#log.flush(this.#startHalf());
        for (const { resolve, position } of committers) resolve(position);
      } catch (error) {
        for (const { reject } of committers) reject(error);
      }
      // Whoever was waiting commits again first: all of them go together.
      await Promise.resolve();
    }
    this.#isFlushing = false;
  }

  /** Starts the writes of the half that is full, and begins the other one. @returns their end */
  #startHalf(): bigint {
    const { memory, fileBytes, pageBytes, start } = this.#log;
    const [half, used, position] = [this.#half, this.#used, this.#position];
    const offset = half * this.#halfBytes;
    const length = Math.ceil(used / pageBytes) * pageBytes;
    const dirty = this.#dirty[half];
    if (dirty > used) memory.bytes.fill(0, offset + used, offset + dirty);
    this.#dirty[half] = used;
    this.#half = half === 0 ? 1 : 0;
    this.#used = 0;
    this.#position = (position + length) % fileBytes;
    const first = Math.min(length, fileBytes - position);
    const end = start(memory.byteOffset + offset, first, position);
    return first === length ? end : start(memory.byteOffset + offset + first, length - first, 0);
  }
}
