/**
 * Method worker: staged I/O goes into a queue from which I/O workers execute it.
 *
 * What does not fit is executed by the issuer, after as much as possible has been queued, so that the workers are busy
 * meanwhile. So is everything if a thread that must not sleep does not get the queue's lock, and what nobody else can do:
 * memory of the issuer's own, a target that cannot be reopened, a system without workers. One sleeping worker is woken for a submission; it wakes others if there is more to do.
 */
import { executeNow, settle } from "../execute.js";
import type { HoldPoint } from "../faults.js";
import { HANDLE } from "../layout.js";
import type { Layout } from "../layout.js";
import type { IoMethod, MethodContext } from "../method.js";
import { FLAG } from "../operations.js";
import type { AioRegistry } from "../registry.js";
import { WorkerQueue } from "../worker-queue.js";

/** The method of one backend. */
export function createWorkerMethod(context: MethodContext, layout: Layout, registry: AioRegistry): IoMethod {
  const { table, completer } = context;
  const queue = new WorkerQueue(table.words, layout, context.backend + 1, context.mayBlock);

  /** With the lock held, and gives it back. @returns how many fitted */
  function enqueue(handles: Int32Array, count: number): number {
    if (context.faults.isArmed) holdAt("locked", handles[0] as number);
    let queued = 0;
    while (queued < count && queue.push(handles[queued] as number)) queued++;
    const worker = queue.takeIdle();
    queue.unlock();
    if (context.faults.isArmed) holdAt("queued", handles[0] as number);
    if (worker >= 0) queue.wake(worker);
    return queued;
  }

  function holdAt(point: HoldPoint, handle: number): void {
    context.faults.holdHere(point, table.operation(handle), table.get(handle, HANDLE.fd));
  }

  function submit(handles: Int32Array, count: number): void {
    const accepted = context.markSubmitted(handles, count);
    if (accepted === 0) return;
    if (context.faults.isArmed) holdAt("submitted", handles[0] as number);
    const queued = queue.lock() ? enqueue(handles, accepted) : 0;
    for (let index = queued; index < accepted; index++) {
      const handle = handles[index] as number;
      completer.complete(handle, settle(context, handle, executeNow(context, handle)));
    }
  }

  return {
    name: "worker",
    needsSynchronousExecution(handle) {
      if ((table.flags(handle) & FLAG.referencesLocal) !== 0) return true;
      if (queue.workerMask === 0) return true;
      return registry.targetOf(table.targetId(handle))?.reopen === undefined;
    },
    submit,
    close: () => undefined,
  };
}
