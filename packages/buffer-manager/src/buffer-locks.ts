/**
 * The calls of a buffer manager that lock pages.
 *
 * A page of a temporary relation is nobody else's: locking it is allowed, so that code need not tell the kinds apart, and does
 * nothing. `BufferManager` inherits these calls. Every `x` that may have to wait has a twin `xAsync`, which does not sleep.
 */
import type { BackendContext } from "./backend-context.js";
import type { BackendParts } from "./backend-parts.js";
import { BufferReads } from "./buffer-reads.js";
import type { CleanupLocks } from "./cleanup-lock.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import type { LatchMode } from "./latch.js";

/** The locking part of a buffer manager. */
export class BufferLocks extends BufferReads {
  readonly #parts: BackendParts;
  readonly #context: BackendContext;
  readonly #locks: ContentLocks;
  readonly #cleanup: CleanupLocks;

  constructor(parts: BackendParts) {
    super(parts);
    this.#parts = parts;
    this.#context = parts.context;
    this.#locks = parts.locks;
    this.#cleanup = parts.cleanup;
  }

  /**
   * Locks a page: "shared" to look at it, "exclusive" to change it.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has no pin on it; ERR_BUFFER_WOULD_BLOCK: it is locked and this
   *   thread must not sleep, or has itself the lock that it would wait for; ERR_BUFFER_LIMIT: too many locks
   */
  lock(buffer: number, mode: LatchMode): void {
    if (this.#isOwn(buffer)) return;
    const index = this.#parts.pinned(buffer);
    if (this.#locks.tryLock(index, mode)) return;
    this.#checkSelf(index, mode);
    this.#context.waiter.run(this.#locks.lock(index, mode));
  }

  /** As `lock`, without sleeping. */
  async lockAsync(buffer: number, mode: LatchMode): Promise<void> {
    if (this.#isOwn(buffer)) return;
    const index = this.#parts.pinned(buffer);
    if (!this.#locks.tryLock(index, mode)) await this.#context.waiter.runAsync(this.#locks.lock(index, mode));
  }

  /** Locks a page if nobody has it locked against that. @throws {BufferError} ERR_BUFFER_BAD_ID, ERR_BUFFER_LIMIT */
  tryLock(buffer: number, mode: LatchMode): boolean {
    return this.#isOwn(buffer) || this.#locks.tryLock(this.#parts.pinned(buffer), mode);
  }

  /** Lets go of the lock that this backend took last on a page. @throws {BufferError} ERR_BUFFER_BAD_ID: it has none */
  unlock(buffer: number): void {
    if (!this.#isOwn(buffer)) this.#locks.unlock(buffer - 1);
  }

  /**
   * Locks a page exclusively as soon as nobody else has it pinned, so that its items may be moved.
   *
   * @throws {BufferError} ERR_BUFFER_PIN_COUNT: this backend has not exactly one pin on it; ERR_BUFFER_CLEANUP_WAITER:
   *   another backend waits for that already; ERR_BUFFER_WOULD_BLOCK
   */
  lockForCleanup(buffer: number): void {
    if (this.#isOwn(buffer)) {
      this.#checkOnlyPin(buffer);
      return;
    }
    const index = this.#parts.pinned(buffer);
    if (this.#cleanup.tryLock(index)) return;
    this.#checkSelf(index, "exclusive");
    this.#context.waiter.run(this.#cleanup.lock(index));
  }

  /** As `lockForCleanup`, without sleeping. */
  async lockForCleanupAsync(buffer: number): Promise<void> {
    if (this.#isOwn(buffer)) {
      this.#checkOnlyPin(buffer);
      return;
    }
    const index = this.#parts.pinned(buffer);
    if (!this.#cleanup.tryLock(index)) await this.#context.waiter.runAsync(this.#cleanup.lock(index));
  }

  /** Takes a cleanup lock if it can be had at once, and this backend has exactly one pin. */
  tryLockForCleanup(buffer: number): boolean {
    if (this.#isOwn(buffer)) return this.#isOnlyPin(buffer);
    return this.#cleanup.tryLock(this.#parts.pinned(buffer));
  }

  /** Whether the exclusive lock that this backend has on a page is as good as a cleanup lock. */
  isCleanupOk(buffer: number): boolean {
    if (this.#isOwn(buffer)) return this.#isOnlyPin(buffer);
    return this.#cleanup.isOk(this.#parts.pinned(buffer));
  }

  /** Whether a buffer is one of this backend's own. @throws {BufferError} ERR_BUFFER_BAD_ID: it is, and not pinned */
  #isOwn(buffer: number): boolean {
    if (buffer < 0) this.#parts.pinnedOwn(buffer);
    return buffer < 0;
  }

  #isOnlyPin(buffer: number): boolean {
    return this.#parts.local.pinCount(-1 - buffer) === 1;
  }

  #checkOnlyPin(buffer: number): void {
    if (this.#isOnlyPin(buffer)) return;
    const count = this.#parts.local.pinCount(-1 - buffer);
    const message = `a cleanup lock needs one pin of this backend on buffer ${buffer}, not ${count}`;
    throw new BufferError("ERR_BUFFER_PIN_COUNT", message);
  }

  #checkSelf(index: number, mode: LatchMode): void {
    if (!this.#locks.wouldWaitForSelf(index, mode)) return;
    const message = `buffer ${index + 1} is locked by this backend, which would wait for itself`;
    throw new BufferError("ERR_BUFFER_WOULD_BLOCK", message);
  }
}
