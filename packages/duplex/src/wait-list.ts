/**
 * Callers waiting in line, each with something it brought along and a promise that somebody else will settle.
 *
 * A doubly linked list, so that an aborted waiter in the middle leaves in constant time and without a search.
 * Invariant: a waiter is linked exactly as long as its promise is pending. Whoever takes it off the list (`shift`) must
 * settle it; an abort does both here. The waiter is its own abort listener, which is removed when it leaves, so that
 * a signal that lives as long as the process does not collect listeners.
 */
export class WaitList<Payload, Result> {
  readonly #onEmpty: (() => void) | undefined;
  #first: Waiter<Payload, Result> | undefined;
  #last: Waiter<Payload, Result> | undefined;

  /** @param onEmpty called when the last waiter has left, shifted or aborted */
  constructor(onEmpty?: () => void) {
    this.#onEmpty = onEmpty;
  }

  get isEmpty(): boolean {
    return this.#first === undefined;
  }

  /**
   * Adds a waiter at the end.
   *
   * @param signal not aborted yet; its abort rejects the promise with its reason
   * @returns a promise that is pending until the waiter is shifted and settled, or aborted
   */
  wait(payload: Payload, signal: AbortSignal | undefined): Promise<Result> {
    return new Promise((resolve, reject) => {
      const waiter = new Waiter(this, payload, signal, resolve, reject);
      waiter.previous = this.#last;
      if (this.#last === undefined) this.#first = waiter;
      else this.#last.next = waiter;
      this.#last = waiter;
      signal?.addEventListener("abort", waiter);
    });
  }

  /** The payload of the first waiter, or undefined if nobody waits. */
  peek(): Payload | undefined {
    return this.#first?.payload;
  }

  /** Takes the first waiter off the list, to be settled by the caller; undefined if nobody waits. */
  shift(): Waiter<Payload, Result> | undefined {
    const waiter = this.#first;
    if (waiter !== undefined) this.remove(waiter);
    return waiter;
  }

  /** Takes a linked waiter off the list, wherever it stands. */
  remove(waiter: Waiter<Payload, Result>): void {
    if (waiter.previous === undefined) this.#first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.previous = undefined;
    waiter.next = undefined;
    waiter.signal?.removeEventListener("abort", waiter);
    if (this.#first === undefined) this.#onEmpty?.();
  }
}

/** One caller in line. Links belong to the list; only `payload`, `resolve` and `reject` are for others. */
export class Waiter<Payload, Result> {
  readonly payload: Payload;
  readonly resolve: (result: Result) => void;
  readonly reject: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
  previous: Waiter<Payload, Result> | undefined;
  next: Waiter<Payload, Result> | undefined;
  readonly #list: WaitList<Payload, Result>;

  constructor(
    list: WaitList<Payload, Result>,
    payload: Payload,
    signal: AbortSignal | undefined,
    resolve: (result: Result) => void,
    reject: (reason: unknown) => void,
  ) {
    this.#list = list;
    this.payload = payload;
    this.signal = signal;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** Called by the signal, which the wait then no longer listens to. */
  handleEvent(): void {
    this.#list.remove(this);
    this.reject(this.signal?.reason);
  }
}
