/**
 * Closing a descriptor that I/O may still be using: which I/O that is.
 *
 * The lease takes no new I/O before this looks, so nothing that names it goes on unless it was visible as SUBMITTED by
 * then. See file-table.ts for why the two together miss nothing.
 */
import type { FileLease } from "./file-table.js";
import { HANDLE_STATE } from "./handle-state.js";
import type { HandleTable } from "./handle-table.js";
import { HANDLE } from "./layout.js";
import type { WaitRef } from "./wait-ref.js";

/** I/O of any backend that was submitted under a lease and is not over. */
export function submittedUnder(table: HandleTable, lease: FileLease): WaitRef[] {
  const refs: WaitRef[] = [];
  for (let handle = 0; handle < table.count; handle++) {
    const generation = table.generation(handle);
    const state = table.state(handle);
    const isOut = state === HANDLE_STATE.submitted || state === HANDLE_STATE.completedIo;
    if (!isOut || table.get(handle, HANDLE.fileSlot) !== lease.slot) continue;
    if (table.get(handle, HANDLE.fileGeneration) !== lease.generation) continue;
    refs.push({ handle, generation });
  }
  return refs;
}
