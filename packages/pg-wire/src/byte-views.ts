/**
 * Views between Uint8Array, which the public face speaks, and Buffer, whose integer readers are what the codecs use.
 * Nothing here copies; a string that travels is copied by its nature.
 */
import { protocolError } from "./errors.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The same bytes as a Buffer; the argument itself if it is one. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Decodes UTF-8 and refuses what is not.
 *
 * @throws {WireError} ERR_WIRE_PROTOCOL naming `what`
 */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw protocolError(`${what} is not valid UTF-8`);
  }
}
