/**
 * What was wrong with the pages of a read: 23 bits that any thread can make, and words that its issuer says.
 *
 * Pages that no sense can be made of fail the read, or become zeros if the issuer wished that; pages with nothing but a
 * wrong checksum may be accepted. One word counts all of it over the pages of an I/O and keeps the first page, after
 * buffer_readv_encode_error of PostgreSQL 18. A count ends at 127, "at least": PostgreSQL's wraps at 128 pages.
 */
import { InvalidPageError } from "./errors.js";

/** Bits of a count, and of an offset in the I/O. */
const COUNT_BITS = 7;
export const COUNT_MAX: number = (1 << COUNT_BITS) - 1;
const COUNT_AT = 2;
const CHECKSUM_AT: number = COUNT_AT + COUNT_BITS;
const FIRST_AT: number = CHECKSUM_AT + COUNT_BITS;

/** What is in the word. */
export interface ReadFaults {
  /** Whether pages were made zeros. */
  readonly isAnyZeroed: boolean;
  /** Whether pages with a wrong checksum were accepted. */
  readonly isAnyIgnored: boolean;
  /** Pages that failed the read; if there is none, pages that were made zeros. */
  readonly count: number;
  /** Pages with a wrong checksum, whatever became of them. */
  readonly checksumFailures: number;
  /** Offset in the I/O of the first page that failed; else that was made zeros; else that was accepted. */
  readonly first: number;
}

/** The word. @param faults counts above 127 are stored as 127 */
export function encodeReadFaults(faults: ReadFaults): number {
  return (
    (faults.isAnyZeroed ? 1 : 0) |
    (faults.isAnyIgnored ? 2 : 0) |
    (Math.min(faults.count, COUNT_MAX) << COUNT_AT) |
    (Math.min(faults.checksumFailures, COUNT_MAX) << CHECKSUM_AT) |
    (faults.first << FIRST_AT)
  );
}

/** What a word says. */
export function decodeReadFaults(word: number): ReadFaults {
  return {
    isAnyZeroed: (word & 1) !== 0,
    isAnyIgnored: (word & 2) !== 0,
    count: (word >>> COUNT_AT) & COUNT_MAX,
    checksumFailures: (word >>> CHECKSUM_AT) & COUNT_MAX,
    first: (word >>> FIRST_AT) & COUNT_MAX,
  };
}

/** The blocks of an I/O, and what they are called. */
export interface ReadRange {
  /** The fork, or its file. */
  readonly name: string;
  readonly block: number;
  readonly blocks: number;
}

/** A message about bad pages. */
export interface ReadMessage {
  readonly message: string;
  /** Number of the first such block. */
  readonly block: number;
  /** Pages it is about. */
  readonly pages: number;
}

function many(count: number): string {
  return count === COUNT_MAX ? `at least ${count}` : String(count);
}

function plural(count: number, noun: string): string {
  return `${many(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Says what was wrong. @param isError whether it failed the read; otherwise it is a warning */
export function describeReadFaults(word: number, isError: boolean, range: ReadRange): ReadMessage {
  const faults = decodeReadFaults(word);
  const { isAnyZeroed, isAnyIgnored, count, checksumFailures } = faults;
  const { name, block, blocks } = range;
  const first = block + faults.first;
  const among = `among blocks ${block}..${block + blocks - 1} of ${name}`;
  if (!isError && isAnyZeroed && isAnyIgnored) {
    const what = `zeroing ${plural(count, "page")} and ignoring ${plural(checksumFailures, "checksum failure")}`;
    const detail = count > 1 ? `; block ${first} held the first zeroed page` : "";
    return { message: `${what} ${among}${detail}`, block: first, pages: count + checksumFailures };
  }
  const isIgnored = !isError && !isAnyZeroed;
  const pages = isIgnored ? checksumFailures : count;
  const kind = isError ? "invalid" : isAnyZeroed ? "zeroed" : "ignored";
  if (pages === 1) {
    if (isIgnored)
      return { message: `ignoring checksum failure in block ${first} of ${name}`, block: first, pages };
    const ending = isError ? "" : "; zeroing out page";
    return { message: `invalid page in block ${first} of ${name}${ending}`, block: first, pages };
  }
  const what = isError
    ? `${many(pages)} invalid pages`
    : isAnyZeroed
      ? `zeroing out ${many(pages)} invalid pages`
      : `ignoring ${many(pages)} checksum failures`;
  return { message: `${what} ${among}; block ${first} held the first ${kind} page`, block: first, pages };
}

/** The error of a read with pages that are not valid. */
export function invalidPages(word: number, range: ReadRange): InvalidPageError {
  const { message, block, pages } = describeReadFaults(word, true, range);
  return new InvalidPageError(message, block, pages);
}
