/**
 * In which order a checkpoint writes: within a tablespace as the files lie, and between tablespaces so that all of them are
 * done at the same time, because each may be a device of its own.
 *
 * Each tablespace makes progress by total / its count with each of its buffers, so that all end at `total`. Whoever is least
 * far is next. Buffers that turn out to need no write count as well. What is balanced is PostgreSQL's (BufferSync), ties
 * included: they follow its binary heap.
 */
import type { CheckpointList } from "./checkpoint-list.js";

interface Tablespace {
  /** Position of its next buffer. */
  position: number;
  /** Position after its last. */
  readonly end: number;
  progress: number;
  readonly slice: number;
}

/** The order in which the entries of a list are written. */
export class CheckpointOrder {
  readonly #heap: Tablespace[];

  /** @param list sorted, and not changed any more */
  constructor(list: CheckpointList) {
    this.#heap = tablespacesOf(list);
    for (let at = (this.#heap.length >>> 1) - 1; at >= 0; at--) this.#siftDown(at);
  }

  /** Position of the next entry; -1 after the last. */
  get next(): number {
    return this.#heap[0]?.position ?? -1;
  }

  /** Entries that follow it in its tablespace, itself included. */
  get left(): number {
    const first = this.#heap[0];
    return first === undefined ? 0 : first.end - first.position;
  }

  /** Goes on after `count` entries of the tablespace whose turn it is; at most `left`. */
  advance(count: number): void {
    const first = this.#heap[0];
    if (first === undefined || count > first.end - first.position) {
      throw new RangeError(`not so many entries are left: ${count}`);
    }
    first.position += count;
    first.progress += first.slice * count;
    if (first.position === first.end) {
      const last = this.#heap.pop() as Tablespace;
      if (this.#heap.length === 0) return;
      this.#heap[0] = last;
    }
    this.#siftDown(0);
  }

  #siftDown(from: number): void {
    const heap = this.#heap;
    const moved = heap[from] as Tablespace;
    let at = from;
    for (;;) {
      const [left, right] = [heap[at * 2 + 1], heap[at * 2 + 2]];
      if (left === undefined) break;
      const isRight = right !== undefined && right.progress < left.progress;
      const child = isRight ? right : left;
      if (moved.progress <= child.progress) break;
      heap[at] = child;
      at = at * 2 + (isRight ? 2 : 1);
    }
    heap[at] = moved;
  }
}

function tablespacesOf(list: CheckpointList): Tablespace[] {
  const tablespaces: Tablespace[] = [];
  let start = 0;
  for (let end = 1; end <= list.count; end++) {
    if (end < list.count && list.tablespace(end) === list.tablespace(start)) continue;
    tablespaces.push({ position: start, end, progress: 0, slice: list.count / (end - start) });
    start = end;
  }
  return tablespaces;
}
