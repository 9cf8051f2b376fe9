/**
 * Message tags and their width: one byte in version 3; a little-endian u64 in version 2, of which only the low byte
 * counts. Both directions use the same letters, so a tag alone does not tell who sent a message.
 */
import type { ByteReader } from "./byte-reader.js";
import type { ByteWriter } from "./byte-writer.js";
import { ProtocolError } from "./errors.js";
import type { ProtocolVersion } from "./messages.js";

/** ASCII g, v, e, a. */
export const TAG = { greeting: 0x67, vote: 0x76, elected: 0x65, append: 0x61 } as const;

/** Passes the tag, whose low byte the caller has looked at. */
export function readTag(reader: ByteReader, version: ProtocolVersion): void {
  reader.skip(version === 2 ? 8 : 1);
}

export function writeTag(writer: ByteWriter, tag: number, version: ProtocolVersion): void {
  writer.u8(tag);
  if (version === 2) writer.zeros(7);
}

/** The version may come from a peer's START_WAL_PUSH, so it is checked and not asserted. */
export function checkVersion(version: ProtocolVersion): void {
  if (version !== 2 && version !== 3) {
    throw new ProtocolError("ERR_PROTOCOL_VERSION", `unsupported protocol version ${String(version)}`);
  }
}
