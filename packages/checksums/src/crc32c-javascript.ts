/**
 * CRC-32C in plain JavaScript, eight bytes at a time.
 *
 * Serves short inputs, where copying into WebAssembly's memory would cost more than it saves, and machines without
 * WebAssembly. Works on the raw register; the inversions before and after are the caller's.
 *
 * Idea: slicing-by-8 of Kounavis and Berry (Intel, 2005).
 */
import { slicingTables } from "./polynomial.js";

/** At load, not at first use: a check for their presence on every call costs more than making them (some 0.1 ms). */
const TABLES: Int32Array = slicingTables();

/**
 * Feeds the bytes from `start` to before `end` to a raw register.
 *
 * @param bytes borrowed for the call; has them all
 * @returns the new register, as signed 32-bit
 */
export function updateInJavaScript(
  register: number,
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
): number {
  const tables = TABLES;
  let crc = register | 0;
  let at = start;
  // Every index is in range: bytes are below 256 and `at` below the length, so that no read is undefined.
  for (const last = end - 8; at <= last; at += 8) {
    const low =
      crc ^
      ((bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24));
    crc =
      (tables[1792 + (low & 255)] as number) ^
      (tables[1536 + ((low >>> 8) & 255)] as number) ^
      (tables[1280 + ((low >>> 16) & 255)] as number) ^
      (tables[1024 + (low >>> 24)] as number) ^
      (tables[768 + (bytes[at + 4] as number)] as number) ^
      (tables[512 + (bytes[at + 5] as number)] as number) ^
      (tables[256 + (bytes[at + 6] as number)] as number) ^
      (tables[bytes[at + 7] as number] as number);
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ (tables[(crc ^ (bytes[at] as number)) & 255] as number);
  return crc;
}
