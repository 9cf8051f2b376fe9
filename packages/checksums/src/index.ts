/** The public face of @millrace/checksums: the two checksums of PostgreSQL, of WAL records and of pages. */
export { combineCrc32c, Crc32c, crc32c, crc32cMethod, crc32cOfRange } from "./crc32c.js";
export { createPageChecksummer, pageChecksum, pageChecksumMethod, verifyPage } from "./page-checksum.js";
export type { PageChecksummer, PageState } from "./page-checksum.js";
export type { MemoryLike } from "./webassembly.js";
