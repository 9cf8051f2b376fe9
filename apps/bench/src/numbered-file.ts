/**
 * The file that I/O is measured on: preallocated, random, and every page says which one it is.
 *
 * Random content, so that no device and no file system can compress it away; the page's number in its first word, so
 * that a read can be checked for having brought the page that was asked for. It is written once a suite, synced, and
 * only ever overwritten by the log's own file, so that no measurement pays for allocating blocks.
 */
import { closeSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";

import { pseudoRandomBytes } from "./pseudo-random.js";

/** Pages are numbered in these units, whatever the size of an I/O. */
export const NUMBERED_PAGE_BYTES = 4096;
const CHUNK_BYTES = 4 * 1024 * 1024;

/**
 * Writes a file.
 *
 * @param bytes a multiple of 4 MiB
 */
export function writeNumberedFile(path: string, bytes: number): void {
  const chunk = pseudoRandomBytes(CHUNK_BYTES);
  const words = new Uint32Array(chunk.buffer);
  const fd = openSync(path, "w");
  try {
    for (let offset = 0; offset < bytes; offset += CHUNK_BYTES) {
      for (let at = 0; at < CHUNK_BYTES; at += NUMBERED_PAGE_BYTES) {
        words[at / Uint32Array.BYTES_PER_ELEMENT] = (offset + at) / NUMBERED_PAGE_BYTES;
      }
      writeSync(fd, chunk, 0, CHUNK_BYTES, offset);
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Reads all of a file once, so that the page cache has it, as far as it fits. */
export function warmPageCache(path: string): void {
  const chunk = new Uint8Array(CHUNK_BYTES);
  const fd = openSync(path, "r");
  try {
    while (readSync(fd, chunk, 0, CHUNK_BYTES, null) > 0);
  } finally {
    closeSync(fd);
  }
}
