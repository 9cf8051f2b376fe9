/**
 * Keeps a thread's event loop alive while, and only while, somebody in it waits for another thread.
 *
 * A pending `Atomics.waitAsync` does not: a process whose only activity is such a wait would end. One timer for each
 * thread, made at the first wait, is referenced while at least one wait holds on. It fires every 24 days and does nothing.
 */

/** The longest period that a timer takes, milliseconds. */
const PERIOD_MS: number = 2 ** 31 - 1;

let holders = 0;
let timer: NodeJS.Timeout | undefined;

/** One more wait holds on. */
export function holdAlive(): void {
  holders += 1;
  if (holders > 1) return;
  timer ??= setInterval(ignore, PERIOD_MS);
  timer.ref();
}

/** One wait lets go; the last one lets the thread end. */
export function releaseAlive(): void {
  holders -= 1;
  if (holders === 0) timer?.unref();
}

function ignore(): void {
  // Being there is all this timer is for.
}
