/**
 * The parts of one backend that several others work with, made once: locks, writing, allocation, reading.
 *
 * They know each other in one direction only: a victim is written by the writer, which takes I/O locks. What a backend does for
 * its caller, such as noting pins in scopes, is the buffer manager's.
 */
import { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { CleanupLocks } from "./cleanup-lock.js";
import { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import { Extender } from "./extend.js";
import { IoLocks } from "./io-lock.js";
import { HEADER } from "./layout.js";
import { LocalBuffers } from "./local-buffers.js";
import { PageReader } from "./page-reader.js";
import { PageWriter } from "./page-writer.js";
import { checkPoolPanic } from "./pool-core.js";
import type { PoolScopes } from "./pool-scope.js";
import { PIN_SLOTS } from "./pins.js";
import { LocalReadBuffers, SharedReadBuffers } from "./read-buffers.js";
import { Reader } from "./reader.js";
import { RelationExtender } from "./relation-extender.js";
import { acknowledgeResize } from "./resize-barrier.js";
import { pinLimit } from "./ring-sizes.js";
import { Session } from "./session.js";

/** The parts of a backend. */
export class BackendParts {
  readonly context: BackendContext;
  readonly locks: ContentLocks;
  readonly ioLocks: IoLocks;
  readonly writer: PageWriter;
  readonly allocator: Allocator;
  readonly cleanup: CleanupLocks;
  /** What the backend has set for itself. */
  readonly session: Session;
  readonly reader: Reader;
  readonly pages: PageReader;
  readonly extender: RelationExtender;
  /** Where pins are noted; set by who makes the backend. */
  scopes: PoolScopes | undefined;
  /** False once the backend has left the pool. */
  isAttached = true;
  #local: LocalBuffers | undefined;

  constructor(context: BackendContext) {
    this.context = context;
    this.locks = new ContentLocks(context);
    this.ioLocks = new IoLocks(context.headers, context.id);
    this.writer = new PageWriter(context, this.ioLocks);
    this.allocator = new Allocator(context, this.locks, this.writer);
    this.cleanup = new CleanupLocks(context, this.locks);
    this.session = new Session(context.settings);
    const { allocator, ioLocks, locks: contentLocks, cleanup: cleanupLocks } = this;
    const shared = new SharedReadBuffers(context, allocator, ioLocks);
    this.reader = new Reader(context, shared, () => new LocalReadBuffers(this.local), this.session);
    const { reader } = this;
    this.pages = new PageReader(context, { reader, allocator, ioLocks, contentLocks, cleanupLocks });
    const { writer, locks } = this;
    const additionalPins = (): number => this.additionalPins;
    const extender = new Extender({ context, allocator, locks, ioLocks, writer, additionalPins });
    this.extender = new RelationExtender(this, extender);
  }

  /** The buffers of its temporary relations; made when they are first asked for. */
  get local(): LocalBuffers {
    if (this.#local === undefined) {
      this.#local = new LocalBuffers(this.context);
      this.context.ownBuffers.buffers = this.#local;
    }
    return this.#local;
  }

  /** The index of a buffer of the pool that this backend has pinned. @throws {BufferError} ERR_BUFFER_BAD_ID: it has not */
  pinned(buffer: number): number {
    if (buffer < 1 || this.context.pins.count(buffer - 1) === 0) throw notABuffer(buffer);
    return buffer - 1;
  }

  /** The same of one of its own buffers. */
  pinnedOwn(buffer: number): number {
    if (this.local.pinCount(-1 - buffer) === 0) throw notABuffer(buffer);
    return -1 - buffer;
  }

  /** Lets go of one pin. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has none on the buffer */
  release(buffer: number): void {
    if (buffer > 0) this.context.pins.unpin(buffer - 1);
    else if (buffer < 0) this.local.unpin(-1 - buffer);
    else throw new BufferError("ERR_BUFFER_BAD_ID", "0 is no buffer");
    if (this.scopes?.current !== undefined) this.scopes.forget(buffer);
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

  /** What each call begins with. @throws {BufferError} ERR_BUFFER_CLOSED, ERR_BUFFER_PANIC */
  check(): void {
    if (!this.isAttached) throw new BufferError("ERR_BUFFER_CLOSED", "this backend has left the pool");
    checkPoolPanic(this.context.words);
    acknowledgeResize(this.context.headers, this.context.at);
  }
}

function notABuffer(buffer: number): BufferError {
  return new BufferError("ERR_BUFFER_BAD_ID", `this backend has no buffer ${buffer} pinned`);
}
