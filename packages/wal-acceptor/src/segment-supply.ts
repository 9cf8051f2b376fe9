/**
 * What a log needs of its directory while it is written, done beside the writing: the next segment, full of zeros, before
 * the current one ends; and the full name of one that has ended.
 *
 * Both take milliseconds (a segment's worth of zeros, syncs of file and directory), and no commit waits for them: a complete
 * segment is recognised under either name. Steps run one after the other; whoever changes files otherwise waits for all of
 * them first (`idle`). A preparation that fails is tried again when the segment is needed, and its error is told then; a
 * completion that fails is told to whoever writes next. Failed syncs poison the store, wherever they happen.
 */
import { isAcceptorError } from "./errors.js";
import type { SegmentFiles } from "./segment-files.js";

/** The background work on one log's segments. */
export class SegmentSupply {
  readonly #files: SegmentFiles;
  #last: Promise<void> = Promise.resolve();
  /** The segment that is being prepared, or whose preparation has failed. */
  #preparing: { readonly segno: bigint; readonly done: Promise<void> } | undefined;
  #failure: unknown;

  constructor(files: SegmentFiles) {
    this.#files = files;
  }

  /** Begins to make a segment, if it is neither there nor being made, and was not refused before. Waits for nothing. */
  prepare(segno: bigint): void {
    if (this.#preparing?.segno === segno || this.#files.has(segno)) return;
    const done = this.#after(() => this.#files.create(segno));
    this.#preparing = { segno, done };
    done.catch(() => undefined);
  }

  /**
   * Resolves once the segment is there; makes it if nobody has.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, _IO, _POISONED
   */
  async ensure(segno: bigint): Promise<void> {
    const preparing = this.#preparing;
    this.#preparing = undefined;
    if (preparing?.segno === segno) {
      try {
        await preparing.done;
      } catch (error) {
        if (isAcceptorError(error, "ERR_ACCEPTOR_POISONED")) throw error;
      }
    }
    if (!this.#files.has(segno)) await this.#after(() => this.#files.create(segno));
  }

  /** Begins to give a segment its full name. Waits for nothing. */
  complete(segno: bigint): void {
    this.#after(() => this.#files.complete(segno)).catch((error: unknown) => {
      this.#failure ??= error;
    });
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    this.#preparing = undefined;
    await this.#last;
  }

  /** What a completion has failed with since this was last asked; asking clears it. */
  takeFailure(): unknown {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  #after(step: () => Promise<void>): Promise<void> {
    const done = this.#last.then(step);
    this.#last = done.catch(() => undefined);
    return done;
  }
}
