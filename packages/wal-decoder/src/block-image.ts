/**
 * Page images: a page without its hole, perhaps compressed, back to 8192 bytes.
 *
 * What RestoreBlockImage of PostgreSQL's xlogreader.c does. An image has been through its record's checksum; whoever
 * forges that too gets an error, never bytes from outside the image.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import * as zlib from "node:zlib";
import type { BlockRef } from "./block-ref.js";
import { WalDecodeError } from "./errors.js";
import { lz4Decompress } from "./lz4.js";
import { pglzDecompress } from "./pglz.js";
import type { WalRecord } from "./wal-record.js";

/** Pages are unpacked here and then spread around their hole; no call waits, so that one buffer will do. */
const unpacked = new Uint8Array(BLOCK_BYTES);

type ZstdDecompress = (bytes: Uint8Array, options: { readonly maxOutputLength: number }) => Uint8Array;

/** Node has zstd since 22.15. */
function zstdOfNode(): ZstdDecompress | undefined {
  return (zlib as { readonly zstdDecompressSync?: ZstdDecompress }).zstdDecompressSync;
}

/**
 * Writes the page that an image holds.
 *
 * @param ref one of `record.refs`, with an image
 * @param target 8192 bytes; the page as it was stored, so that its LSN and checksum are those of before the record.
 *   Undefined contents after an error.
 * @throws {RangeError} `ref` has no image, or `target` another size
 * @throws {WalDecodeError} ERR_WAL_IMAGE for an image that does not unpack to the page's size; ERR_WAL_COMPRESSION for
 *   zstd where node:zlib does not have it (before Node 22.15)
 */
export function restoreImage(record: WalRecord, ref: BlockRef, target: Uint8Array): void {
  if (!ref.hasImage) throw new RangeError(`block ${String(ref.id)} has no image`);
  if (target.byteLength !== BLOCK_BYTES) throw new RangeError(`a page of ${String(target.byteLength)} bytes`);
  const { holeOffset, holeBytes } = ref;
  const stored = record.imageOf(ref);
  const page = ref.compression === "none" ? stored : unpack(record, ref, stored, BLOCK_BYTES - holeBytes);
  if (holeBytes === 0) {
    target.set(page);
    return;
  }
  target.set(page.subarray(0, holeOffset));
  target.fill(0, holeOffset, holeOffset + holeBytes);
  target.set(page.subarray(holeOffset), holeOffset + holeBytes);
}

function unpack(record: WalRecord, ref: BlockRef, stored: Uint8Array, bytes: number): Uint8Array {
  const target = unpacked.subarray(0, bytes);
  if (ref.compression === "zstd") return unpackZstd(record, ref, stored, bytes);
  const complete =
    ref.compression === "pglz" ? pglzDecompress(stored, target) : lz4Decompress(stored, target);
  if (!complete) throw refused(record, ref, `${ref.compression} does not give ${String(bytes)} bytes`);
  return target;
}

function unpackZstd(record: WalRecord, ref: BlockRef, stored: Uint8Array, bytes: number): Uint8Array {
  const decompress = zstdOfNode();
  if (decompress === undefined) {
    const text = "the image is compressed with zstd, which node:zlib has since Node 22.15";
    throw new WalDecodeError("ERR_WAL_COMPRESSION", record.startLsn, text);
  }
  let page: Uint8Array;
  try {
    page = decompress(stored, { maxOutputLength: BLOCK_BYTES });
  } catch (cause) {
    throw refused(record, ref, "zstd refuses it", { cause });
  }
  if (page.byteLength !== bytes) throw refused(record, ref, `zstd does not give ${String(bytes)} bytes`);
  return page;
}

function refused(record: WalRecord, ref: BlockRef, problem: string, options?: ErrorOptions): WalDecodeError {
  const text = `the image of block ${String(ref.id)}: ${problem}`;
  return new WalDecodeError("ERR_WAL_IMAGE", record.startLsn, text, options);
}
