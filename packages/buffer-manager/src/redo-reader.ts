/**
 * Reading pages while a log is redone: what the log changes need not be there.
 *
 * A page that is missing, or that nothing was ever written on, is noted in the mode "normal", since the log may drop it later; in
 * the mode "normalNoLog" it is not: whoever asks has another way to do without it. The modes that make zeros get a page in any
 * case, and the fork with it, without the lock for extending: one thread redoes the log of a relation. After
 * XLogReadBufferExtended of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { forkSize } from "./extension.js";
import { InvalidPages } from "./invalid-pages.js";
import type { PageReader, ReadMode } from "./page-reader.js";
import type { PoolScopes } from "./pool-scope.js";
import type { RelationExtender } from "./relation-extender.js";
import { isNewPage } from "./set-checksum.js";
import { FORK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** How a page is read while the log is redone. */
export interface RedoReadOptions {
  /** The main fork unless given. */
  readonly fork?: Fork;
  /** "normal" unless given. */
  readonly mode?: ReadMode;
}

/** What reading needs of its backend. */
export interface RedoReaderParts {
  readonly context: BackendContext;
  readonly pages: PageReader;
  readonly extender: RelationExtender;
  readonly scopes: PoolScopes | undefined;
  check(): void;
}

/** Reads pages for a recovery, as one backend. Made by `BufferManager.createRedoReader`. */
export class RedoReader {
  /** Pages that were missing; to be told what the log drops, and when the data is consistent. */
  readonly invalidPages: InvalidPages;
  readonly #parts: RedoReaderParts;

  constructor(parts: RedoReaderParts, invalidPages: InvalidPages) {
    this.#parts = parts;
    this.invalidPages = invalidPages;
  }

  /**
   * Pins a page, reading it if need be, and locks it in the modes that say so.
   *
   * @returns the buffer; 0 if the page is missing or empty: then the change to it is not redone. In the mode "normalNoLog" an
   *   empty page is returned
   * @throws {BufferError} ERR_BUFFER_MISSING_PAGE: it is missing although the data is consistent; as `BufferManager.read` and
   *   `extendTo`
   */
  read(relation: Relation, block: number, options: RedoReadOptions = {}): number {
    this.#parts.check();
    const scope = this.#parts.scopes?.current;
    const buffer = this.#parts.context.waiter.run(this.#read(relation, block, options, true));
    if (buffer > 0) scope?.remember(buffer);
    return buffer;
  }

  /** As `read`, without sleeping. */
  async readAsync(relation: Relation, block: number, options: RedoReadOptions = {}): Promise<number> {
    this.#parts.check();
    const scope = this.#parts.scopes?.current;
    const buffer = await this.#parts.context.waiter.runAsync(this.#read(relation, block, options, false));
    if (buffer > 0) scope?.remember(buffer);
    return buffer;
  }

  *#read(
    relation: Relation,
    block: number,
    { fork = FORK.main, mode = "normal" }: RedoReadOptions,
    isBlocking: boolean,
  ): Waiting<number> {
    if (relation.persistence === "temporary") throw new TypeError("temporary relations are not in the log");
    const { context, pages, extender } = this.#parts;
    if (block >= forkSize(context.files, relation, fork, { createFork: true })) {
      if (mode === "normal") this.invalidPages.note(relation, fork, block, false);
      if (mode === "normal" || mode === "normalNoLog") return 0;
      const options = { fork, mode, createFork: true, skipLock: true };
      return yield* extender.extendTo(relation, block + 1, options, isBlocking);
    }
    const buffer = yield* pages.read(relation, fork, block, null, mode, isBlocking);
    // Without a lock: nobody else changes pages while the log is redone.
    if (mode !== "normal" || !isNewPage(context.frames.view(buffer - 1))) return buffer;
    context.pins.unpin(buffer - 1);
    this.invalidPages.note(relation, fork, block, true);
    return 0;
  }
}
