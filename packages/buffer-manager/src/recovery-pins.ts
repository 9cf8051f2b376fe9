/**
 * A dead backend's pins.
 *
 * Its counts say what it had pinned, but for the one buffer that its intent names: there, and where it died with a header or
 * an I/O lock, the shared count is compared with what the living have pinned, at a moment when none of them is at that buffer.
 */
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import { BACKEND, DESCRIPTOR } from "./layout.js";
import { attemptOften, hasPinned, otherBackends, pinnedByDead } from "./recovery-context.js";
import type { RecoveryContext } from "./recovery-context.js";

/** Gives back all pins that are certain, and forgets the others, which `settlePins` looks at. */
export function releasePins(context: RecoveryContext, doubtful: ReadonlySet<number>): void {
  const { words, layout, headers, at } = context;
  const pinned = pinnedByDead(context);
  words.fill(0, at + layout.countsAt, at + layout.backendWords);
  for (const buffer of pinned) if (!doubtful.has(buffer)) headers.unpin(buffer);
}

/** Makes the counts of doubtful buffers what the living have pinned. @returns false if they never hold still */
export async function settlePins(context: RecoveryContext, doubtful: ReadonlySet<number>): Promise<boolean> {
  for (const buffer of doubtful) {
    if (!(await attemptOften(context, () => settle(context, buffer)))) return false;
  }
  return true;
}

function settle(context: RecoveryContext, buffer: number): boolean {
  const { words, headers } = context;
  const state = headers.state(buffer);
  if ((state & STATE.locked) !== 0) return false;
  const pins = countPins(context, buffer, state);
  if (pins === undefined) return false;
  const excess = (state & REFCOUNT_MASK) - pins;
  if (excess < 0) return false;
  const stateAt = headers.at(buffer) + DESCRIPTOR.state;
  if (Atomics.compareExchange(words, stateAt, state, state - excess) !== state) return false;
  if (excess > 0 && (state & STATE.pinCountWaiter) !== 0) headers.wakePinWaiter(buffer);
  return true;
}

/** Pins of the living, and of an I/O; undefined if somebody is changing his. */
function countPins(context: RecoveryContext, buffer: number, state: number): number | undefined {
  const { words, headers } = context;
  let pins = 0;
  for (const { at, isDead } of otherBackends(context)) {
    const isMoving = Atomics.load(words, at + BACKEND.pinIntent) === buffer + 1;
    if (isMoving && !isDead) return undefined;
    // What another dead backend may have is looked at when it is recovered, as this one's is now.
    if (!isMoving && hasPinned(context, at, buffer)) pins += 1;
  }
  if ((state & STATE.ioInProgress) === 0) return pins;
  const first = headers.at(buffer);
  const owner = Atomics.load(words, first + DESCRIPTOR.ioOwner);
  const handle = Atomics.load(words, first + DESCRIPTOR.ioHandle);
  if (owner === 0 && handle === 0) return undefined;
  return owner < 0 || handle !== 0 ? pins + 1 : pins;
}
