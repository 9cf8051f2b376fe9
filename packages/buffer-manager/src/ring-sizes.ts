/**
 * How big rings are, when a scan uses one, and how many pins a backend should take: sums, no state.
 *
 * After GetAccessStrategy and GetPinLimit of PostgreSQL 18.
 */
import { AUXILIARY_BACKENDS, PAGE_BYTES } from "./settings.js";
import type { PoolSettings } from "./settings.js";

/** What a ring is for. */
export type RingKind = "bulkread" | "bulkwrite" | "vacuum";

const PAGE_KIB = PAGE_BYTES / 1024;
const BULKREAD_KIB_MIN = 256;
const BULKWRITE_KIB = 16 * 1024;
const VACUUM_KIB = 2048;
/** A ring is at most this part of the pool. */
const RING_PART = 8;
/** A sequential scan of more than this part of the pool uses a ring. */
const SCAN_PART = 4;

/**
 * How many buffers a backend may have pinned at a time without taking them from others. Advisory, and may be 0.
 *
 * @param backends that share the pool
 */
export function pinLimit(buffers: number, backends: number): number {
  return Math.floor(buffers / (backends + AUXILIARY_BACKENDS));
}

/**
 * Size of a ring in KiB, before it is bounded by the pool's.
 *
 * @param concurrency effective_io_concurrency of the session
 * @param kib wish: -1 for the computed size, 0 for no ring
 */
export function ringKib(
  kind: RingKind,
  settings: Pick<PoolSettings, "combineLimit" | "pinBackends">,
  buffers: number,
  concurrency: number,
  kib = -1,
): number {
  if (kib >= 0) return kib;
  if (kind === "bulkwrite") return BULKWRITE_KIB;
  if (kind === "vacuum") return VACUUM_KIB;
  const most = Math.max(BULKREAD_KIB_MIN, pinLimit(buffers, settings.pinBackends) * PAGE_KIB);
  return Math.min(BULKREAD_KIB_MIN + PAGE_KIB * settings.combineLimit * concurrency, most);
}

/** Buffers of a ring; 0 for none. */
export function ringBuffers(kib: number, buffers: number): number {
  return Math.min(Math.floor(kib / PAGE_KIB), Math.floor(buffers / RING_PART));
}

/** Whether a sequential scan of a relation should use a ring. */
export function usesRing(blocks: number, buffers: number): boolean {
  return blocks > Math.floor(buffers / SCAN_PART);
}
