/**
 * Waiting with a bound.
 */

/** Thrown by `withDeadline`. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/** Resolves after `ms`. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * The outcome of `promise`, unless `ms` pass first.
 *
 * What `promise` stands for goes on; only the waiting ends.
 *
 * @throws {DeadlineError} when the time is over
 */
export async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new DeadlineError(`not within ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
