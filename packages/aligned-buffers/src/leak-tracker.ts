/**
 * Debug mode's memory of who holds what: a stack for each handle, and a report when a handle is collected by the
 * garbage collector although it still owned its buffer.
 *
 * It only reports. Freeing here would be wrong: the handle is gone, but the kernel or another thread may still be
 * writing to the bytes. When a collector runs is not defined, so that a leak may also never be reported.
 */

/** A buffer whose last handle was dropped without `dispose`. Its memory stays taken until the arena is gone. */
export interface LeakReport {
  /** Which kind of handle it was. */
  readonly handle: "IoBufferMut" | "IoBuffer" | "Loan";
  /** Where the buffer starts in its segment, bytes. */
  readonly byteOffset: number;
  readonly capacity: number;
  /** Where the handle was made, as a stack. */
  readonly madeAt: string;
}

/** One for each debug arena. */
export class LeakTracker {
  readonly #registry: FinalizationRegistry<LeakReport>;

  /** @param onLeak called from a turn of its own; what it throws is an uncaught exception */
  constructor(onLeak: (report: LeakReport) => void) {
    this.#registry = new FinalizationRegistry(onLeak);
  }

  /** Watches a handle until `forget`. */
  watch(handle: object, kind: LeakReport["handle"], byteOffset: number, capacity: number): void {
    this.#registry.register(handle, { handle: kind, byteOffset, capacity, madeAt: stack() }, handle);
  }

  /** The handle gave its buffer away in order. Returns where, as a stack. */
  forget(handle: object): string {
    this.#registry.unregister(handle);
    return stack();
  }
}

/** The callers of the tracker's caller. */
function stack(): string {
  const { stack: text = "" } = new Error("here");
  return text.split("\n").slice(3).join("\n");
}
