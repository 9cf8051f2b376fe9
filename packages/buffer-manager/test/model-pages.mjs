// Pages of the model test: a real header, and a version that is written all over the page, so that a page that was torn or
// is of another block is no page at all.

/** Words that the threads of the model test share. */
export const CONTROL = { operations: 0, inserted: 1, durable: 2, refused: 3, words: 16 };
const PAGE_BYTES = 8192;
const HEADER_BYTES = 24;
const STEP_BYTES = 512;
const SALT = 0x5bd1_e995;

function mark(block, version) {
  return (Math.imul(block + 1, SALT) ^ version) | 0;
}

/** Makes a page say that it has been changed `version` times, last by the WAL record at `lsn`. */
export function writeVersion(page, block, version, lsn) {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  view.setUint32(0, 0, true);
  view.setUint32(4, lsn, true);
  view.setUint16(10, 0, true);
  view.setUint16(12, HEADER_BYTES, true);
  view.setUint16(14, PAGE_BYTES, true);
  view.setUint16(16, PAGE_BYTES, true);
  view.setUint16(18, 0x2004, true);
  view.setInt32(HEADER_BYTES, version, true);
  for (let at = STEP_BYTES; at < PAGE_BYTES; at += STEP_BYTES) view.setInt32(at, mark(block, version), true);
}

/** The version of a page; 0 of one that was never written. @throws {Error} it is torn, or another block's */
export function readVersion(page, block) {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const version = view.getInt32(HEADER_BYTES, true);
  const wanted = version === 0 ? 0 : mark(block, version);
  for (let at = STEP_BYTES; at < PAGE_BYTES; at += STEP_BYTES) {
    const found = view.getInt32(at, true);
    if (found !== wanted)
      throw new Error(`block ${block}, version ${version}: torn at byte ${at} (${found})`);
  }
  return version;
}
