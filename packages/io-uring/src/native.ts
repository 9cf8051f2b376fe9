/**
 * Finds and loads the addon, once a thread and only when it is first needed.
 *
 * No addon is a normal state: another platform, no compiler, a binary of older sources, MILLRACE_NATIVE=0. Nothing
 * here throws then; nativeStatus says why. The binary is two directories away from this file whether it runs from
 * `src` or from `dist`. MILLRACE_NATIVE may name another binary by its absolute path: that is how the tests run
 * against a build with sanitizers.
 */
import { createRequire } from "node:module";
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UringError } from "./errors.js";

/** Must equal NATIVE_VERSION of csrc/native.h. */
const NATIVE_VERSION = 3;

/** Positions of what ringCreate tells about a ring; the order of `values` in csrc/ring-table.c. */
export const RING_FACT = {
  id: 0,
  fd: 1,
  entries: 2,
  cqEntries: 3,
  features: 4,
  sqHeadBytes: 5,
  sqTailBytes: 6,
  sqFlagsBytes: 7,
  cqHeadBytes: 8,
  cqTailBytes: 9,
  cqesBytes: 10,
  count: 11,
} as const;

/** The addon's functions. Each returns zero or a count, or a negative errno; see the C sources for the arguments. */
export interface Native {
  readonly version: number;
  ringCreate(entries: number, flags: number, cqEntries: number, facts: Uint32Array): number;
  ringMemory(id: number, which: 0 | 1): ArrayBuffer | number;
  ringClose(id: number): number;
  ringEnter(id: number, submit: number, waitFor: number, flush: 0 | 1): number;
  ringRegister(
    id: number,
    opcode: number,
    data: Uint32Array | Int32Array | undefined,
    count: number,
    offset: number,
  ): number;
  foreignReap(id: number, target: Int32Array, max: number): number;
  foreignPeek(id: number, target: Int32Array, max: number): number;
  foreignAdvance(id: number, count: number): number;
  foreignInKernel(id: number): number;
  foreignWait(id: number, waitFor: number): number;
  foreignReady(id: number): number;
  foreignIsOrphan(id: number): number;
  foreignCloseOrphan(id: number): number;
  orphans(ids: Int32Array): number;
  probe(features: Uint32Array): number;
  pollStart(id: number, callback: () => void): number;
  pollKeepAlive(id: number, yes: boolean): number;
  pollStop(id: number): number;
  pread(fd: number, view: ArrayBufferView, at: number, length: number, offset: number): number;
  pwrite(fd: number, view: ArrayBufferView, at: number, length: number, offset: number): number;
  preadv(fd: number, iovecs: Uint32Array, count: number, offset: number, flags: number): number;
  pwritev(fd: number, iovecs: Uint32Array, count: number, offset: number, flags: number): number;
  fsync(fd: number): number;
  fdatasync(fd: number): number;
  fadvise(fd: number, offset: number, length: number, advice: number): number;
  fallocate(fd: number, offset: number, length: number, mode: number): number;
  syncFileRange(fd: number, offset: number, length: number, flags: number): number;
  dioAlign(fd: number, target: Uint32Array): number;
  residentPages(fd: number, offset: number, length: number): number;
  addressOf(view: ArrayBufferView): number;
  adviseHugePages(view: ArrayBufferView, collapse: boolean): number;
  discardPages(view: ArrayBufferView): number;
  faultArm(operation: number, pass: number, times: number, result: number): number;
}

/** What is known about the native part. */
export interface NativeStatus {
  readonly available: boolean;
  /** Why it is not available. */
  readonly reason?: string;
  /** The binary that was loaded, or was looked for. */
  readonly path?: string;
}

interface Loaded {
  readonly native: Native | undefined;
  readonly status: NativeStatus;
}

let loaded: Loaded | undefined;

function load(): Loaded {
  const setting = process.env["MILLRACE_NATIVE"] ?? "";
  const unavailable = (reason: string, path?: string): Loaded => ({
    native: undefined,
    status: { available: false, reason, ...(path === undefined ? {} : { path }) },
  });
  if (setting === "0") return unavailable("switched off by MILLRACE_NATIVE=0");
  if (process.platform !== "linux")
    return unavailable(`there is one for Linux only, this is ${process.platform}`);
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const path = isAbsolute(setting)
    ? setting
    : join(root, "prebuilds", `${process.platform}-${process.arch}`, "io-uring.node");
  try {
    const native = createRequire(import.meta.url)(path) as Native;
    if (native.version !== NATIVE_VERSION)
      return unavailable(`the binary is of version ${native.version}, ${NATIVE_VERSION} is needed`, path);
    return { native, status: { available: true, path } };
  } catch (error) {
    return unavailable(error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error), path);
  }
}

/** The addon, or undefined where there is none. */
export function nativeOrNone(): Native | undefined {
  loaded ??= load();
  return loaded.native;
}

/**
 * The addon.
 *
 * @throws {UringError} ERR_URING_UNAVAILABLE where there is none
 */
export function nativeOrThrow(): Native {
  const native = nativeOrNone();
  if (native !== undefined) return native;
  throw new UringError("ERR_URING_UNAVAILABLE", `no native part: ${nativeStatus().reason}`);
}

/** Whether the native part is loaded, from where, and if not, why. Loads it if that was not tried in this thread. */
export function nativeStatus(): NativeStatus {
  loaded ??= load();
  return loaded.status;
}
