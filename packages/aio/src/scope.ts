/**
 * Scopes: what gets rid of a handle when the code that acquired it ends, well or badly.
 *
 * The resource owner of PostgreSQL. A scope that ends takes back a handle that was neither defined nor released, and
 * submits what was staged; I/O in flight goes on, but the return slot, which may be gone with the caller's frame, is
 * never written. Ending without an error, both deserve a warning; after one they are ordinary.
 */
import type { AioWarningCode } from "./errors.js";
import type { OwnHandles } from "./own-handles.js";
import type { Submission } from "./submission.js";

/** Called when a scope has been cleaned up. */
export type ScopeEndHook = (failed: boolean) => void;

/** Something that handles are acquired in. Made by a backend, for its thread only. */
export class IoScope implements Disposable {
  readonly #stack: ScopeStack;
  readonly #hooks: ScopeEndHook[] = [];
  #isOpen = true;

  /** For {@link ScopeStack.open}. */
  constructor(stack: ScopeStack) {
    this.#stack = stack;
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
    this.#stack.ended(this, failed);
    for (const hook of this.#hooks.reverse()) hook(failed);
  }

  /** Ends the scope as if all had gone well. */
  [Symbol.dispose](): void {
    this.end();
  }
}

/** The open scopes of one backend, and what the end of one means for its handles. */
export class ScopeStack {
  readonly #own: OwnHandles;
  readonly #submission: Submission;
  readonly #warn: (code: AioWarningCode, message: string) => void;
  readonly #open: IoScope[] = [];
  #hasLeft = false;

  constructor(
    own: OwnHandles,
    submission: Submission,
    onWarning: ((code: AioWarningCode, message: string) => void) | undefined,
  ) {
    this.#own = own;
    this.#submission = submission;
    this.#warn = onWarning ?? (() => undefined);
  }

  /** The one opened last of those that are open. */
  get innermost(): IoScope | undefined {
    return this.#open.at(-1);
  }

  open(): IoScope {
    const scope = new IoScope(this);
    this.#open.push(scope);
    return scope;
  }

  /** Ends all that are open, the last one first. */
  endAll(): void {
    for (let scope = this.innermost; scope !== undefined; scope = this.innermost) scope.end();
  }

  /** The backend has left the system: the ends that are still to come mean nothing. */
  leave(): void {
    this.#hasLeft = true;
  }

  /** For {@link IoScope.end}. */
  ended(scope: IoScope, failed: boolean): void {
    this.#open.splice(this.#open.indexOf(scope), 1);
    if (this.#hasLeft) return;
    const own = this.#own;
    if (own.isHandedOutIn(scope)) {
      if (!failed) this.#warn("AIO_LEAKED_HANDLE", `handle ${own.handedOut} was neither used nor released`);
      own.takeBack();
    }
    if (this.#submission.abandonBatchOf(scope)) {
      if (!failed) this.#warn("AIO_OPEN_BATCH", "the scope that entered batch mode ended in it");
      this.#submission.submitStaged();
    }
    if (own.hasStagedIn(scope)) {
      if (!failed) this.#warn("AIO_NOT_SUBMITTED", "a scope ended with staged I/O");
      this.#submission.submitStaged();
    }
    own.detachScope(scope);
  }
}
