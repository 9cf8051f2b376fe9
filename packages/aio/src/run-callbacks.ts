/**
 * The issuer's side of callbacks: staging, and the local completion of an I/O that has been distilled.
 *
 * Both run in the issuer's thread, last registered first. The shared completion, which may run anywhere, is in
 * completion.ts.
 */
import { byteOf } from "./completion.js";
import type { HandleTable } from "./handle-table.js";
import type { HandleView } from "./handle-view.js";
import { HANDLE } from "./layout.js";
import { knownCallbacks } from "./registry.js";
import type { AioRegistry } from "./registry.js";
import { copyResult, unpackResult } from "./result.js";
import type { IoResult } from "./result.js";

/** Runs the stage callbacks of a DEFINED handle. What they throw is thrown on. */
export function runStageCallbacks(
  table: HandleTable,
  registry: AioRegistry,
  view: HandleView,
  handle: number,
): void {
  const ids = table.get(handle, HANDLE.callbackIds);
  const data = table.get(handle, HANDLE.callbackData);
  for (let index = table.callbackCount(handle) - 1; index >= 0; index--) {
    const callbacks = knownCallbacks(registry, byteOf(ids, index));
    callbacks.stage?.(view.of(handle), byteOf(data, index));
  }
}

/** Fills `into` with the distilled result of a COMPLETED_SHARED handle as its local callbacks have made it. */
export function runLocalCallbacks(
  table: HandleTable,
  registry: AioRegistry,
  view: HandleView,
  handle: number,
  into: IoResult,
): void {
  unpackResult(table.get(handle, HANDLE.distilled), table.get(handle, HANDLE.distilledResult), into);
  const count = table.callbackCount(handle);
  if (count === 0) return;
  const ids = table.get(handle, HANDLE.callbackIds);
  const data = table.get(handle, HANDLE.callbackData);
  for (let index = count - 1; index >= 0; index--) {
    const callbacks = knownCallbacks(registry, byteOf(ids, index));
    if (callbacks.completeLocal === undefined) continue;
    const local = callbacks.completeLocal(view.of(handle), into, byteOf(data, index));
    if (local.status === "unknown") throw new TypeError("a local completion returned an unknown status");
    if (local !== into) copyResult(local, into);
  }
}
