/**
 * What must hold of a stream between two calls; checked after every call of streams made with `debug`.
 *
 * Numbers are those of the pins and reads themselves, not of what led to them, so that a mistake in the machine cannot
 * hide in the check.
 */
import assert from "node:assert/strict";
import type { StreamCore } from "./stream-core.js";

/** Throws an AssertionError if something is wrong with `core`. */
export function checkInvariants(
  core: Pick<StreamCore<unknown>, "queue" | "ios" | "limits" | "lookAhead" | "pending">,
): void {
  const { queue, ios, limits, lookAhead, pending } = core;
  const { oldest, next, pinned, forwarded, size, slots } = queue;
  assert(pinned >= 0 && pinned <= limits.maxPinned, `${pinned} pinned, of ${limits.maxPinned} at most`);
  assert(pending >= 0 && pending <= limits.combine, `${pending} pending, of ${limits.combine} at most`);
  assert(pinned + pending <= limits.maxPinned, "the pending read does not fit");
  assert(lookAhead.distance >= 0 && lookAhead.distance <= limits.maxPinned, "distance out of bounds");
  assert.equal(oldest === next, pinned === 0, "oldest and next are equal if and only if nothing is pinned");
  assert.equal(queue.after(oldest, pinned), next, "the slots between oldest and next are those pinned");
  assert(ios.inProgress >= 0 && ios.inProgress <= limits.maxIos, "I/Os in progress out of bounds");
  assert(forwarded <= pending, "pins forwarded for more than the pending read");
  // One pin in each slot between oldest and next and in those forwarded, none in any other.
  for (let distance = 0; distance < size; distance += 1) {
    const isTaken = distance < pinned + forwarded;
    assert.equal(slots[queue.after(oldest, distance)] !== 0, isTaken, `${distance} slots after the oldest`);
  }
  // Behind the queue there are only copies of what is at its front.
  for (let slot = 0; slot < queue.overflow; slot += 1) {
    const copy = slots[size + slot];
    assert(copy === 0 || (slot < size && copy === slots[slot]), `slot ${size + slot} is no copy`);
  }
  // Each I/O begins within the pinned range, later ones behind earlier ones.
  let reached = 0;
  for (let index = 0; index < ios.inProgress; index += 1) {
    const io = (ios.oldest + index) % limits.maxIos;
    const distance = ((ios.slots[io] as number) - oldest + size) % size;
    assert(distance >= reached, "I/Os out of order");
    reached = distance + (ios.counts[io] as number);
    assert(reached <= pinned, "an I/O reaches beyond what is pinned");
  }
}
