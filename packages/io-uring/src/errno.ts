/**
 * Errno values: their names, and what a refused ring setup means to whoever can change it.
 *
 * Negative, as the kernel and every call here return them. Names come from Node, numbers from the running system.
 */
import { constants } from "node:os";
import { getSystemErrorName } from "node:util";

/** The negative errno of a name, for example `errno("EPERM")`, which is -1. */
export function errno(name: keyof typeof constants.errno): number {
  return -constants.errno[name];
}

/** The name of a negative errno, or the number as text where the system has none. */
export function errnoName(value: number): string {
  try {
    return getSystemErrorName(value);
  } catch {
    return String(value);
  }
}

/** The negative errno in what `node:fs` throws; EIO if it is something else. */
export function errnoOf(error: unknown): number {
  const value = (error as { errno?: unknown } | null)?.errno;
  return typeof value === "number" && value < 0 ? value : errno("EIO");
}

const SETUP_HINTS: Readonly<Record<string, string>> = {
  EPERM:
    "io_uring is forbidden here: see the sysctl kernel.io_uring_disabled and kernel.io_uring_group, or a seccomp profile (Docker's default one denies it)",
  EACCES: "io_uring is forbidden here by a security module",
  ENOSYS: "the kernel has no io_uring or is older than 5.6, or a seccomp profile hides it",
  EMFILE: "the process has no descriptor left: raise `ulimit -n`, at least one is needed for each ring",
  ENFILE: "the system has no descriptor left: raise the sysctl fs.file-max",
  ENOMEM:
    "the ring's memory does not fit RLIMIT_MEMLOCK (kernels before 5.12 count it; containers often allow 64 KiB): raise `ulimit -l`",
  EINVAL: "the kernel does not know one of the setup flags, or the number of entries is too large",
  EOPNOTSUPP: "this runtime refuses ArrayBuffers over memory from outside (Electron does)",
};

/** Why a ring could not be set up, in a sentence that says what to change. */
export function setupReason(value: number): string {
  const name = errnoName(value);
  return `${name}: ${SETUP_HINTS[name] ?? "the kernel refused to set up a ring"}`;
}
