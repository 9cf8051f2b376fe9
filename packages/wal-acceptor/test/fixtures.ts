/**
 * What most tests of the stores and the core start from: ids, states, clocks, seeded randomness, error codes.
 */
import type { Lsn } from "@millrace/lsn";
import type { Clock } from "../src/clock.js";
import { initialState } from "../src/persistent-state.js";
import type { InitialStateOptions, PersistentState } from "../src/persistent-state.js";
import { MIB } from "./wal-stream.js";

export const TENANT = "000102030405060708090a0b0c0d0e0f";
export const TIMELINE = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";
export const SYSTEM_ID = 0x1122334455667788n;

/** Brands a position. */
export function at(lsn: bigint | number): Lsn {
  return BigInt(lsn) as Lsn;
}

/** A timeline's first state; explicit if `startLsn` is given. */
export function freshState(options: Partial<InitialStateOptions> = {}): PersistentState {
  return initialState({
    tenantId: TENANT,
    timelineId: TIMELINE,
    server: { pgVersion: 150_018, systemId: SYSTEM_ID, segmentBytes: MIB },
    createdAtMs: 1_700_000_000_000,
    ...options,
  });
}

/** A clock that moves when it is told to. */
export class ManualClock implements Clock {
  nowMs = 0;

  wallMs(): number {
    return 1_700_000_000_000 + this.nowMs;
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  setTimer(): never {
    throw new Error("no timer is expected here");
  }
}

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The code a promise rejects with, or "resolved". */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return "resolved";
  } catch (error) {
    return (error as { code?: unknown }).code ?? error;
  }
}

/** The code a call throws, or "returned". */
export function thrownCode(call: () => unknown): unknown {
  try {
    call();
    return "returned";
  } catch (error) {
    return (error as { code?: unknown }).code ?? error;
  }
}

/** Compares long byte arrays; vitest's own comparison takes seconds for a mebibyte. */
export function expectSameBytes(found: Uint8Array, wanted: Uint8Array): void {
  if (Buffer.compare(found, wanted) === 0) return;
  let first = 0;
  while (found[first] === wanted[first]) first += 1;
  throw new Error(
    `${String(found.byteLength)} bytes found, ${String(wanted.byteLength)} wanted, first difference at ${String(first)}`,
  );
}
