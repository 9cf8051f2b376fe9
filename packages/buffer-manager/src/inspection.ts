/**
 * What is in a pool, page by page and in sums: the views of PostgreSQL's pg_buffercache.
 *
 * Sums are read without locks, each state word on its own: right for every buffer at some moment, not for all at one. A
 * page's row is read under its header lock, so that tag and state belong together.
 */
import { refcountOf, STATE, USAGE_MAX, usageOf } from "./buffer-state.js";
import type { BufferHeaders } from "./headers.js";
import { HEADER } from "./layout.js";
import type { Fork } from "./tag.js";

/** A buffer. All but its number is null while it holds no valid page. */
export interface PageRow {
  /** From 1. */
  readonly buffer: number;
  readonly tablespace: number | null;
  readonly database: number | null;
  readonly relation: number | null;
  readonly fork: Fork | null;
  readonly block: number | null;
  readonly isDirty: boolean | null;
  readonly usageCount: number | null;
  /** Backends that have it pinned. */
  readonly pinningBackends: number | null;
}

/** All buffers in numbers. */
export interface PoolSummary {
  /** Buffers with a valid page, and without. */
  readonly used: number;
  readonly unused: number;
  readonly dirty: number;
  readonly pinned: number;
  /** Mean usage count of those with a page; null if there is none. */
  readonly usageCountAverage: number | null;
}

/** Buffers of one usage count. */
export interface UsageRow {
  readonly usageCount: number;
  readonly buffers: number;
  readonly dirty: number;
  readonly pinned: number;
}

const EMPTY_PAGE: Omit<PageRow, "buffer"> = {
  tablespace: null,
  database: null,
  relation: null,
  fork: null,
  block: null,
  isDirty: null,
  usageCount: null,
  pinningBackends: null,
};
const FILLED = STATE.valid | STATE.tagValid;

function bufferCount({ words }: BufferHeaders): number {
  return Atomics.load(words, HEADER.high);
}

/** Every buffer's row, one by one. */
export function* readPages(headers: BufferHeaders): Generator<PageRow, void, undefined> {
  for (let buffer = 0; buffer < bufferCount(headers); buffer++) {
    const state = headers.lock(buffer);
    const tag = headers.tag(buffer);
    headers.unlock(buffer, state);
    if ((state & FILLED) !== FILLED) {
      yield { buffer: buffer + 1, ...EMPTY_PAGE };
      continue;
    }
    yield {
      buffer: buffer + 1,
      ...tag,
      isDirty: (state & STATE.dirty) !== 0,
      usageCount: usageOf(state),
      pinningBackends: refcountOf(state),
    };
  }
}

/** Sums over all buffers. */
export function readSummary(headers: BufferHeaders): PoolSummary {
  const count = bufferCount(headers);
  let [used, dirty, pinned, usage] = [0, 0, 0, 0];
  for (let buffer = 0; buffer < count; buffer++) {
    const state = headers.state(buffer);
    if (refcountOf(state) > 0) pinned += 1;
    if ((state & STATE.valid) === 0) continue;
    used += 1;
    usage += usageOf(state);
    if ((state & STATE.dirty) !== 0) dirty += 1;
  }
  const usageCountAverage = used === 0 ? null : usage / used;
  return { used, unused: count - used, dirty, pinned, usageCountAverage };
}

/** For each usage count from 0 to 5 how many buffers have it, with a page or without. */
export function readUsageCounts(headers: BufferHeaders): UsageRow[] {
  const rows = Array.from({ length: USAGE_MAX + 1 }, (_, usageCount) => ({
    usageCount,
    buffers: 0,
    dirty: 0,
    pinned: 0,
  }));
  const count = bufferCount(headers);
  for (let buffer = 0; buffer < count; buffer++) {
    const state = headers.state(buffer);
    const row = rows[usageOf(state)];
    if (row === undefined) continue;
    row.buffers += 1;
    if ((state & STATE.dirty) !== 0) row.dirty += 1;
    if (refcountOf(state) > 0) row.pinned += 1;
  }
  return rows;
}
