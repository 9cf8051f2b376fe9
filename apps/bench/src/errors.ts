/**
 * What can go wrong in a benchmark run that is nobody's defect.
 *
 * A verdict below a gate is a result and not an error. Errors are for runs that have no result: a wrong command line,
 * a program that does not start, or work whose outcome is not what it must be.
 */

/** Stable names of errors; compare these, not messages. */
export type BenchErrorCode =
  | "ERR_BENCH_USAGE" // the command line names something that does not exist
  | "ERR_BENCH_PROGRAM" // a program under test did not start, ended early, or printed something else than expected
  | "ERR_BENCH_WORK"; // the measured work had a wrong outcome, so its speed means nothing

/** Any expected failure of a benchmark run. */
export class BenchError extends Error {
  override readonly name = "BenchError";
  readonly code: BenchErrorCode;

  constructor(code: BenchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
