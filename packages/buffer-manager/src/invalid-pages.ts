/**
 * Pages that the log changes and that are not there while it is redone: noted, and forgotten when the log drops them later.
 *
 * A page may be missing because what was logged first was done first: the relation was dropped or cut short before the crash,
 * and the log will say so further on. What is still noted once the log has been redone to where the data is consistent has
 * been lost. After log_invalid_page, forget_invalid_pages and XLogCheckInvalidPages of PostgreSQL 18.
 */
import { BufferError } from "./errors.js";
import type { Fork, Relation, Tag } from "./tag.js";

/** Pages named in the message of an error. */
const NAMED_MAX = 5;

/** A page that is not as the log has it. */
export interface InvalidPage extends Tag {
  /** Whether there is such a block, with nothing on it; otherwise the file ends before it, or there is none. */
  readonly isPresent: boolean;
}

/** The pages of one recovery. */
export class InvalidPages {
  readonly #pages = new Map<string, InvalidPage>();
  #isConsistent = false;

  /** Pages noted. */
  get size(): number {
    return this.#pages.size;
  }

  /** Those pages, in the order in which they were met. */
  list(): InvalidPage[] {
    return [...this.#pages.values()];
  }

  /**
   * Notes a page, once.
   *
   * @throws {BufferError} ERR_BUFFER_MISSING_PAGE: the data is consistent already, so it has been lost
   */
  note(relation: Relation, fork: Fork, block: number, isPresent: boolean): void {
    const { tablespace, database, relation: number } = relation;
    const page: InvalidPage = { tablespace, database, relation: number, fork, block, isPresent };
    if (this.#isConsistent) throw missing([page]);
    const key = `${tablespace}/${database}/${number}/${fork}/${block}`;
    if (!this.#pages.has(key)) this.#pages.set(key, page);
  }

  /** Forgets pages of a fork from a block on: the log has dropped them, or cut the fork. @returns how many */
  forget({ tablespace, database, relation }: Relation, fork: Fork, from: number): number {
    return this.#forget(
      (page) =>
        page.relation === relation &&
        page.database === database &&
        page.tablespace === tablespace &&
        page.fork === fork &&
        page.block >= from,
    );
  }

  /** Forgets all pages of a database: the log has dropped it. @returns how many */
  forgetDatabase(database: number): number {
    return this.#forget((page) => page.database === database);
  }

  /**
   * Says that the log has been redone to where the data is consistent: from now on a missing page is an error at once.
   *
   * @throws {BufferError} ERR_BUFFER_MISSING_PAGE: pages are noted, and nothing will drop them any more
   */
  reachConsistency(): void {
    if (this.#pages.size > 0) throw missing(this.list());
    this.#isConsistent = true;
  }

  #forget(matches: (page: InvalidPage) => boolean): number {
    let count = 0;
    for (const [key, page] of this.#pages) {
      if (matches(page) && this.#pages.delete(key)) count += 1;
    }
    return count;
  }
}

function missing(pages: readonly InvalidPage[]): BufferError {
  const names = pages.slice(0, NAMED_MAX).map(({ isPresent, ...tag }) => {
    const what = isPresent ? "is empty" : "is missing";
    return `block ${tag.block} of fork ${tag.fork} of relation ${tag.tablespace}/${tag.database}/${tag.relation} ${what}`;
  });
  const rest = pages.length > NAMED_MAX ? `, and ${pages.length - NAMED_MAX} more` : "";
  return new BufferError(
    "ERR_BUFFER_MISSING_PAGE",
    `the log changes pages that are lost: ${names.join(", ")}${rest}`,
  );
}
