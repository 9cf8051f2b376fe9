/**
 * Callers waiting for room in an arena, in the order they came.
 *
 * Invariant: a caller is in line exactly as long as its promise is pending. Whoever takes it out settles it. A set keeps
 * the order of insertion, and lets an aborted caller leave from the middle in constant time.
 */

/** One caller in line. */
export interface Waiting<Request, Result> {
  readonly request: Request;
  readonly resolve: (result: Result) => void;
  readonly reject: (reason: unknown) => void;
  /** Leaves the signal alone; done by whoever settles the promise. */
  readonly leave: () => void;
}

/** First come, first served. The number of callers is bounded by whoever calls. */
export class WaitLine<Request, Result> {
  readonly #line: Set<Waiting<Request, Result>> = new Set();

  get isEmpty(): boolean {
    return this.#line.size === 0;
  }

  /**
   * Joins the end of the line.
   *
   * @param signal not aborted yet; its abort rejects the promise with its reason, and calls `onAbort`
   */
  wait(request: Request, signal: AbortSignal | undefined, onAbort: () => void): Promise<Result> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#line.delete(waiting);
        signal?.removeEventListener("abort", abort);
      };
      const waiting: Waiting<Request, Result> = { request, resolve, reject, leave };
      const abort = (): void => {
        leave();
        reject(signal?.reason as Error);
        onAbort();
      };
      this.#line.add(waiting);
      signal?.addEventListener("abort", abort);
    });
  }

  /** The one whose turn it is, still in line. */
  first(): Waiting<Request, Result> | undefined {
    const [waiting] = this.#line;
    return waiting;
  }
}
