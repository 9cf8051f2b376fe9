/**
 * Scopes: what gets rid of a handle when the code that acquired it ends, well or badly.
 *
 * The resource owner of PostgreSQL. A scope that ends takes back a handle that was neither defined nor released, and
 * submits what was staged; I/O in flight goes on, but the return slot, which may be gone with the caller's frame, is
 * never written. Ending without an error, both deserve a warning; after one they are ordinary.
 */
import type { AioBackend } from "./backend.js";

/** Called when a scope has been cleaned up. */
export type ScopeEndHook = (failed: boolean) => void;

/** Something that handles are acquired in. Made by a backend, for its thread only. */
export class IoScope implements Disposable {
  readonly #backend: AioBackend;
  readonly #hooks: ScopeEndHook[] = [];
  #isOpen = true;

  /** For {@link AioBackend.openScope}. */
  constructor(backend: AioBackend) {
    this.#backend = backend;
  }

  /** Whether handles can still be acquired in it. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Runs `hook` when the scope ends, after its I/O has been taken care of; the last one added first. */
  onEnd(hook: ScopeEndHook): void {
    this.#hooks.push(hook);
  }

  /** Ends the scope. A second end does nothing. */
  end(failed = false): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#backend.endScope(this, failed);
    for (const hook of this.#hooks.reverse()) hook(failed);
  }

  /** Ends the scope as if all had gone well. */
  [Symbol.dispose](): void {
    this.end();
  }
}
