/**
 * Method manual: submitted I/O stays in flight until a test completes it, from any thread, with a result or for real.
 *
 * It is how every order of completions, and every wait, can be produced without luck. The I/O in flight is found in the
 * shared words, so the controller may live in another thread than the issuer.
 */
import { Completer } from "../completion.js";
import { AioError } from "../errors.js";
import { executeNow, settle } from "../execute.js";
import { HANDLE_STATE } from "../handle-state.js";
import { HandleView } from "../handle-view.js";
import { HANDLE } from "../layout.js";
import type { IoMethod, MethodContext } from "../method.js";
import { checkPanic } from "../panic.js";
import type { AioRegistry } from "../registry.js";
import { openThread } from "../thread-context.js";
import type { AioShared, ThreadContext } from "../thread-context.js";

/** Completers that are no backend are numbered above all backends. */
const CONTROLLER_ID = 3000;

/** The method of one backend. */
export function createManualMethod(context: MethodContext): IoMethod {
  return {
    name: "manual",
    submit: (handles, count) => void context.markSubmitted(handles, count),
    close: () => undefined,
  };
}

/** Completes what backends of method manual have submitted. Not one of them: it counts as another thread. */
export class ManualController {
  readonly #context: ThreadContext;
  readonly #completer: Completer;

  /** @throws {AioError} ERR_AIO_REGISTRY_MISMATCH; ERR_AIO_BAD_STATE: the system has another method */
  constructor(shared: AioShared, registry: AioRegistry) {
    if (shared.method !== "manual") {
      throw new AioError("ERR_AIO_BAD_STATE", `the system's method is ${shared.method}, not manual`);
    }
    this.#context = openThread(shared, registry);
    const view = new HandleView(this.#context.table, this.#context.segments, -1);
    this.#completer = new Completer(this.#context, registry, view, CONTROLLER_ID, -1);
  }

  /** Handles in flight, each backend's in the order of submission. */
  submitted(): number[] {
    const { table } = this.#context;
    const found: number[] = [];
    for (let handle = 0; handle < table.count; handle++) {
      if (table.state(handle) === HANDLE_STATE.submitted) found.push(handle);
    }
    const owner = (handle: number): number => table.get(handle, HANDLE.owner);
    const tick = (handle: number): number => table.get(handle, HANDLE.submitTick);
    return found.sort((a, b) => owner(a) - owner(b) || tick(a) - tick(b));
  }

  /**
   * Completes one I/O.
   *
   * @param result the raw result to pretend; without it the I/O is really executed
   * @throws {AioError} ERR_AIO_BAD_STATE: not in flight; ERR_AIO_PANIC
   */
  complete(handle: number, result?: number): void {
    const { table, words } = this.#context;
    checkPanic(words);
    if (table.state(handle) !== HANDLE_STATE.submitted) {
      throw new AioError("ERR_AIO_BAD_STATE", `handle ${handle} is not in flight`);
    }
    this.#completer.complete(
      handle,
      result ?? settle(this.#context, handle, executeNow(this.#context, handle)),
    );
  }

  /** Completes everything in flight for real, oldest first. @returns how many */
  completeAll(): number {
    const handles = this.submitted();
    for (const handle of handles) this.complete(handle);
    return handles.length;
  }
}
