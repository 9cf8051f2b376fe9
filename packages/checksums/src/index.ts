/** The public face of @millrace/checksums: CRC-32C, the checksum of PostgreSQL's WAL records and control file. */
export { combineCrc32c, Crc32c, crc32c, crc32cMethod } from "./crc32c.js";
