/**
 * A pool whose pages are there without having been read, for the tests of what works on cached pages.
 */
import { Allocator } from "../src/allocate.js";
import type { BackendContext } from "../src/backend-context.js";
import { attachContext, detachContext } from "../src/backend-context.js";
import { STATE } from "../src/buffer-state.js";
import { BufferManager } from "../src/buffer-manager.js";
import { ContentLocks } from "../src/content-locks.js";
import type { BufferWarningCode } from "../src/errors.js";
import type { FileLayer } from "../src/file-layer.js";
import { BufferPool } from "../src/pool.js";
import type { PoolOptions } from "../src/pool.js";
import type { PoolHook } from "../src/points.js";
import { CONTEXT } from "../src/statistics.js";
import { RELATION, runNow } from "./replacement.js";

/** Files that nothing is ever done with. */
const noFiles = {
  close: (): void => undefined,
  closeAsync: async (): Promise<void> => {
    await Promise.resolve();
  },
} as FileLayer;

/** A pool with pages in it, and managers. */
export class CachedPool implements AsyncDisposable {
  readonly pool: BufferPool;
  readonly warnings: string[] = [];
  readonly #managers: BufferManager[] = [];
  readonly #context: BackendContext;

  constructor(blocks: readonly number[], options: PoolOptions = {}) {
    this.pool = BufferPool.create({ buffers: 64, aio: { method: "sync" }, ...options });
    this.#context = attachContext(this.pool.shared, { files: () => noFiles, mayBlock: true });
    const context = this.#context;
    const allocator = new Allocator(context, new ContentLocks(context), {
      // eslint-disable-next-line require-yield -- nothing is dirty here
      *flush(): Generator<never, void> {
        throw new Error("nothing is dirty");
      },
    });
    for (const block of blocks) {
      const buffer = runNow(allocator.allocate(RELATION, 0, block, null, CONTEXT.normal));
      context.headers.unlock(buffer, context.headers.lock(buffer) | STATE.valid);
      new Uint32Array(context.frames.view(buffer).buffer, context.frames.byteOffsetOf(buffer), 2048).fill(
        block,
      );
      context.pins.unpin(buffer);
    }
  }

  /** The state of a buffer, by its number. */
  state(buffer: number): number {
    return this.#context.headers.state(buffer - 1);
  }

  /** A manager, for this thread. */
  attach(mayBlock = true, hook?: PoolHook): BufferManager {
    const manager = BufferManager.attach(this.pool.shared, {
      files: () => noFiles,
      mayBlock,
      onWarning: (code: BufferWarningCode) => void this.warnings.push(code),
      ...(hook === undefined ? {} : { hook }),
    });
    this.#managers.push(manager);
    return manager;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const manager of this.#managers) await manager.detachAsync();
    this.#context.aio.detach();
    detachContext(this.#context);
    await this.pool.close();
  }
}
