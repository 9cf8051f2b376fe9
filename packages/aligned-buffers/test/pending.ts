/** What the tests mean by "pending": not settled after the microtask queue and two turns of the event loop. */
import { setImmediate as turn } from "node:timers/promises";

/** Lets everything that can happen without outside help happen. */
export async function settle(): Promise<void> {
  await turn();
  await turn();
}

export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  promise.then(mark, mark);
  await settle();
  return !settled;
}
