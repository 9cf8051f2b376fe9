/**
 * Pins: the shared count says how many backends have a buffer, and each backend's own counts, which others can read, how often.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { refcountOf, STATE, usageOf } from "../src/buffer-state.js";
import { PIN_SLOTS } from "../src/pins.js";
import { createWords } from "./words.js";

function at<T>(items: readonly T[], index: number): T {
  return items[index] as T;
}

/** Buffers that a backend's counts in shared memory say it has pinned. */
function counted({ words, layout }: ReturnType<typeof createWords>, backend: number): number[] {
  const first = layout.backendsAt + backend * layout.backendWords + layout.countsAt;
  const buffers = Array.from({ length: layout.buffersMax }, (_, buffer) => buffer);
  return buffers.filter((buffer) => words[first + buffer] !== 0);
}

describe("pins", () => {
  test("of one backend count once in the shared count, those of two twice", () => {
    const world = createWords(16);
    const [one, two] = [world.pinsOf(0), world.pinsOf(1)];
    one.pin(3);
    one.pin(3);
    const headers = world.headersOf(0);
    expect([refcountOf(headers.state(3)), usageOf(headers.state(3))]).toEqual([1, 1]);
    two.pin(3);
    expect([refcountOf(headers.state(3)), usageOf(headers.state(3))]).toEqual([2, 2]);
    one.unpin(3);
    expect(refcountOf(headers.state(3))).toBe(2);
    one.unpin(3);
    two.unpin(3);
    expect([refcountOf(headers.state(3)), usageOf(headers.state(3))]).toEqual([0, 2]);
  });

  test("raise the usage count to five and not above; a ring's raise it from nought to one only", () => {
    const world = createWords(16);
    const pins = world.pinsOf(0);
    const headers = world.headersOf(0);
    const usage = (buffer: number): number => usageOf(headers.state(buffer));
    for (let time = 0; time < 7; time++) {
      pins.pin(1);
      pins.unpin(1);
      expect(usage(1)).toBe(Math.min(time + 1, 5));
    }
    for (let time = 0; time < 3; time++) {
      pins.pin(2, true);
      pins.unpin(2);
      expect(usage(2)).toBe(1);
    }
    for (let time = 0; time < 2; time++) {
      pins.pin(2);
      pins.unpin(2);
    }
    pins.pin(2, true);
    expect(usage(2)).toBe(3);
  });

  test("of nine different buffers are eight in the array and one beside it", () => {
    const pins = createWords(16).pinsOf(0);
    for (let buffer = 0; buffer < PIN_SLOTS + 1; buffer++) pins.pin(buffer);
    expect([pins.pinnedCount, pins.overflowCount]).toEqual([9, 1]);
    pins.pin(0);
    expect(pins.count(0), "what moved out moves back").toBe(2);
    expect(pins.overflowCount).toBe(1);
  });

  test("that nobody has cannot be taken back or doubled", () => {
    const pins = createWords(16).pinsOf(0);
    expect(() => pins.unpin(4)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_BAD_ID" }));
    expect(() => pins.pinAgain(4)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_BAD_ID" }));
  });

  test("taken back by the last other backend wake the one that waits to be alone", () => {
    const world = createWords(16);
    const [waiting, other] = [world.pinsOf(0), world.pinsOf(1)];
    waiting.pin(5);
    other.pin(5);
    const headers = world.headersOf(0);
    const state = headers.lock(5);
    const { words, layout } = world;
    words[headers.at(5) + 7] = 1;
    headers.unlock(5, state | STATE.pinCountWaiter);
    const wakeAt = layout.backendsAt + 1;
    const before = words[wakeAt];
    other.unpin(5);
    expect(words[wakeAt]).toBe((before ?? 0) + 1);
    expect(headers.state(5) & STATE.pinCountWaiter).toBe(0);
  });

  // Aim: own counts, here and in shared memory, and shared counts agree with the dumbest model. Method: random pins and unpins of three backends,
  // also under a locked header, of more buffers than the array holds.
  test("agree with a map, whatever is pinned how often", () => {
    const step = fc.record({
      backend: fc.nat(2),
      buffer: fc.nat(19),
      how: fc.constantFrom("pin", "ring", "locked", "again", "unpin", "unpin", "unpinLocked"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: "max" }), (steps) => {
        const world = createWords(20);
        const headers = world.headersOf(3);
        const backends = [world.pinsOf(0), world.pinsOf(1), world.pinsOf(2)];
        const model = backends.map(() => new Map<number, number>());
        for (const { backend, buffer, how } of steps) {
          const pins = at(backends, backend);
          const counts = at(model, backend);
          const count = counts.get(buffer) ?? 0;
          if (how === "pin" || how === "ring") pins.pin(buffer, how === "ring");
          else if (how === "locked") pins.pinLocked(buffer, headers.lock(buffer));
          else if (how === "again" && count > 0) pins.pinAgain(buffer);
          else if (how === "unpin" && count > 0) pins.unpin(buffer);
          else if (how === "unpinLocked" && count === 1) pins.unpinLocked(buffer, headers.lock(buffer));
          else continue;
          const next = count + (how.startsWith("unpin") ? -1 : 1);
          if (next === 0) counts.delete(buffer);
          else counts.set(buffer, next);
        }
        for (const [backend, counts] of model.entries()) {
          expect(counted(world, backend)).toEqual([...counts.keys()].toSorted((a, b) => a - b));
          expect(at(backends, backend).pinnedCount).toBe(counts.size);
          for (let buffer = 0; buffer < 20; buffer++) {
            expect(at(backends, backend).count(buffer)).toBe(counts.get(buffer) ?? 0);
          }
        }
        for (let buffer = 0; buffer < 20; buffer++) {
          const holders = model.filter((counts) => counts.has(buffer)).length;
          expect(refcountOf(headers.state(buffer))).toBe(holders);
          expect(headers.state(buffer) & STATE.locked).toBe(0);
        }
      }),
    );
  });
});
