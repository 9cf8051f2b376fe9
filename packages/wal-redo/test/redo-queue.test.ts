/**
 * Who goes first: owners in turn by what their requests cost, and requests that nobody waits for from time to time.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { RedoQueue } from "../src/redo-queue.js";
import type { QueuedJob } from "../src/redo-queue.js";

interface Job extends QueuedJob {
  readonly number: number;
}

const job = (number: number, owner = "", cost = 1, isDemand = true): Job => ({
  number,
  owner,
  cost,
  isDemand,
});

// Aim: an owner with ten requests is not behind one with ten thousand. Method: the order in which both are taken.
test("a small owner is done before a large one has a fifth", () => {
  const queue = new RedoQueue<Job>(() => 0);
  for (let number = 0; number < 10_000; number += 1) queue.add(job(number, "large", 30));
  for (let number = 0; number < 10; number += 1) queue.add(job(number, "small", 30));
  let large = 0;
  for (let small = 0; small < 10;) {
    if (queue.take()?.owner === "small") small += 1;
    else large += 1;
  }
  expect(large).toBeLessThan(2000);
  expect(large).toBeLessThan(30);
});

test("what costs more than a turn is not kept away for ever", () => {
  const queue = new RedoQueue<Job>(() => 0);
  queue.add(job(0, "huge", 100_000));
  for (let number = 0; number < 5; number += 1) queue.add(job(number, "other", 64));
  const owners = Array.from({ length: 6 }, () => queue.take()?.owner);
  expect(owners.filter((owner) => owner === "huge")).toEqual(["huge"]);
});

test("what nobody waits for comes last, but comes", () => {
  let now = 0;
  const queue = new RedoQueue<Job>(() => now);
  for (let number = 0; number < 5; number += 1) queue.add(job(number, "", 1, false));
  for (let number = 10; number < 20; number += 1) queue.add(job(number));
  expect([queue.take()?.number, queue.take()?.number]).toEqual([10, 11]);
  now = 100;
  expect([queue.take()?.number, queue.take()?.number]).toEqual([0, 12]);
  now = 250;
  expect([queue.take()?.number, queue.take()?.number]).toEqual([1, 13]);
  expect(queue.drain().length).toBe(9);
});

// Aim: nothing is lost, doubled or reordered within an owner. Method: random adds, takes and removals against a list.
test("every job leaves once, in its owner's order", () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("add" as const),
      owner: fc.constantFrom("a", "b", "c"),
      cost: fc.integer({ min: 1, max: 200 }),
      isDemand: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("take" as const) }),
    fc.record({ kind: fc.constant("remove" as const), at: fc.nat(50) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: "max" }), (steps) => {
      let now = 0;
      const queue = new RedoQueue<Job>(() => (now += 7));
      const waiting: Job[] = [];
      for (const [number, each] of steps.entries()) {
        if (each.kind === "add") {
          const added = job(number, each.owner, each.cost, each.isDemand);
          queue.add(added);
          waiting.push(added);
        } else if (each.kind === "remove") {
          const [gone] = waiting.splice(each.at, 1);
          if (gone !== undefined) expect([queue.remove(gone), queue.remove(gone)]).toEqual([true, false]);
        } else {
          const taken = queue.take();
          const first = waiting.find(
            ({ owner, isDemand }) => owner === taken?.owner && isDemand === taken.isDemand,
          );
          expect(taken).toBe(first);
          if (taken !== undefined) waiting.splice(waiting.indexOf(taken), 1);
          else expect(waiting).toEqual([]);
        }
        expect(queue.size).toBe(waiting.length);
      }
      expect([...queue.drain()].sort((a, b) => a.number - b.number)).toEqual(waiting);
    }),
  );
});
