/**
 * The target "wal": what a write-ahead log's I/O is on, in eight words.
 *
 * Timeline, segment number and start position tell an operator which piece of log a handle is busy with; a worker needs
 * nothing of that, the lease is enough.
 */
import type { Target } from "./registry.js";

/** The target of WAL in the registry for plain files. */
export const WAL_TARGET = 2;

/** Where a piece of WAL belongs. */
export interface WalPlace {
  readonly timeline: number;
  readonly segmentNumber: bigint;
  /** Position of the first byte. */
  readonly lsn: bigint;
  readonly lengthBytes: number;
}

const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const join = (lowWord: number, highWord: number): bigint =>
  (BigInt.asUintN(32, BigInt(highWord)) << 32n) | BigInt.asUintN(32, BigInt(lowWord));

/** The target's words for a place. */
export function walTargetWords({ timeline, segmentNumber, lsn, lengthBytes }: WalPlace): number[] {
  return [timeline, low(segmentNumber), high(segmentNumber), low(lsn), high(lsn), lengthBytes];
}

/** WAL. */
export const walTarget: Target = {
  name: "wal",
  describe(target) {
    const [timeline = 0, segmentLow = 0, segmentHigh = 0, lsnLow = 0, lsnHigh = 0, bytes = 0] = target;
    const lsn = join(lsnLow, lsnHigh);
    const position = `${(lsn >> 32n).toString(16)}/${BigInt.asUintN(32, lsn).toString(16)}`.toUpperCase();
    return `${bytes} bytes of WAL at ${position}, timeline ${timeline}, segment ${join(segmentLow, segmentHigh)}`;
  },
  reopen: (_io, lease) => lease,
};
