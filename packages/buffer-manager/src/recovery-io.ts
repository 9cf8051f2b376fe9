/**
 * I/O locks that nobody will give back any more, once asynchronous I/O has recovered what it had of the dead thread.
 *
 * A buffer whose lock names the dead backend had not got as far as an I/O. One that is locked, and names neither a backend nor
 * an I/O, belongs to a thread that died while it took the lock or gave it back, or to one that is just doing so.
 */
import { STATE } from "./buffer-state.js";
import { terminateIo } from "./io-lock.js";
import { DESCRIPTOR } from "./layout.js";
import type { RecoveryContext } from "./recovery-context.js";

/** Looks before a lock without an owner is nobody's. */
const PATIENCE = 200;

/** Gives back the I/O locks that name the dead backend, as after an I/O that failed. */
export function endIoOf({ words, layout, headers, id }: RecoveryContext): void {
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    const owner = words[headers.at(buffer) + DESCRIPTOR.ioOwner] as number;
    if (Math.abs(owner) === id + 1) terminateIo(headers, buffer, false, STATE.ioError, owner < 0);
  }
}

/** Gives back the I/O locks of nobody. @returns their buffers; whether an I/O had a pin on them is not known */
export async function dropOrphanedIo(context: RecoveryContext): Promise<number[]> {
  let orphans = Array.from({ length: context.layout.buffersMax }, (_, buffer) => buffer).filter((buffer) =>
    isOrphan(context, buffer),
  );
  for (let look = 0; orphans.length > 0 && look < PATIENCE; look++) {
    await context.pause();
    orphans = orphans.filter((buffer) => isOrphan(context, buffer));
  }
  for (const buffer of orphans) terminateIo(context.headers, buffer, false, STATE.ioError, false);
  return orphans;
}

function isOrphan({ words, headers }: RecoveryContext, buffer: number): boolean {
  const first = headers.at(buffer);
  return (
    (headers.state(buffer) & STATE.ioInProgress) !== 0 &&
    Atomics.load(words, first + DESCRIPTOR.ioOwner) === 0 &&
    Atomics.load(words, first + DESCRIPTOR.ioHandle) === 0
  );
}
