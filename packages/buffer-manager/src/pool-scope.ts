/**
 * Scopes: what gives pins back when the code that took them ends, well or badly.
 *
 * The resource owner of PostgreSQL. A pin is noted in the scope that is current when the call that takes it is made; a scope that
 * ends gives back what is left in it. After an error that is ordinary; otherwise it is a leak, and deserves a warning. Locks on
 * a page go with its last pin. An I/O lock needs no note: no call of the buffer manager returns with one, and each lets go of
 * its own when it fails.
 *
 * The scope opened last is current, which is all that blocking code needs. Flows that take turns on an event loop say which
 * is theirs with `use`, for the moment of the call.
 */

/** What a scope needs of the backend it belongs to. */
export interface ScopeOwner {
  /** Gives back a pin that nobody else will, and locks that hang on it. */
  releaseLeaked(buffer: number): void;
  warnOfLeak(buffer: number): void;
}

/** Something that pins are noted in. Made by the buffer manager, for its thread only. */
export class PoolScope implements Disposable {
  readonly #scopes: PoolScopes;
  /** Numbers of buffers, once a pin. */
  readonly #pins: number[] = [];
  #isOpen = true;

  /** For {@link PoolScopes.open}. */
  constructor(scopes: PoolScopes) {
    this.#scopes = scopes;
  }

  /** Pins noted in it. */
  get pinCount(): number {
    return this.#pins.length;
  }

  /** Makes this scope the current one during a call, also of an asynchronous form. */
  use<T>(call: () => T): T {
    return this.#scopes.using(this, call);
  }

  /** For {@link PoolScopes}: notes a pin. */
  remember(buffer: number): void {
    this.#pins.push(buffer);
  }

  /** For {@link PoolScopes}: strikes a pin out. @returns false if it is not noted here */
  forget(buffer: number): boolean {
    const pins = this.#pins;
    const at = pins.lastIndexOf(buffer);
    if (at < 0) return false;
    pins.copyWithin(at, at + 1);
    pins.pop();
    return true;
  }

  /** Ends the scope and gives back what is left, the last pin first. A second end does nothing. */
  end(failed = false): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#scopes.ended(this, this.#pins.splice(0).reverse(), failed);
  }

  /** Ends the scope as if all had gone well. */
  [Symbol.dispose](): void {
    this.end();
  }
}

/** The scopes of one backend. */
export class PoolScopes {
  /** Where pins are noted now; undefined outside all scopes. */
  current: PoolScope | undefined = undefined;
  readonly #owner: ScopeOwner;
  readonly #open: PoolScope[] = [];

  constructor(owner: ScopeOwner) {
    this.#owner = owner;
  }

  /** Opens a scope, which becomes current. */
  open(): PoolScope {
    const scope = new PoolScope(this);
    this.#open.push(scope);
    this.current = scope;
    return scope;
  }

  /** Runs `body` in a scope of its own, which ends as failed if it throws. */
  run<T>(body: (scope: PoolScope) => T): T {
    const scope = this.open();
    let failed = true;
    try {
      const value = body(scope);
      failed = false;
      return value;
    } finally {
      scope.end(failed);
    }
  }

  /** For {@link PoolScope.use}. */
  using<T>(scope: PoolScope, call: () => T): T {
    const before = this.current;
    this.current = scope;
    try {
      return call();
    } finally {
      this.current = before;
    }
  }

  /** Strikes a pin out where it is noted: in the current scope, or else in the newest that has it. */
  forget(buffer: number): void {
    if (this.current?.forget(buffer) === true) return;
    for (let at = this.#open.length - 1; at >= 0; at--) if (this.#open[at]?.forget(buffer) === true) return;
  }

  /** For {@link PoolScope.end}. */
  ended(scope: PoolScope, pins: readonly number[], failed: boolean): void {
    this.#open.splice(this.#open.indexOf(scope), 1);
    if (this.current === scope) this.current = this.#open.at(-1);
    for (const buffer of pins) {
      if (!failed) this.#owner.warnOfLeak(buffer);
      this.#owner.releaseLeaked(buffer);
    }
  }

  /** Ends all scopes, the newest first. */
  endAll(): void {
    while (this.#open.length > 0) this.#open.at(-1)?.end();
  }
}
