/**
 * A backend of the pool: what one thread has of its own, and everything its parts work with.
 *
 * One object is made when a thread attaches and handed to each part; parts keep what they need of it.
 */
import { threadId, isMainThread } from "node:worker_threads";
import { attachBackend } from "@millrace/aio";
import type { AioBackend, AioRegistry, BackendOptions, IoScope } from "@millrace/aio";
import type { PoolMemory } from "@millrace/aligned-buffers";

import { BufferError } from "./errors.js";
import type { BufferWarningCode } from "./errors.js";
import type { FileLayer, WalHooks } from "./file-layer.js";
import { BufferHeaders } from "./headers.js";
import { createHitCalls } from "./hit-module.js";
import type { HitCalls } from "./hit-module.js";
import { BACKEND, BACKEND_KINDS, HEADER } from "./layout.js";
import type { BackendKind, PoolLayout } from "./layout.js";
import { OwnBuffersHolder } from "./own-buffers.js";
import { Pins } from "./pins.js";
import { acknowledgeResize, wakeResizer, watchResizes } from "./resize-barrier.js";
import type { PoolHook, PoolPoint } from "./points.js";
import { checkPoolPanic, openPool } from "./pool-core.js";
import type { PoolShared } from "./pool-core.js";
import { createPoolRegistry } from "./registry.js";
import type { PoolSettings } from "./settings.js";
import { foldStatistics } from "./io-statistics.js";
import { Counters } from "./statistics.js";
import { Waiter } from "./waiting.js";
import { WRITE_BACK_AFTER } from "./write-back.js";

/** How a thread takes part in a pool. */
export interface AttachOptions {
  /** Makes this thread's files. */
  readonly files: (aio: AioBackend, shared: PoolShared) => FileLayer;
  /** The log; without it every LSN counts as durable. */
  readonly wal?: WalHooks;
  /** Whether this thread may sleep. Unless said otherwise worker threads may, the main thread may not. */
  readonly mayBlock?: boolean;
  /** Hears of what harms nobody now, but should not be. */
  readonly onWarning?: (code: BufferWarningCode, message: string) => void;
  /** Pages that it writes itself before the kernel is asked to write back: 0, never, unless said otherwise; up to 256. */
  readonly writeBackAfter?: number;
  /** Options of its I/O. */
  readonly aio?: Omit<BackendOptions, "mayBlock">;
  /** What this thread is for; its I/O is counted under it. A client's backend unless said otherwise. */
  readonly kind?: BackendKind;
  /** For tests. */
  readonly hook?: PoolHook;
}

/** A backend's own things. */
export interface BackendContext {
  /** Number of the backend in the pool, from 0. */
  readonly id: number;
  /** Its first word. */
  readonly at: number;
  /** Whether it has left. */
  readonly life: { isOver: boolean };
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly layout: PoolLayout;
  readonly settings: PoolSettings;
  readonly frames: PoolMemory;
  /** Whether its pages may be registered with io_uring, as fixed buffers: they must stay what they are. */
  readonly isMemoryRegistered: boolean;
  readonly headers: BufferHeaders;
  readonly pins: Pins;
  /** The path of a hit in WebAssembly. */
  readonly hitCalls: HitCalls;
  readonly counters: Counters;
  readonly aio: AioBackend;
  /** Where its I/Os are acquired; open as long as the backend is attached. */
  readonly ioScope: IoScope;
  readonly waiter: Waiter;
  readonly files: FileLayer;
  readonly wal: WalHooks;
  readonly writeBackAfter: number;
  readonly mayBlock: boolean;
  /** Its buffers for temporary relations, as the callbacks of their reads find them. */
  readonly ownBuffers: OwnBuffersHolder;
  /** Tells of what harms nobody now, but should not be. */
  readonly warn: (code: BufferWarningCode, message: string) => void;
  /** Reaches a control point. */
  readonly reach: (point: PoolPoint, buffer: number) => void;
}

const NO_WAL: WalHooks = { flush: () => undefined, isDurable: () => true };

/**
 * Makes this thread a backend of a pool.
 *
 * @throws {BufferError} ERR_BUFFER_LIMIT: all backends are in use; ERR_BUFFER_CLOSED; ERR_BUFFER_PANIC
 */
export function attachContext(shared: PoolShared, options: AttachOptions): BackendContext {
  const view = openPool(shared);
  const { words, layout } = view;
  checkPoolPanic(words);
  if (Atomics.load(words, HEADER.closing) !== 0)
    throw new BufferError("ERR_BUFFER_CLOSED", "the pool is closed");
  const mayBlock = options.mayBlock ?? !isMainThread;
  const id = takeBackend(words, layout);
  if (id < 0) {
    throw new BufferError("ERR_BUFFER_LIMIT", `all ${layout.backends} backends of the pool are in use`);
  }
  const at = layout.backendsAt + id * layout.backendWords;
  words.fill(0, at + 1, at + layout.backendWords);
  words[at + BACKEND.kind] = BACKEND_KINDS.indexOf(options.kind ?? "client backend");
  const headers = new BufferHeaders(words, layout, at, mayBlock);
  acknowledgeResize(headers, at);
  const { hook, wal = NO_WAL } = options;
  const hitCalls = createHitCalls(shared.control, layout, at);
  const reach: BackendContext["reach"] =
    hook === undefined ? () => undefined : (point, buffer) => hook(point, id, buffer);
  const ownBuffers = new OwnBuffersHolder();
  const registry = createPoolRegistry(shared, {
    own: ownBuffers,
    hook: hook === undefined ? undefined : (buffer) => reach("read:completing", buffer),
  });
  const aio = attachIo(shared, registry, { ...options.aio, mayBlock }, at, words);
  const files = options.files(aio, shared);
  const life = { isOver: false };
  void watchResizes(headers, at, life);
  return {
    ...view,
    life,
    id,
    at,
    isMemoryRegistered: shared.aio.fixBuffers,
    headers,
    pins: new Pins(headers, at, hitCalls),
    hitCalls,
    counters: new Counters(view.doubles, layout.statisticsAt + id * layout.statisticsDoubles),
    aio,
    ioScope: aio.openScope(),
    waiter: new Waiter(headers, at, { aio, wal, files }, mayBlock),
    files,
    wal,
    writeBackAfter: options.writeBackAfter ?? WRITE_BACK_AFTER.backend,
    mayBlock,
    ownBuffers,
    reach,
    warn: options.onWarning ?? (() => undefined),
  };
}

function attachIo(
  shared: PoolShared,
  registry: AioRegistry,
  options: BackendOptions,
  at: number,
  words: Int32Array,
): AioBackend {
  try {
    return attachBackend(shared.aio, registry, options);
  } catch (error) {
    Atomics.store(words, at + BACKEND.inUse, 0);
    throw error;
  }
}

/**
 * Gives the backend's place back. It holds no pin, no lock and no I/O any more. What it has counted stays with the pool.
 *
 * @throws {BufferError} ERR_BUFFER_PANIC: a thread died while it kept the statistics; the place is given back all the same
 */
export function detachContext(context: BackendContext): void {
  try {
    foldStatistics(context, context.id, context.id, context.mayBlock);
  } finally {
    Atomics.compareExchange(context.words, HEADER.backgroundWriter, context.id + 1, 0);
    context.life.isOver = true;
    Atomics.store(context.words, context.at + BACKEND.inUse, 0);
    wakeResizer(context.headers);
    // Those who watch for resizes, this backend's own among them, look up.
    Atomics.notify(context.words, HEADER.resizeGeneration);
  }
}

function takeBackend(words: Int32Array, layout: PoolLayout): number {
  for (let id = 0; id < layout.backends; id++) {
    const at = layout.backendsAt + id * layout.backendWords + BACKEND.inUse;
    if (Atomics.compareExchange(words, at, 0, threadId + 1) === 0) return id;
  }
  return -1;
}
