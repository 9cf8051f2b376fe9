/**
 * Timing for work that only uses the processor.
 *
 * On a shared machine other processes take time away, never give any, and they take it in slices of a few
 * milliseconds. So a run is cut into short slices and its rate is that of the fastest one: the work as it is when
 * nobody interrupts. Slices before the clock starts let V8 compile, and WebAssembly reach its second tier.
 */
import type { Sample } from "./contest.js";

/** How a run is cut. */
export interface Slices {
  readonly warmUp: number;
  readonly timed: number;
}

/** For a run that is judged. */
export const FULL_SLICES: Slices = { warmUp: 4, timed: 16 };
/** For a smoke test. */
export const QUICK_SLICES: Slices = { warmUp: 1, timed: 1 };

/**
 * Runs slices of deterministic work and gives the rate of the fastest one.
 *
 * @param units of work in a slice; the rate is units a second
 * @param slice does one slice and gives its checksum, the same every time
 * @throws {RangeError} two slices differ in their checksum
 */
export async function fastestSlice(
  { warmUp, timed }: Slices,
  units: number,
  slice: () => number | Promise<number>,
): Promise<Sample> {
  const checksums = new Set<number>();
  let fastestNs = Number.POSITIVE_INFINITY;
  for (let index = 0; index < warmUp + timed; index += 1) {
    const start = process.hrtime.bigint();
    const pending = slice();
    const sum = typeof pending === "number" ? pending : await pending;
    const elapsedNs = Number(process.hrtime.bigint() - start);
    checksums.add(sum >>> 0);
    if (index >= warmUp) fastestNs = Math.min(fastestNs, Math.max(1, elapsedNs));
  }
  const [checksum, other] = checksums;
  if (checksum === undefined || other !== undefined) throw new RangeError("slices differ in their checksum");
  return { rate: (units / fastestNs) * 1e9, checksum: checksum.toString(16).padStart(8, "0") };
}
