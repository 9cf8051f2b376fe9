/** The queues of a ring walked by hand: claiming entries, reading completions where they are, giving them back. */
import { describe, expect, test } from "vitest";

import {
  armFault,
  COMPLETION_WORDS,
  disarmFaults,
  hasCompletionFault,
  OPCODE,
  Ring,
} from "@millrace/io-uring";
import { whyNoUring } from "./fixtures.js";

describe.skipIf(whyNoUring !== undefined)("queues", () => {
  /** Claims and fills a NOP. @returns its first word */
  function claimNop(ring: Ring, user: number): number {
    const word = ring.queues.claim();
    if (word < 0) return word;
    const { entries } = ring.queues;
    entries.fill(0, word, word + 16);
    entries[word] = OPCODE.nop;
    entries[word + 8] = user;
    entries[word + 9] = ~user;
    return word;
  }

  // Aim: entries filled and completions read by hand are those that the calls see. Method: NOPs around the ring's end
  // several times, as many at a time as there is room for, submitted by call; every completion read where it lies.
  test("entries and completions go round the ring in order", () => {
    using ring = Ring.create({ entries: 4 });
    const { queues } = ring;
    let user = 0;
    for (let round = 0; round < 9; round++) {
      const words = [0, 1, 2, 3].map((index) => claimNop(ring, user + index));
      expect(new Set(words).size).toBe(4);
      expect(queues.claim(), "a fifth of four").toBe(-1);
      expect(queues.pending).toBe(4);
      expect(ring.submit()).toBe(4);
      expect([queues.pending, queues.completed, ring.ready]).toEqual([0, 4, 4]);
      const { head } = queues;
      for (let index = 0; index < 4; index++) {
        const at = queues.completionAt(head + index);
        const seen = queues.words.subarray(at, at + COMPLETION_WORDS);
        expect([...seen]).toEqual([user + index, ~(user + index), 0, 0]);
      }
      queues.retire(3);
      expect([queues.completed, queues.head]).toEqual([1, (head + 3) | 0]);
      const out = new Int32Array(4 * COMPLETION_WORDS);
      expect(ring.reap(out, 4)).toBe(1);
      expect(out[0]).toBe(user + 3);
      user += 4;
    }
  });

  test("of a closed ring no entry can be claimed", () => {
    const ring = Ring.create({ entries: 4 });
    const { queues } = ring;
    expect(claimNop(ring, 1)).toBeGreaterThanOrEqual(0);
    ring.close();
    expect(queues.claim()).toBe(-1);
    expect(queues.entries.length).toBe(0);
  });

  // Aim: who reads completions by hand can tell that a fault on them is armed, which only the calls apply.
  test("an armed fault on completions is told until it has struck", () => {
    using ring = Ring.create({ entries: 4 });
    expect(hasCompletionFault()).toBe(false);
    armFault({ operation: "completion", result: -5 });
    expect(hasCompletionFault()).toBe(true);
    claimNop(ring, 1);
    ring.submit();
    const out = new Int32Array(COMPLETION_WORDS);
    expect(ring.reap(out, 1)).toBe(1);
    expect([out[2], hasCompletionFault()]).toEqual([-5, false]);
    armFault({ operation: "completion", result: -5 });
    disarmFaults();
    expect(hasCompletionFault()).toBe(false);
  });
});
