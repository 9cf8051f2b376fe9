import fc from "fast-check";
import { expect, test } from "vitest";
import { COMPLETION_WORDS, ForeignRing, Ring } from "@millrace/io-uring";
import { prepareNop, whyNoUring } from "./fixtures.js";

type Step =
  | { readonly kind: "prepare" }
  | { readonly kind: "submit" }
  | { readonly kind: "reap"; readonly max: number }
  | { readonly kind: "foreignReap"; readonly max: number };

const steps = fc.array<Step>(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant({ kind: "prepare" as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: "submit" as const }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("reap" as const), max: fc.nat(12) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("foreignReap" as const), max: fc.nat(12) }) },
  ),
  { maxLength: 300, size: "max" },
);

function reapUsers(ring: { reap(out: Int32Array, max: number): number }, max: number): number[] {
  const out = new Int32Array(max * COMPLETION_WORDS);
  const count = ring.reap(out, max);
  return Array.from({ length: count }, (_, index) => out[index * COMPLETION_WORDS] ?? -1);
}

// Aim: a ring of NOPs is two queues in a row, the first one bounded, the second one not, whoever reaps. Method: random
// steps on a ring of four entries, small enough to wrap, to be full and to overflow, and on two plain arrays.
test.skipIf(whyNoUring !== undefined)("a ring agrees with two arrays", () => {
  fc.assert(
    fc.property(steps, (steps) => {
      using ring = Ring.create({ entries: 4 });
      const foreign = ForeignRing.attach(ring.id);
      const prepared: number[] = [];
      const completed: number[] = [];
      let user = 0;
      for (const step of steps) {
        if (step.kind === "prepare") {
          const hasRoom = prepared.length < 4;
          expect(prepareNop(ring, user)).toBe(hasRoom);
          if (hasRoom) prepared.push(user);
          user += 1;
        } else if (step.kind === "submit") {
          expect(ring.submit()).toBe(prepared.length);
          completed.push(...prepared.splice(0));
        } else {
          const users = reapUsers(step.kind === "reap" ? ring : foreign, step.max);
          expect(users).toEqual(completed.splice(0, step.max));
        }
        expect(ring.pending).toBe(prepared.length);
        // Asked in turns: whoever asks first makes the kernel bring what it kept back.
        const [first, second] = user % 2 === 0 ? [ring, foreign] : [foreign, ring];
        expect(first.ready === 0).toBe(completed.length === 0);
        expect(second.ready).toBe(first.ready);
      }
    }),
    { numRuns: 60 },
  );
});
