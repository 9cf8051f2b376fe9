/**
 * The parts of one backend that several others work with, made once: locks, writing, allocation.
 *
 * They know each other in one direction only: a victim is written by the writer, which takes I/O locks. What a backend does for
 * its caller, such as noting pins in scopes, is the buffer manager's.
 */
import { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import { IoLocks } from "./io-lock.js";
import { HEADER } from "./layout.js";
import { PageWriter } from "./page-writer.js";
import { checkPoolPanic } from "./pool-core.js";
import type { PoolScopes } from "./pool-scope.js";
import { PIN_SLOTS } from "./pins.js";
import { acknowledgeResize } from "./resize-barrier.js";
import { pinLimit } from "./ring-sizes.js";

/** The parts of a backend. */
export class BackendParts {
  readonly context: BackendContext;
  readonly locks: ContentLocks;
  readonly ioLocks: IoLocks;
  readonly writer: PageWriter;
  readonly allocator: Allocator;
  /** Where pins are noted; set by who makes the backend. */
  scopes: PoolScopes | undefined;
  /** False once the backend has left the pool. */
  isAttached = true;

  constructor(context: BackendContext) {
    this.context = context;
    this.locks = new ContentLocks(context);
    this.ioLocks = new IoLocks(context.headers, context.id);
    this.writer = new PageWriter(context, this.ioLocks);
    this.allocator = new Allocator(context, this.locks, this.writer);
  }

  /** Pins that this backend should not go beyond. Advisory; can be 0. */
  get pinLimit(): number {
    const { words, settings } = this.context;
    return pinLimit(words[HEADER.low] as number, settings.pinBackends);
  }

  /** How many of them are left, as if a few were always in use; can be 0. */
  get additionalPins(): number {
    return Math.max(0, this.pinLimit - (this.context.pins.overflowCount + PIN_SLOTS));
  }

  /** @throws {BufferError} ERR_BUFFER_CLOSED, ERR_BUFFER_PANIC */
  check(): void {
    if (!this.isAttached) throw new BufferError("ERR_BUFFER_CLOSED", "this backend has left the pool");
    checkPoolPanic(this.context.words);
    acknowledgeResize(this.context.headers, this.context.at);
  }
}
