/**
 * What an I/O worker does: take an I/O from the queue, make sure of its file, execute it, complete it, again.
 *
 * A worker issues no I/O of its own and has no backend. The handle in its hands stands in its shared record, so that the
 * supervisor can see to it if the worker dies. If the file cannot be reopened the I/O fails with ENOENT and the worker
 * ends with that error: what made it fail may be wrong with this very thread, and a new one is cheap.
 *
 * PostgreSQL 18's worker loop, and with limits for auto-sizing the rules of version 19: a worker wakes another only
 * while its own history says that those it was woken for were worth it, and asks for a new one when none sleeps.
 */
import { constants } from "node:os";

import { Completer } from "./completion.js";
import { executeNow, settle } from "./execute.js";
import type { HoldPoint } from "./faults.js";
import type { FileLease } from "./file-table.js";
import { HandleView } from "./handle-view.js";
import { HANDLE, QUEUE, WORKER } from "./layout.js";
import type { AioRegistry } from "./registry.js";
import { openThread } from "./thread-context.js";
import type { AioShared, ThreadContext } from "./thread-context.js";
import { countBits, WAKE_FAN_OUT, WorkerQueue } from "./worker-queue.js";

/** Workers as completers and lock holders: above all backends. */
export const WORKER_ID_BASE = 1000;
/** The reopening of a file failed. */
export const RESULT_NOT_REOPENED: number = -constants.errno.ENOENT;
/** Both counters of a worker's history are halved when one gets here. */
const HISTORY_MAX = 1000;

/** Value of a worker's `leave` word that it stores itself, when it leaves for want of work. */
export const LEFT_IDLE = 2;

/** Why a worker ended. */
export type WorkerEnd = "asked" | "idle";

/** Runs a worker until it is asked to leave, or has been idle for too long. Blocks the thread. */
export function runWorker(shared: AioShared, registry: AioRegistry, slot: number): WorkerEnd {
  return new IoWorker(openThread(shared, registry), registry, slot).run();
}

class IoWorker {
  readonly #context: ThreadContext;
  readonly #registry: AioRegistry;
  readonly #slot: number;
  readonly #queue: WorkerQueue;
  readonly #view: HandleView;
  readonly #completer: Completer;
  readonly #at: number;
  readonly #queueAt: number;

  constructor(context: ThreadContext, registry: AioRegistry, slot: number) {
    const { words, layout, table, segments } = context;
    this.#context = context;
    this.#registry = registry;
    this.#slot = slot;
    this.#queue = new WorkerQueue(words, layout, WORKER_ID_BASE + slot, true);
    this.#view = new HandleView(table, segments, -1);
    this.#completer = new Completer(context, registry, this.#view, WORKER_ID_BASE + slot, -1);
    this.#at = layout.workersAt + slot * WORKER.words;
    this.#queueAt = layout.queueAt;
  }

  run(): WorkerEnd {
    const { words } = this.#context;
    Atomics.store(words, this.#at + WORKER.started, 1);
    for (;;) {
      this.#queue.lock();
      const handle = this.#queue.first();
      if (handle >= 0) {
        // The record first: from here on the supervisor finds the handle with us, or in the queue still.
        words[this.#at + WORKER.generation] = this.#context.table.generationLow(handle);
        Atomics.store(words, this.#at + WORKER.current, handle + 1);
        if (this.#context.faults.isArmed) this.#holdAt("taken", handle);
        this.#queue.removeFirst();
        this.#queue.setIdle(this.#slot, false);
        const woken = this.#choosePeers();
        this.#queue.unlock();
        for (const peer of woken) this.#queue.wake(peer);
        this.#execute(handle);
        Atomics.store(words, this.#at + WORKER.current, 0);
        continue;
      }
      // Read before the request to leave is looked at: that one comes without the lock, the word first, then the wake-up.
      const observed = Atomics.load(words, this.#at + WORKER.wake);
      if (Atomics.load(words, this.#at + WORKER.leave) !== 0) return this.#leave("asked");
      this.#queue.setIdle(this.#slot, true);
      Atomics.store(words, this.#queueAt + QUEUE.growRequested, 0);
      this.#queue.unlock();
      if (this.#context.faults.isArmed) this.#context.faults.strike("idle", 0, this.#slot);
      const outcome = Atomics.wait(words, this.#at + WORKER.wake, observed, this.#idleTimeoutMs());
      if (outcome === "timed-out") {
        this.#queue.lock();
        // A wake-up may have come just before the lock: then the mark is gone, and there is work.
        if (this.#queue.isIdle(this.#slot) && this.#mayTimeOut()) {
          Atomics.store(words, this.#at + WORKER.leave, LEFT_IDLE);
          return this.#leave("idle");
        }
        this.#queue.unlock();
      } else {
        this.#countHistory(WORKER.wakeups);
      }
    }
  }

  /** With the lock held. */
  #leave(end: WorkerEnd): WorkerEnd {
    this.#queue.setIdle(this.#slot, false);
    this.#queue.unlock();
    return end;
  }

  #execute(handle: number): void {
    const { table, faults } = this.#context;
    const target = this.#registry.targetOf(table.targetId(handle));
    const lease: FileLease = {
      fd: table.get(handle, HANDLE.fd),
      slot: table.get(handle, HANDLE.fileSlot),
      generation: table.get(handle, HANDLE.fileGeneration),
    };
    try {
      const now = target?.reopen?.(this.#view.of(handle), lease) ?? lease;
      if (now !== lease) this.#changeLease(handle, now);
      if (faults.isArmed) this.#strike(handle);
    } catch (error) {
      this.#completer.complete(handle, RESULT_NOT_REOPENED);
      Atomics.store(table.words, this.#at + WORKER.current, 0);
      throw error;
    }
    const { fd } = lease;
    const operation = table.operation(handle);
    this.#completer.complete(handle, settle(this.#context, handle, executeNow(this.#context, handle)));
    if (faults.isArmed) faults.holdHere("completed", operation, fd);
    this.#countHistory(WORKER.ios);
  }

  #strike(handle: number): void {
    const { table, faults } = this.#context;
    const [operation, fd] = [table.operation(handle), table.get(handle, HANDLE.fd)];
    if (faults.strike("reopen", operation, fd) !== undefined) throw new Error("a fault was armed at reopen");
    this.#holdAt("hold", handle);
  }

  #holdAt(point: HoldPoint, handle: number): void {
    const { table, faults } = this.#context;
    faults.holdHere(point, table.operation(handle), table.get(handle, HANDLE.fd));
  }

  /** The generation last and not plainly: whoever ends the new lease must see the I/O, or we that it has ended. */
  #changeLease(handle: number, lease: FileLease): void {
    const { table } = this.#context;
    const at = table.at(handle);
    table.words[at + HANDLE.fd] = lease.fd;
    table.words[at + HANDLE.fileSlot] = lease.slot;
    Atomics.store(table.words, at + HANDLE.fileGeneration, lease.generation);
  }

  /** Whom to wake, with the lock held: their idle marks are taken. */
  #choosePeers(): number[] {
    const depth = this.#queue.depth;
    if (depth === 0) return [];
    return this.#isAutoSizing ? this.#chooseOnePeer(depth) : this.#chooseLowest(depth);
  }

  #chooseLowest(depth: number): number[] {
    const peers: number[] = [];
    while (peers.length < Math.min(depth, WAKE_FAN_OUT)) {
      const peer = this.#queue.takeIdle();
      if (peer < 0) break;
      peers.push(peer);
    }
    return peers;
  }

  #chooseOnePeer(depth: number): number[] {
    const { words } = this.#context;
    const [ios = 0, wakeups = 0] = [words[this.#at + WORKER.ios], words[this.#at + WORKER.wakeups]];
    if (wakeups > ios) return [];
    const peer = this.#queue.takeIdle(this.#slot + 1);
    if (peer >= 0) return [peer];
    if (depth > countBits(this.#queue.workerMask)) this.#requestGrowth();
    return [];
  }

  /** One request may be outstanding; the supervisor waits on the bell beside it. */
  #requestGrowth(): void {
    const { words } = this.#context;
    if (Atomics.compareExchange(words, this.#queueAt + QUEUE.growRequested, 0, 1) !== 0) return;
    Atomics.add(words, this.#queueAt + QUEUE.growBell, 1);
    Atomics.notify(words, this.#queueAt + QUEUE.growBell);
  }

  get #isAutoSizing(): boolean {
    return this.#context.words[this.#queueAt + QUEUE.workersMin] !== 0;
  }

  #idleTimeoutMs(): number {
    const { words } = this.#context;
    const timeout = words[this.#queueAt + QUEUE.idleTimeoutMs] as number;
    return this.#isAutoSizing && timeout >= 0 && this.#mayTimeOut() ? timeout : Infinity;
  }

  /** Only the highest-numbered worker above the minimum leaves. */
  #mayTimeOut(): boolean {
    const { words } = this.#context;
    const highest = 31 - Math.clz32(this.#queue.workerMask);
    return this.#slot === highest && this.#slot >= (words[this.#queueAt + QUEUE.workersMin] as number);
  }

  #countHistory(word: number): void {
    const { words } = this.#context;
    const count = (words[this.#at + word] as number) + 1;
    words[this.#at + word] = count;
    if (count < HISTORY_MAX) return;
    for (const each of [WORKER.ios, WORKER.wakeups]) {
      words[this.#at + each] = (words[this.#at + each] as number) >> 1;
    }
  }
}
