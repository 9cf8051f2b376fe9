/**
 * The shared memory of a system: one Int32Array over a WebAssembly memory, cut into records that start on 64-byte lines.
 *
 * Word numbers below are relative to their record. Each says who writes it; everybody may read. A plain
 * SharedArrayBuffer would not do: it starts at 16 or 32 mod 64, so that records would straddle cache lines. The sizes
 * are fixed when the system is made, and stand in the header, so that a thread needs nothing but the memory.
 *
 * Idea: PostgreSQL's AioCtl and its arrays (aio_internal.h), with a backend's private lists left out of shared memory.
 */
import assert from "node:assert/strict";

import { AioError } from "./errors.js";

/** Words in a line of 64 bytes. */
const LINE_WORDS = 16;
export const LAYOUT_MAGIC = 0x4d41494f; // "MAIO"
export const LAYOUT_VERSION = 2;

/** Callbacks of one handle. */
export const CALLBACKS_MAX = 4;
/** Handles a backend stages before they are submitted whether it likes it or not. */
export const SUBMIT_BATCH = 32;
/** Blocks, and so vectors, of one I/O at most: PG_IOV_MAX, the kernel's 1024 capped. */
export const COMBINE_MAX = 128;
/** Handles of one backend at most. */
export const CONCURRENCY_MAX = 1024;
/** Threads of a system at most; a bound on the memory it takes, far above any sensible count. */
export const BACKENDS_MAX = 256;
/** Open files of a system at most. */
export const FILES_MAX = 65_536;
/** Slots of the worker method's queue; a power of two, one of them always empty. */
export const WORKER_QUEUE_SLOTS = 64;
/** I/O workers of a system at most: their idle mask is one word. */
export const IO_WORKERS_MAX = 32;
/** Armed faults at most; more than any test needs at once. */
export const FAULTS_MAX = 16;
assert((WORKER_QUEUE_SLOTS & (WORKER_QUEUE_SLOTS - 1)) === 0);

/** Written once, at creation, but for panic and faultsArmed. */
export const HEADER = {
  magic: 0,
  version: 1,
  registryHash: 2,
  method: 3,
  backends: 4,
  concurrency: 5,
  combine: 6,
  files: 7,
  /** 0, or why nothing works any more: stored once by whoever saw it. */
  panic: 8,
  /** How many faults of the table below are armed; 0 in production, always. */
  faultsArmed: 9,
  /** 1 once the system has begun to close: acquire refuses. */
  closing: 10,
  backendsAt: 16,
  handlesAt: 17,
  vectorsAt: 18,
  dataAt: 19,
  filesAt: 20,
  queueAt: 21,
  workersAt: 22,
  faultsAt: 23,
  words: 64,
} as const;

/** One thread that issues I/O. Written by that thread unless said otherwise. */
export const BACKEND = {
  /** 0 free; the thread's id plus one; -1 while it is being recovered (written by the supervisor). */
  inUse: 0,
  /** The thread's id, for viewers: it stays while the slot is recovered. */
  threadId: 1,
  /** Counted up by whoever completes an I/O of this backend from another thread, after the I/O's state. */
  bell: 2,
  /** 1 while the backend's event loop waits on the bell. */
  sleeping: 3,
  /** What the thread waits for now: an index into WAIT_EVENTS. */
  waitEvent: 4,
  /** Number of the io_uring ring plus one; 0 where there is none. */
  ring: 5,
  /** Times this slot was taken, so that a viewer can tell two owners apart. */
  uses: 6,
  /**
   * io_uring: how many submissions the kernel has been handed, counted as the handles' `submitTick`. Who wants to wait in
   * the kernel for another thread's I/O looks here first: SUBMITTED alone does not say that it ever gets there.
   */
  entered: 7,
  /** Threads asleep on `entered`. */
  enteredWaiters: 8,
  /** Threads asleep on the state of any handle of this backend: what it looks at once for a whole batch. */
  handleWaiters: 9,
  /** Counts batches made SUBMITTED. Nobody reads it: its store is the fence between the states and what is read after. */
  submissions: 10,
  /** The completion lock of the ring, see mutex.ts. */
  ringLock: 16,
  words: 32,
} as const;

/** Value of a backend's `inUse` while the supervisor sees to a dead thread's I/O. */
export const BACKEND_RECOVERING = -1;

/** A lock's word, see mutex.ts. */
export const LOCK = { state: 0, words: 1 } as const;

/**
 * One I/O. Written by its owner up to SUBMITTED, by the completer up to COMPLETED_SHARED, by its owner again after;
 * `state` publishes the rest. What every life writes is in the first line of 64 bytes.
 */
export const HANDLE = {
  /** State and the low bits of the generation, see handle-state.ts. */
  state: 0,
  generationHigh: 1,
  /** A byte each: operation, target, flags, number of callbacks; see META. */
  meta: 2,
  /** A byte each: attached words, pieces of memory; see LENGTHS. */
  lengths: 3,
  fd: 4,
  fileSlot: 5,
  fileGeneration: 6,
  offsetLow: 7,
  offsetHigh: 8,
  lengthBytes: 9,
  /** Counts up with each submission of the backend: the order in flight. */
  submitTick: 10,
  rawResult: 11,
  /** The backend or worker that completed it, see `completerId`. */
  completer: 12,
  owner: 13,
  /** Four bytes: a callback id each, in the order of registration. */
  callbackIds: 14,
  /** Four bytes: what each was registered with. */
  callbackData: 15,
  distilled: 16,
  distilledResult: 17,
  /** Threads asleep on `state`: each adds and subtracts one, here and in the owner's `handleWaiters`. */
  waiters: 18,
  /** Of a write linked to its sync, completions still to come: bit 0 the write's, bit 1 the sync's. */
  partsLeft: 19,
  /** The result of a linked write itself. */
  firstPart: 20,
  /** The result of a linked write's sync. */
  syncPart: 21,
  target: 24, // eight words: 24..31
  words: 32,
} as const;

/** Where the bytes of a handle's `meta` begin, in bits. */
export const META = { operation: 0, targetId: 8, flags: 16, callbackCount: 24 } as const;

/** Where the bytes of a handle's `lengths` begin, in bits. */
export const LENGTHS = { data: 0, vectors: 8 } as const;

/** A piece of memory: 3 words. */
export const VECTOR = { segment: 0, offset: 1, length: 2, words: 3 } as const;

/**
 * One open file. Written by the thread that opens or closes it; `thread` is the opener's id plus one, `closing` the
 * generation of the lease that takes no new I/O any more.
 */
export const FILE = { generation: 0, fd: 1, thread: 2, closing: 3, words: 4 } as const;

/** The queue between submitters and I/O workers; written under its lock. */
export const QUEUE = {
  lock: 0,
  head: 3,
  tail: 4,
  /** A bit for each worker that sleeps because it found nothing. */
  idleMask: 5,
  /** Workers there are, as the supervisor keeps count: a bit for each slot. */
  workerMask: 6,
  /** 1 when a worker wants to be joined by another (auto-sizing); the supervisor's bell is `growBell`. */
  growRequested: 7,
  growBell: 8,
  /** Auto-sizing: 0 off; else the limits and the idle time, set by the supervisor. */
  workersMin: 9,
  workersMax: 10,
  idleTimeoutMs: 11,
  entries: 16,
  words: 80,
} as const;
assert.equal(QUEUE.words, QUEUE.entries + WORKER_QUEUE_SLOTS);

/** One I/O worker, on a line of its own. */
export const WORKER = {
  /** Counted up to wake it. */
  wake: 0,
  /** Handle being executed plus one; 0 while it has none. Written by the worker. */
  current: 1,
  /** 1: finish and leave. Written by the supervisor. */
  leave: 2,
  /** I/Os done and times woken, both halved when either is large; the worker's own. */
  ios: 3,
  wakeups: 4,
  /** 1 once the thread has got as far as its loop. */
  started: 5,
  /** Low bits of the generation of `current`, stored before it: the handle may have its next life already. */
  generation: 6,
  words: 16,
} as const;

/** One armed fault, see faults.ts. */
export const FAULT = {
  armed: 0,
  point: 1,
  operation: 2,
  fd: 3,
  skip: 4,
  times: 5,
  result: 6,
  hits: 7,
  gate: 8,
  thread: 9,
  words: 16,
} as const;

/** The sizes of a system. */
export interface LayoutSizes {
  readonly backends: number;
  readonly concurrency: number;
  readonly combine: number;
  readonly files: number;
}

/** Where everything is. */
export interface Layout extends LayoutSizes {
  readonly backendsAt: number;
  readonly handlesAt: number;
  readonly vectorsAt: number;
  readonly dataAt: number;
  readonly filesAt: number;
  readonly queueAt: number;
  readonly workersAt: number;
  readonly faultsAt: number;
  readonly words: number;
}

const round = (words: number): number => Math.ceil(words / LINE_WORDS) * LINE_WORDS;

/** Computes the layout for some sizes. Every record begins on a line. */
export function computeLayout(sizes: LayoutSizes): Layout {
  const { backends, concurrency, combine, files } = sizes;
  const handles = backends * concurrency;
  const backendsAt = HEADER.words;
  const handlesAt = backendsAt + backends * BACKEND.words;
  const vectorsAt = handlesAt + handles * HANDLE.words;
  const dataAt = round(vectorsAt + handles * combine * VECTOR.words);
  const filesAt = round(dataAt + handles * combine);
  const queueAt = round(filesAt + files * FILE.words);
  const workersAt = round(queueAt + QUEUE.words);
  const faultsAt = workersAt + IO_WORKERS_MAX * WORKER.words;
  const words = faultsAt + FAULTS_MAX * FAULT.words;
  const at = { backendsAt, handlesAt, vectorsAt, dataAt, filesAt, queueAt, workersAt, faultsAt };
  for (const start of [backendsAt, handlesAt, filesAt, queueAt, workersAt, faultsAt]) {
    assert(start % LINE_WORDS === 0);
  }
  return { backends, concurrency, combine, files, ...at, words };
}

/** Byte of a word that holds four; `shift` is where it begins. */
export function byteAt(word: number, shift: number): number {
  return (word >>> shift) & 0xff;
}

/** Writes the header of fresh memory. */
export function writeHeader(words: Int32Array, layout: Layout, method: number, registryHash: number): void {
  words[HEADER.version] = LAYOUT_VERSION;
  words[HEADER.registryHash] = registryHash;
  words[HEADER.method] = method;
  words[HEADER.backends] = layout.backends;
  words[HEADER.concurrency] = layout.concurrency;
  words[HEADER.combine] = layout.combine;
  words[HEADER.files] = layout.files;
  words[HEADER.backendsAt] = layout.backendsAt;
  words[HEADER.handlesAt] = layout.handlesAt;
  words[HEADER.vectorsAt] = layout.vectorsAt;
  words[HEADER.dataAt] = layout.dataAt;
  words[HEADER.filesAt] = layout.filesAt;
  words[HEADER.queueAt] = layout.queueAt;
  words[HEADER.workersAt] = layout.workersAt;
  words[HEADER.faultsAt] = layout.faultsAt;
  // Last: whoever sees the magic number sees the rest.
  Atomics.store(words, HEADER.magic, LAYOUT_MAGIC);
}

/**
 * The layout of memory that another thread has prepared.
 *
 * @throws {AioError} ERR_AIO_BAD_STATE: not a system's memory, or one of another version of this package
 */
export function readLayout(words: Int32Array): Layout {
  const [magic, version] = [words[HEADER.magic], words[HEADER.version]];
  if (magic !== LAYOUT_MAGIC || version !== LAYOUT_VERSION) {
    throw new AioError("ERR_AIO_BAD_STATE", `not an asynchronous I/O system of layout ${LAYOUT_VERSION}`);
  }
  const size = (word: number): number => words[word] ?? 0;
  const layout = computeLayout({
    backends: size(HEADER.backends),
    concurrency: size(HEADER.concurrency),
    combine: size(HEADER.combine),
    files: size(HEADER.files),
  });
  assert.equal(layout.faultsAt, size(HEADER.faultsAt));
  return layout;
}
