/**
 * Twelve long streams whose events were recorded from PostgreSQL 18.6's own module: what is read, advised and returned,
 * in order, as one hash each. The recipe of the block numbers, and of what is cached to begin with, is part of the golden.
 */
import { STREAM_FLAG } from "../src/options.js";

const { sequential, maintenance, full, useBatching } = STREAM_FLAG;

/** Runs forward, short jumps and far jumps, from a linear congruential generator. */
export function lcgBlocks(seed: number, count: number): number[] {
  let state = seed;
  const random = (): number => {
    // Products beyond 2^53 would lose the low bits, which are the ones that count.
    state = Number((BigInt(state) * 1_103_515_245n + 12_345n) & 0x7fff_ffffn);
    return state >>> 8;
  };
  let current = 0;
  return Array.from({ length: count }, () => {
    const choice = random() % 10;
    if (choice < 7) current += 1;
    else if (choice < 9) current += 1 + (random() % 20);
    else current = random() % 5000;
    return current;
  });
}

/** FNV-1a, 32 bits. */
export function fnv1a(text: string): string {
  let hash = 0x811c_9dc5;
  for (let index = 0; index < text.length; index += 1)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x0100_0193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}

/** One stream, and what PostgreSQL makes of it. */
export interface Golden {
  readonly stream: readonly [seed: number, count: number, percentCached: number];
  readonly method: "worker" | "sync";
  readonly flags: number;
  readonly isDirect?: boolean;
  readonly limits: readonly [concurrency: number, combine: number, pinLimit: number];
  readonly ringPinLimit?: number;
  readonly hasRecords?: boolean;
  readonly segmentBlocks?: number;
  readonly hash: string;
  readonly counts: readonly [reads: number, blocks: number, advice: number];
}

const scan = sequential | useBatching;
export const goldens: readonly Golden[] = [
  {
    stream: [1, 500, 0],
    method: "worker",
    flags: scan,
    limits: [16, 16, 94],
    hash: "3e061efe",
    counts: [147, 490, 0],
  },
  {
    stream: [1, 500, 0],
    method: "worker",
    flags: maintenance | full | useBatching,
    limits: [16, 16, 94],
    hash: "4b6c03aa",
    counts: [145, 490, 0],
  },
  {
    stream: [1, 500, 0],
    method: "worker",
    flags: useBatching,
    limits: [4, 8, 30],
    hasRecords: true,
    segmentBlocks: 64,
    hash: "d334073d",
    counts: [163, 490, 0],
  },
  {
    stream: [1, 500, 0],
    method: "worker",
    flags: useBatching,
    limits: [2, 1, 94],
    ringPinLimit: 5,
    hash: "17f7eeb7",
    counts: [490, 490, 0],
  },
  {
    stream: [1, 500, 0],
    method: "sync",
    flags: useBatching,
    limits: [16, 16, 94],
    hash: "697111c8",
    counts: [147, 490, 143],
  },
  {
    stream: [1, 500, 0],
    method: "sync",
    flags: useBatching,
    isDirect: true,
    limits: [3, 5, 12],
    hash: "d37f4975",
    counts: [190, 490, 0],
  },
  {
    stream: [2, 2000, 30],
    method: "worker",
    flags: scan,
    limits: [16, 16, 94],
    hash: "1376aadf",
    counts: [688, 1148, 0],
  },
  {
    stream: [2, 2000, 30],
    method: "worker",
    flags: useBatching,
    limits: [0, 16, 94],
    hash: "349c66fd",
    counts: [691, 1148, 0],
  },
  {
    stream: [2, 2000, 30],
    method: "sync",
    flags: useBatching,
    limits: [4, 16, 20],
    hasRecords: true,
    segmentBlocks: 32,
    hash: "56b722a8",
    counts: [705, 1148, 680],
  },
  {
    stream: [4, 3000, 95],
    method: "worker",
    flags: scan,
    limits: [16, 16, 94],
    hash: "67d5dee6",
    counts: [119, 119, 0],
  },
  {
    stream: [4, 3000, 95],
    method: "sync",
    flags: useBatching,
    limits: [16, 16, 94],
    hash: "4d7cbb5e",
    counts: [119, 119, 118],
  },
  {
    stream: [5, 1000, 10],
    method: "worker",
    flags: useBatching,
    limits: [1000, 128, 6000],
    ringPinLimit: 94,
    hash: "ea18cbdf",
    counts: [319, 825, 0],
  },
];

/** Whether a golden's block is cached to begin with. */
export function isCachedAtFirst(block: number, percent: number): boolean {
  return (Math.imul(block, 2_654_435_761) >>> 0) % 100 < percent;
}
