/**
 * Locks on pages: readers and a writer, and the writer that waits until nobody else has the page pinned.
 */
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { CleanupLocks } from "../src/cleanup-lock.js";
import { ContentLocks } from "../src/content-locks.js";
import { BufferHeaders } from "../src/headers.js";
import type { Pins } from "../src/pins.js";
import { BACKEND, HELD_LOCKS_MAX } from "../src/layout.js";
import type { PoolPoint } from "../src/points.js";
import { runNow } from "./replacement.js";
import { createWords } from "./words.js";
import type { Words } from "./words.js";

const BUFFER = 3;
const code = (code: string): unknown => expect.objectContaining({ code });

interface Holder {
  readonly pins: Pins;
  readonly locks: ContentLocks;
  readonly cleanup: CleanupLocks;
  readonly points: PoolPoint[];
  readonly wakeAt: number;
}

function holderIn({ words, layout, headersOf, pinsOf }: Words, id: number): Holder {
  const at = layout.backendsAt + id * layout.backendWords;
  const [headers, pins] = [headersOf(id), pinsOf(id)];
  const locks = new ContentLocks({ words, layout, id, at });
  const points: PoolPoint[] = [];
  const reach = (point: PoolPoint): void => void points.push(point);
  const cleanup = new CleanupLocks({ words, headers, pins, id, at, reach }, locks);
  return { pins, locks, cleanup, points, wakeAt: at + BACKEND.wake };
}

describe("a page's lock", () => {
  test("is shared by readers and excludes a writer, who waits for the last of them", () => {
    const world = createWords(16);
    const [one, two, three] = [holderIn(world, 0), holderIn(world, 1), holderIn(world, 2)];
    expect(one.locks.tryLock(BUFFER, "shared")).toBe(true);
    expect(two.locks.tryLock(BUFFER, "shared")).toBe(true);
    expect(three.locks.tryLock(BUFFER, "exclusive")).toBe(false);
    const writer = three.locks.lock(BUFFER, "exclusive");
    expect(writer.next()).toMatchObject({ done: false, value: { kind: "word", event: "BufferContent" } });
    one.locks.unlock(BUFFER);
    expect(writer.next().done).toBe(false);
    two.locks.unlock(BUFFER);
    expect(writer.next().done).toBe(true);
    expect([one.locks.modeOf(BUFFER), three.locks.modeOf(BUFFER)]).toEqual([undefined, "exclusive"]);
    expect(one.locks.tryLock(BUFFER, "shared")).toBe(false);
    three.locks.unlock(BUFFER);
    expect(one.locks.tryLock(BUFFER, "shared")).toBe(true);
  });

  test("that this backend does not hold cannot be let go of", () => {
    const { locks } = holderIn(createWords(16), 0);
    expect(() => locks.unlock(BUFFER)).toThrow(code("ERR_BUFFER_BAD_ID"));
    locks.tryLock(BUFFER, "shared");
    expect(() => locks.unlock(BUFFER + 1)).toThrow(code("ERR_BUFFER_BAD_ID"));
  });

  test("would make a backend wait for itself if it has the page locked against that", () => {
    const { locks } = holderIn(createWords(16), 0);
    locks.tryLock(BUFFER, "shared");
    expect(locks.wouldWaitForSelf(BUFFER, "shared")).toBe(false);
    expect(locks.wouldWaitForSelf(BUFFER, "exclusive")).toBe(true);
    locks.unlock(BUFFER);
    expect(locks.wouldWaitForSelf(BUFFER, "exclusive")).toBe(false);
    locks.tryLock(BUFFER, "exclusive");
    expect(locks.wouldWaitForSelf(BUFFER, "shared")).toBe(true);
  });

  test("is noted by its holder, up to a limit", () => {
    const world = createWords(64);
    const { locks } = holderIn(world, 0);
    for (let buffer = 0; buffer < HELD_LOCKS_MAX; buffer++) {
      expect(locks.tryLock(buffer, buffer % 2 === 0 ? "shared" : "exclusive")).toBe(true);
    }
    expect(() => locks.tryLock(63, "shared")).toThrow(code("ERR_BUFFER_LIMIT"));
    for (let buffer = 0; buffer < HELD_LOCKS_MAX; buffer += 3) expect(locks.unlockAll(buffer)).toBe(1);
    for (let buffer = 0; buffer < HELD_LOCKS_MAX; buffer++) locks.unlockAll(buffer);
    expect(locks.heldCount).toBe(0);
    const other = holderIn(world, 1);
    for (let buffer = 0; buffer < HELD_LOCKS_MAX; buffer++) {
      expect(other.locks.tryLock(buffer, "exclusive"), `buffer ${buffer}`).toBe(true);
    }
  });
});

describe("a cleanup lock", () => {
  test("waits for another backend's pin, which wakes it when it goes", () => {
    const world = createWords(16);
    const [one, two] = [holderIn(world, 0), holderIn(world, 1)];
    one.pins.pin(BUFFER);
    two.pins.pin(BUFFER);
    expect(one.cleanup.tryLock(BUFFER)).toBe(false);
    const waiting = one.cleanup.lock(BUFFER);
    expect(waiting.next()).toEqual({
      done: false,
      value: { kind: "word", at: one.wakeAt, value: 0, event: "BufferPin" },
    });
    expect(one.points).toEqual(["cleanup:registered"]);
    expect(two.locks.tryLock(BUFFER, "exclusive"), "the page is not locked meanwhile").toBe(true);
    two.locks.unlock(BUFFER);
    two.pins.unpin(BUFFER);
    expect(world.words[one.wakeAt]).toBe(1);
    expect(waiting.next().done).toBe(true);
    expect(one.cleanup.isOk(BUFFER)).toBe(true);
    two.pins.pin(BUFFER);
    expect(one.cleanup.isOk(BUFFER)).toBe(false);
    two.pins.unpin(BUFFER);
    one.locks.unlock(BUFFER);
    expect(one.cleanup.isOk(BUFFER)).toBe(false);
    expect(world.headersOf(2).state(BUFFER) & STATE.pinCountWaiter).toBe(0);
  });

  test("is woken too by an I/O that completes and had the last other pin", () => {
    const world = createWords(16);
    const one = holderIn(world, 0);
    const io = new BufferHeaders(world.words, world.layout, -1, true);
    one.pins.pin(BUFFER);
    io.pin(BUFFER, true);
    const waiting = one.cleanup.lock(BUFFER);
    waiting.next();
    io.unpin(BUFFER);
    expect(world.words[one.wakeAt]).toBe(1);
    expect(waiting.next().done).toBe(true);
  });

  test("has one waiter a page, who can give up", () => {
    const world = createWords(16);
    const [one, two, three] = [holderIn(world, 0), holderIn(world, 1), holderIn(world, 2)];
    for (const { pins } of [one, two, three]) pins.pin(BUFFER);
    const first = one.cleanup.lock(BUFFER);
    first.next();
    expect(() => two.cleanup.lock(BUFFER).next()).toThrow(code("ERR_BUFFER_CLEANUP_WAITER"));
    expect(two.locks.heldCount).toBe(0);
    expect(() => first.throw(new Error("gives up"))).toThrow("gives up");
    const second = two.cleanup.lock(BUFFER);
    expect(second.next().done).toBe(false);
    one.pins.unpin(BUFFER);
    expect(second.next().done).toBe(false);
    three.pins.unpin(BUFFER);
    expect(second.next().done).toBe(true);
  });

  test("needs exactly one pin of its own backend", () => {
    const world = createWords(16);
    const one = holderIn(world, 0);
    expect(() => one.cleanup.lock(BUFFER).next()).toThrow(code("ERR_BUFFER_PIN_COUNT"));
    expect(one.cleanup.tryLock(BUFFER)).toBe(false);
    one.pins.pin(BUFFER);
    one.pins.pin(BUFFER);
    expect(() => one.cleanup.lock(BUFFER).next()).toThrow(code("ERR_BUFFER_PIN_COUNT"));
    expect(one.cleanup.tryLock(BUFFER)).toBe(false);
    one.pins.unpin(BUFFER);
    expect(one.cleanup.tryLock(BUFFER)).toBe(true);
    one.locks.unlock(BUFFER);
    runNow(one.cleanup.lock(BUFFER));
    expect(one.locks.modeOf(BUFFER)).toBe("exclusive");
  });

  test("is refused if its own backend pinned the page again while it waited", () => {
    const world = createWords(16);
    const [one, two] = [holderIn(world, 0), holderIn(world, 1)];
    one.pins.pin(BUFFER);
    two.pins.pin(BUFFER);
    const waiting = one.cleanup.lock(BUFFER);
    waiting.next();
    one.pins.pin(BUFFER);
    two.pins.unpin(BUFFER);
    expect(() => waiting.next()).toThrow(code("ERR_BUFFER_PIN_COUNT"));
    expect(one.locks.heldCount).toBe(0);
  });
});
