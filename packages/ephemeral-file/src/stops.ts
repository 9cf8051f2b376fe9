/**
 * How a read ends early: by the caller's signal, or because the file is disposed of.
 *
 * A stop is looked at before anything is issued, and before a byte is copied to the caller. What the kernel has is waited for,
 * in the background if the caller has been told already: its memory is the arena's, and goes back there only then.
 */

/** Any of them stops. */
export type Stops = readonly AbortSignal[];

/** @throws the reason of the first one that is aborted */
export function throwIfStopped(stops: Stops): void {
  for (const signal of stops) signal.throwIfAborted();
}

/** One signal for all of them. Costs listeners: only for waits. */
export function anyOf(stops: Stops): AbortSignal {
  return AbortSignal.any([...stops]);
}

/**
 * Rejects when the signal is aborted, although the work goes on.
 *
 * @param discard is given a result that comes too late
 */
export function orAbort<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  discard: (result: T) => void,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    let isAborted = false;
    const onAbort = (): void => {
      isAborted = true;
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(
      (result) => {
        signal.removeEventListener("abort", onAbort);
        if (isAborted) discard(result);
        else resolve(result);
      },
      (error: unknown) => {
        signal.removeEventListener("abort", onAbort);
        reject(error);
      },
    );
  });
}
