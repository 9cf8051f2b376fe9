/**
 * What the steps of a recovery share: the pool's words, the dead backend, and how to look at the living ones.
 *
 * Living backends go on meanwhile. Whatever is counted over them is believed only if nothing of it moved while it was counted.
 */
import type { BufferHeaders } from "./headers.js";
import { BACKEND, BACKEND_RECOVERING } from "./layout.js";
import type { PoolLayout } from "./layout.js";

/** A dead backend, and the pool that it was in. */
export interface RecoveryContext {
  readonly words: Int32Array;
  readonly layout: PoolLayout;
  /** Those of a thread that is no backend. */
  readonly headers: BufferHeaders;
  /** The dead backend, and its first word. */
  readonly id: number;
  readonly at: number;
  /** Lets others run. */
  readonly pause: () => Promise<void>;
}

/** Another backend: its first word, and whether it is dead too and waits for its recovery. */
export interface OtherBackend {
  readonly at: number;
  readonly isDead: boolean;
}

/** All other backends that are in the pool, or have died in it. */
export function otherBackends({ words, layout, id }: RecoveryContext): OtherBackend[] {
  const others: OtherBackend[] = [];
  for (let other = 0; other < layout.backends; other++) {
    const at = layout.backendsAt + other * layout.backendWords;
    const inUse = Atomics.load(words, at + BACKEND.inUse);
    if (other !== id && inUse !== 0) others.push({ at, isDead: inUse === BACKEND_RECOVERING });
  }
  return others;
}

/** Whether a backend's counts say that it has a buffer pinned. */
export function hasPinned({ words, layout }: RecoveryContext, backendAt: number, buffer: number): boolean {
  return Atomics.load(words, backendAt + layout.countsAt + buffer) !== 0;
}

/** Buffers that the dead backend had pinned, or was about to pin or to let go of. */
export function pinnedByDead(context: RecoveryContext): number[] {
  const { words, layout, at } = context;
  const buffers: number[] = [];
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    if (words[at + layout.countsAt + buffer] !== 0) buffers.push(buffer);
  }
  const intent = (words[at + BACKEND.pinIntent] as number) - 1;
  if (intent >= 0 && !buffers.includes(intent)) buffers.push(intent);
  return buffers;
}

/** Tries `attempt` over and over, letting others run in between. @returns false if it never succeeded in about a second */
export async function attemptOften(context: RecoveryContext, attempt: () => boolean): Promise<boolean> {
  for (let round = 0; round < ROUNDS; round++) {
    for (let times = 0; times < ATTEMPTS_A_ROUND; times++) if (attempt()) return true;
    await context.pause();
  }
  return false;
}

/** Rounds with a pause of 1 ms. */
const ROUNDS = 800;
/** Looks in a round: a buffer that is pinned all the time is at rest for microseconds only. */
const ATTEMPTS_A_ROUND = 50;
