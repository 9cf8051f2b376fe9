/**
 * The checksum of a page that is about to be written, put in its place: PostgreSQL's PageSetChecksumInplace.
 *
 * A new page (all zero, or at least without an upper bound of its free space) has none and stays as it is.
 */
import { pageChecksum } from "@millrace/checksums";

const CHECKSUM_AT = 8;
const UPPER_AT = 14;

/** Whether a page has never been initialised. */
export function isNewPage(page: Uint8Array): boolean {
  return page[UPPER_AT] === 0 && page[UPPER_AT + 1] === 0;
}

/** Sets the checksum of a page unless it is new. @param page lent; nobody else changes it @param block of the fork */
export function setPageChecksum(page: Uint8Array, block: number): void {
  if (isNewPage(page)) return;
  const checksum = pageChecksum(page, block);
  page[CHECKSUM_AT] = checksum & 0xff;
  page[CHECKSUM_AT + 1] = checksum >>> 8;
}
