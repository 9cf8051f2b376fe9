/**
 * A pool: the memory that threads share, the system that does its I/O, and the supervisor of both.
 *
 * The thread that makes it is the supervisor. Backends, its own among them, attach to what `shared` describes.
 */
import type { Worker } from "node:worker_threads";
import { AioSystem } from "@millrace/aio";
import type { AioSystemOptions } from "@millrace/aio";
import { createMemorySegment, createPoolMemory } from "@millrace/aligned-buffers";
import type { MemoryHooks } from "@millrace/aligned-buffers";
import { addressOf, adviseHugePages, nativeStatus } from "@millrace/io-uring";

import { computePoolLayout, HEADER, writePoolHeader } from "./layout.js";
import { stopBackgroundWriter } from "./background-writer.js";
import { fillFreeList } from "./free-list.js";
import { countFrames, openPool } from "./pool-core.js";
import type { PoolCore, PoolShared } from "./pool-core.js";
import { PoolRecovery } from "./recovery.js";
import { createPoolRegistry } from "./registry.js";
import { completeSettings, PAGE_BYTES } from "./settings.js";
import type { PoolSettings } from "./settings.js";
import { STATISTICS_DOUBLES } from "./statistics.js";

/** What a pool is made of. Everything has PostgreSQL's default. */
export interface PoolOptions extends Partial<PoolSettings> {
  /** Options of the I/O system: its method, handles, workers. Segments and registry are the pool's. */
  readonly aio?: Omit<
    AioSystemOptions,
    "segments" | "registry" | "registryModule" | "registryData" | "backendsMax" | "combineMax"
  >;
}

/** From the native part, where there is one. */
function memoryHooks(): MemoryHooks {
  if (!nativeStatus().available) return {};
  return { adviseHugePages: (bytes) => adviseHugePages(bytes), addressOf };
}

/** The module that I/O workers import. Sources run in tests only; a thread runs what was built. */
function registryModuleUrl(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../dist/worker-main.js" : "./worker-main.js", import.meta.url);
}

/** A pool and its supervisor. */
export class BufferPool implements AsyncDisposable {
  /** What other threads attach to: structured-cloneable. */
  readonly shared: PoolShared;
  readonly settings: PoolSettings;
  /** The system that does the pool's I/O. Open to other files too, on the pool's memory. */
  readonly aio: AioSystem;
  readonly #recovery: PoolRecovery;

  private constructor(shared: PoolShared, aio: AioSystem) {
    this.shared = shared;
    this.settings = shared.settings;
    this.aio = aio;
    this.#recovery = new PoolRecovery(openPool(shared), (threadId) => aio.recover(threadId));
  }

  /**
   * Makes a pool of empty buffers. Memory is touched when a buffer is first used.
   *
   * @throws {RangeError} a setting is out of its range
   * @throws {AioError} ERR_AIO_UNAVAILABLE: a required method cannot run here
   */
  static create(options: PoolOptions = {}): BufferPool {
    const settings = completeSettings(options);
    const { buffers, buffersMax, backends } = settings;
    const layout = computePoolLayout(buffersMax, backends, STATISTICS_DOUBLES);
    const { memory: control } = createMemorySegment(layout.words * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(control.buffer);
    fillFreeList(words, layout, buffers);
    writePoolHeader(words, layout, buffers);
    const frames = createPoolMemory({
      frameCount: countFrames(settings),
      frameBytes: PAGE_BYTES,
      hooks: memoryHooks(),
    });
    const core: PoolCore = { control, frames: frames.handle, settings };
    const aio = AioSystem.create({
      ...options.aio,
      segments: frames.segments.map(({ memory }) => memory),
      registry: createPoolRegistry(core),
      registryModule: registryModuleUrl(),
      registryData: core,
      backendsMax: backends,
      combineMax: settings.combineLimit,
    });
    return new BufferPool({ ...core, aio: aio.shared }, aio);
  }

  /**
   * Asks the pool's background writer to end, in whatever thread it runs, after the round that runs.
   *
   * @returns false if there is none
   */
  stopBackgroundWriter(): boolean {
    const { words, layout } = openPool(this.shared);
    return stopBackgroundWriter(words, layout);
  }

  /**
   * Watches over a thread: if it ends without having left the pool, what it held is given back, and its place is free. If it
   * died with a page locked exclusively, or where that cannot be told, the pool stops with ERR_BUFFER_PANIC for everybody:
   * make a new one, and recover from the WAL. Call it right after the thread was made, and not `aio.supervise` too.
   *
   * @returns a promise of the end of the recovery, if there was one
   */
  supervise(worker: Worker): Promise<void> {
    const { threadId } = worker;
    return new Promise((resolve, reject) => {
      worker.once("exit", () => void this.#recovery.recoverThread(threadId).then(resolve, reject));
    });
  }

  /** Ends the pool and its I/O. Backends of other threads must have left. A second call waits for the first. */
  async close(): Promise<void> {
    Atomics.store(new Int32Array(this.shared.control.buffer), HEADER.closing, 1);
    await this.aio.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
