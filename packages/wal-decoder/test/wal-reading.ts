/**
 * How the tests read WAL back: feed a decoder in some chunking, note every record it shows, compare with what the
 * builder or PostgreSQL's own tools say.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect } from "vitest";
import { WalDecodeError, WalDecoder } from "../src/index.js";
import type { RecordVisit, WalDecodeErrorCode, WalDecoderOptions } from "../src/index.js";
import type { BuiltRecord } from "./wal-builder.js";

export type SeenRecord = Omit<BuiltRecord, "dataEndLsn">;

export function copyOf(visit: RecordVisit): SeenRecord {
  const { startLsn, endLsn, prevLsn, rmid, info, xid, totalBytes } = visit;
  return { startLsn, endLsn, prevLsn, rmid, info, xid, totalBytes };
}

export function withoutDataEnd(record: BuiltRecord): SeenRecord {
  const { startLsn, endLsn, prevLsn, rmid, info, xid, totalBytes } = record;
  return { startLsn, endLsn, prevLsn, rmid, info, xid, totalBytes };
}

/** A decoder and the list of what it saw. */
export function collecting(options: WalDecoderOptions): { decoder: WalDecoder; seen: SeenRecord[] } {
  const seen: SeenRecord[] = [];
  const decoder = new WalDecoder({
    ...options,
    onRecord: (visit) => {
      seen.push(copyOf(visit));
    },
  });
  return { decoder, seen };
}

/** Feeds `bytes` in chunks whose sizes are taken from `sizes` over and over. */
export function feedInChunks(
  decoder: WalDecoder,
  bytes: Uint8Array,
  sizes: readonly number[],
  afterChunk?: () => void,
): void {
  let turn = 0;
  for (let at = 0; at < bytes.byteLength;) {
    const size = sizes[turn % sizes.length] ?? bytes.byteLength;
    decoder.feed(bytes.subarray(at, at + size));
    afterChunk?.();
    at += size;
    turn += 1;
  }
}

/** Runs `action` and gives the WalDecodeError it ends with; fails for none or another. */
export function failureOf(action: () => void): WalDecodeError {
  try {
    action();
  } catch (error) {
    if (error instanceof WalDecodeError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

/** Expects `action` to be refused with a code, at a position. */
export function expectFailure(action: () => void, code: WalDecodeErrorCode, lsn: bigint): void {
  const { code: found, lsn: at } = failureOf(action);
  expect({ code: found, lsn: at }).toEqual({ code, lsn });
}

export function lsn(value: bigint | number): Lsn {
  return toLsn(BigInt(value));
}
