/**
 * Whether io_uring works in this process: asks the kernel, not its version.
 *
 * Setting up a ring and having it do nothing once is the only honest answer: a sysctl, a seccomp profile or a limit
 * forbids it on kernels that have it. Asked of the kernel once a process; later calls, in any thread, get the same
 * answer. While a fault is armed, each call asks anew and nothing is kept.
 */
import { errno, errnoName, setupReason } from "./errno.js";
import { nativeOrNone, nativeStatus } from "./native.js";

export interface UringProbe {
  readonly available: boolean;
  /** The errno's name, for example "EPERM", or ERR_URING_UNAVAILABLE if there is no native part. */
  readonly code?: string;
  /** Negative. */
  readonly errno?: number;
  /** What is in the way, in a sentence that says what to change. */
  readonly reason?: string;
  /** Bits of FEATURE. */
  readonly features?: number;
}

/** Tries io_uring out. Never throws. */
export function probeUring(): UringProbe {
  const native = nativeOrNone();
  if (native === undefined)
    return { available: false, code: "ERR_URING_UNAVAILABLE", reason: nativeStatus().reason ?? "" };
  const features = new Uint32Array(1);
  // Electron's V8 refuses ArrayBuffers over memory from outside, which the rings are.
  const result = process.versions["electron"] === undefined ? native.probe(features) : errno("EOPNOTSUPP");
  if (result === 0) return { available: true, features: features[0] ?? 0 };
  return { available: false, code: errnoName(result), errno: result, reason: setupReason(result) };
}
