/**
 * A dead backend's locks on pages.
 *
 * What it noted as held it held; what its intent names it may or may not have taken or let go of. For an exclusive lock the
 * latch itself says whether it did; readers are counted, so the count is compared with what the living have noted. A page
 * that it held exclusively, other than on the way in or out of the lock, may be half changed.
 */
import { latchHolder, latchReaders, unlatchExclusive, unlatchShared } from "./latch.js";
import { BACKEND, DESCRIPTOR } from "./layout.js";
import { attemptOften, otherBackends } from "./recovery-context.js";
import type { RecoveryContext } from "./recovery-context.js";

/** Gives the locks back. @returns false if a page may be half changed, or its readers never hold still */
export async function releaseContentLocks(context: RecoveryContext): Promise<boolean> {
  const { words, id, at } = context;
  const count = words[at + BACKEND.heldCount] as number;
  const held = words.slice(at + BACKEND.held, at + BACKEND.held + count);
  const intent = words[at + BACKEND.lockIntent] as number;
  if (intent === 0) {
    for (const entry of held.filter((each) => each > 0)) {
      const lockAt = lockOf(context, entry - 1);
      unlatchShared(words, lockAt, lockAt + 1);
    }
    return held.every((entry) => entry > 0);
  }
  let isWhole = true;
  for (const buffer of new Set([...held, intent].map((entry) => Math.abs(entry) - 1))) {
    const lockAt = lockOf(context, buffer);
    if (latchHolder(words, lockAt) === id) {
      if (held.includes(-buffer - 1)) isWhole = false;
      else unlatchExclusive(words, lockAt, lockAt + 1);
    } else if (!(await attemptOften(context, () => settleReaders(context, buffer)))) isWhole = false;
  }
  return isWhole;
}

function lockOf({ headers }: RecoveryContext, buffer: number): number {
  return headers.at(buffer) + DESCRIPTOR.contentLock;
}

/** Lets go of the readers that no living backend has noted. @returns false if somebody is changing his locks */
function settleReaders(context: RecoveryContext, buffer: number): boolean {
  const { words } = context;
  const lockAt = lockOf(context, buffer);
  const before = Atomics.load(words, lockAt);
  let readers = 0;
  for (const { at, isDead } of otherBackends(context)) {
    if (!isDead && Atomics.load(words, at + BACKEND.lockIntent) !== 0) return false;
    const count = Atomics.load(words, at + BACKEND.heldCount);
    for (let slot = 0; slot < count; slot++) {
      if (Atomics.load(words, at + BACKEND.held + slot) === buffer + 1) readers += 1;
    }
    if (!isDead && Atomics.load(words, at + BACKEND.lockIntent) !== 0) return false;
  }
  if (Atomics.load(words, lockAt) !== before) return false;
  for (let left = latchReaders(words, lockAt) - readers; left > 0; left--) {
    unlatchShared(words, lockAt, lockAt + 1);
  }
  return true;
}
