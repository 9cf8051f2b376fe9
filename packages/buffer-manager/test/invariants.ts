/**
 * What must hold of a pool whenever no thread is in the middle of a call, looked up in its words alone.
 *
 * Each line returned is a violation, by the property's number: P1 counts of pins, P2 flags, P3 mapping, P5 I/O, P6 usage, P7 free
 * list. A test that ends a pool's use calls `checkInvariants`.
 */
import { expect } from "vitest";

import { refcountOf, STATE, USAGE_MAX, usageOf } from "../src/buffer-state.js";
import { DESCRIPTOR, FREE_NOT_LINKED, HEADER, STRATEGY } from "../src/layout.js";
import type { PoolLayout } from "../src/layout.js";
import { openPool } from "../src/pool-core.js";
import type { PoolCore } from "../src/pool-core.js";
import { hashTagWords } from "../src/tag.js";

interface PoolWords {
  readonly words: Int32Array;
  readonly layout: PoolLayout;
}

const at = ({ layout }: PoolWords, buffer: number): number =>
  layout.descriptorsAt + buffer * DESCRIPTOR.words;
const word = ({ words }: PoolWords, index: number): number => words[index] as number;
const stateOf = (pool: PoolWords, buffer: number): number => word(pool, at(pool, buffer) + DESCRIPTOR.state);
const hasIo = (pool: PoolWords, buffer: number): boolean =>
  word(pool, at(pool, buffer) + DESCRIPTOR.ioHandle) !== 0;

/** Backends whose counts say that they have a buffer pinned. */
function pinners(pool: PoolWords, buffer: number): number {
  const { layout } = pool;
  let count = 0;
  for (let backend = 0; backend < layout.backends; backend++) {
    const countAt = layout.backendsAt + backend * layout.backendWords + layout.countsAt + buffer;
    if (word(pool, countAt) !== 0) count += 1;
  }
  return count;
}

function checkBuffer(pool: PoolWords, buffer: number): string[] {
  const state = stateOf(pool, buffer);
  const has = (flag: number): boolean => (state & flag) !== 0;
  const wrong: string[] = [];
  const pins = pinners(pool, buffer) + (hasIo(pool, buffer) ? 1 : 0);
  if (refcountOf(state) !== pins) wrong.push(`P1: ${refcountOf(state)} pins counted, ${pins} held`);
  if (has(STATE.locked)) wrong.push("header locked");
  if (has(STATE.valid) && !has(STATE.tagValid)) wrong.push("P2: valid without a tag");
  if (has(STATE.dirty) && !has(STATE.valid)) wrong.push("P2: dirty but not valid");
  if (has(STATE.checkpointNeeded) && !has(STATE.dirty))
    wrong.push("P9: to be written by a checkpoint, but clean");
  if (hasIo(pool, buffer) && !has(STATE.ioInProgress)) wrong.push("P5: an I/O without its flag");
  if (usageOf(state) > USAGE_MAX) wrong.push(`P6: used ${usageOf(state)} times`);
  return wrong.map((what) => `buffer ${buffer}: ${what}`);
}

/** Every buffer that the buckets lead to, and what is wrong with the chains. */
function walkMapping(pool: PoolWords): { mapped: Set<number>; wrong: string[] } {
  const { layout } = pool;
  const mapped = new Set<number>();
  const tags = new Set<string>();
  const wrong: string[] = [];
  for (let bucket = 0; bucket <= layout.bucketMask; bucket++) {
    let entry = word(pool, layout.bucketsAt + bucket);
    for (; entry !== 0; entry = word(pool, layout.chainAt + entry - 1)) {
      const buffer = entry - 1;
      if (mapped.has(buffer)) {
        wrong.push(`P3: buffer ${buffer} is in two chains or a circle`);
        break;
      }
      mapped.add(buffer);
      const first = at(pool, buffer);
      const tag = pool.words.slice(first, first + 5).join("/");
      if (tags.has(tag)) wrong.push(`P3: tag ${tag} is mapped twice`);
      tags.add(tag);
      if ((hashTagWords(pool.words, first) & layout.bucketMask) !== bucket) {
        wrong.push(`P3: buffer ${buffer} is in a foreign bucket`);
      }
    }
  }
  return { mapped, wrong };
}

function checkMapping(pool: PoolWords): string[] {
  const { mapped, wrong } = walkMapping(pool);
  for (let buffer = 0; buffer < pool.layout.buffersMax; buffer++) {
    const hasTag = (stateOf(pool, buffer) & STATE.tagValid) !== 0;
    if (hasTag !== mapped.has(buffer))
      wrong.push(`P3: buffer ${buffer} has ${hasTag ? "a tag but no" : "no tag but an"} entry`);
  }
  return wrong;
}

function checkFreeList(pool: PoolWords): string[] {
  const linked = new Set<number>();
  const wrong: string[] = [];
  const nextOf = (buffer: number): number => word(pool, at(pool, buffer) + DESCRIPTOR.freeNext);
  for (
    let next = word(pool, pool.layout.strategyAt + STRATEGY.firstFree);
    next > 0;
    next = nextOf(next - 1)
  ) {
    if (linked.has(next - 1)) return [`P7: the free list runs in a circle at buffer ${next - 1}`];
    linked.add(next - 1);
  }
  for (let buffer = 0; buffer < pool.layout.buffersMax; buffer++) {
    const isLinked = nextOf(buffer) !== FREE_NOT_LINKED;
    if (isLinked !== linked.has(buffer))
      wrong.push(
        `P7: buffer ${buffer} is ${isLinked ? "linked but not" : "not linked but"} on the free list`,
      );
  }
  return wrong;
}

/** What is wrong with a pool at rest. */
export function violations(pool: PoolWords): string[] {
  const wrong: string[] = [];
  for (let buffer = 0; buffer < pool.layout.buffersMax; buffer++) wrong.push(...checkBuffer(pool, buffer));
  wrong.push(...checkMapping(pool), ...checkFreeList(pool));
  if (word(pool, HEADER.panic) !== 0) wrong.push("the pool has stopped");
  return wrong;
}

/** Checks a pool at rest. @param pool what is sent to other threads, or the words of one without I/O */
export function checkInvariants(pool: PoolCore | PoolWords): void {
  expect(violations("control" in pool ? openPool(pool) : pool)).toEqual([]);
}
