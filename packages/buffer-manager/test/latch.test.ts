/**
 * Latches: many readers or one writer, nobody sleeps for ever, and a dead writer's latch can be taken away.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  breakLatch,
  latch,
  latchHolder,
  latchReaders,
  lockMutex,
  tryLatchExclusive,
  tryLatchShared,
  unlatchExclusive,
  unlatchShared,
} from "../src/latch.js";

function createLatch(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(16));
}

describe("a latch", () => {
  // Aim: exclusion. Method: random tries and releases against a set of readers and a writer.
  test("agrees with a set of readers and a writer", () => {
    const step = fc.constantFrom("shared", "exclusive", "release");
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: "max" }), (steps) => {
        const words = createLatch();
        let readers = 0;
        let isWritten = false;
        for (const what of steps) {
          if (what === "shared") {
            expect(tryLatchShared(words, 0)).toBe(!isWritten);
            if (!isWritten) readers += 1;
          } else if (what === "exclusive") {
            const isFree = readers === 0 && !isWritten;
            expect(tryLatchExclusive(words, 0, 7)).toBe(isFree);
            if (isFree) isWritten = true;
          } else if (isWritten) {
            unlatchExclusive(words, 0, 1);
            isWritten = false;
          } else if (readers > 0) {
            unlatchShared(words, 0, 1);
            readers -= 1;
          }
          expect(latchReaders(words, 0)).toBe(readers);
          expect(latchHolder(words, 0)).toBe(isWritten ? 7 : undefined);
        }
      }),
    );
  });

  test("that is taken makes a flow wait until it is let go of, and wakes by the second word", () => {
    for (const mode of ["shared", "exclusive"] as const) {
      const words = createLatch();
      expect(tryLatchExclusive(words, 0, 1)).toBe(true);
      const flow = latch(words, 0, 1, mode, 2, "BufferContent");
      expect(flow.next()).toEqual({
        done: false,
        value: { kind: "word", at: 1, value: 0, event: "BufferContent" },
      });
      unlatchExclusive(words, 0, 1);
      expect(words[1], "sleepers are woken").toBe(1);
      expect(flow.next().done).toBe(true);
    }
  });

  test("that the last of several readers lets go of wakes a writer, and not before", () => {
    const words = createLatch();
    tryLatchShared(words, 0);
    tryLatchShared(words, 0);
    const flow = latch(words, 0, 1, "exclusive", 2, "BufferContent");
    flow.next();
    unlatchShared(words, 0, 1);
    expect(words[1]).toBe(0);
    expect(flow.next().done).toBe(false);
    unlatchShared(words, 0, 1);
    expect(words[1]).toBe(1);
    expect(flow.next().done).toBe(true);
    expect(latchHolder(words, 0)).toBe(2);
  });

  test("nobody sleeps for is let go of without a wake", () => {
    const words = createLatch();
    tryLatchExclusive(words, 0, 0);
    unlatchExclusive(words, 0, 1);
    tryLatchShared(words, 0);
    unlatchShared(words, 0, 1);
    expect(Array.from(words.slice(0, 2))).toEqual([0, 0]);
  });

  test("of a writer that is gone can be taken away, by its number only", () => {
    const words = createLatch();
    expect(lockMutex(words, 0, 1, 3, true)).toBe(true);
    expect(breakLatch(words, 0, 1, 2)).toBe(false);
    expect(breakLatch(words, 0, 1, 3)).toBe(true);
    expect(latchHolder(words, 0)).toBeUndefined();
  });
});
