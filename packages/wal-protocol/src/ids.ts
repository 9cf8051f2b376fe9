/**
 * Tenant and timeline ids: 128 bits, 32 hexadecimal digits in text and in version 3, 16 raw bytes in version 2.
 *
 * The canonical text is lower case; upper case is accepted from peers and folded, so that ids can be compared as
 * strings everywhere else.
 */
import { Buffer } from "node:buffer";
import { ProtocolError } from "./errors.js";

export const ID_BYTES = 16;
const ID_PATTERN = /^[0-9a-f]{32}$/i;

/** Folds a peer's id to lower case. */
export function parseId(text: string, what: string): string {
  if (!ID_PATTERN.test(text)) {
    throw new ProtocolError("ERR_PROTOCOL_FIELD", `${what} is not 32 hexadecimal digits`);
  }
  return text.toLowerCase();
}

export function idFromBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** The raw bytes of our own caller's id. */
export function idToBytes(id: string): Uint8Array {
  if (!ID_PATTERN.test(id)) throw new RangeError("id is not 32 hexadecimal digits");
  return Buffer.from(id, "hex");
}
