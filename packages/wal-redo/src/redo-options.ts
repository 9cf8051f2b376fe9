/**
 * How a redo manager is set up, and what its numbers may be.
 */
import type { RedoClock } from "./clock.js";
import type { RedoPurpose } from "./redo-request.js";
import type { RedoDialect } from "./wire.js";

/** Who replays. */
export type RedoEngine =
  /** Worker threads of this process. */
  | "thread"
  /** Our own program, a process each. */
  | "process"
  /** Any program that speaks the frames, such as a PostgreSQL with `--wal-redo`. */
  | { readonly command: readonly [string, ...string[]]; readonly dialect: RedoDialect };

export interface RedoManagerOptions {
  /** Default: "thread". */
  readonly engine?: RedoEngine;
  /** 1 to 64; default 1. */
  readonly workerCount?: number;
  /** For a request, from when it is sent. Default 60 000. */
  readonly requestTimeoutMs?: number;
  /** Until a worker that is started answers. Default 10 000. */
  readonly launchTimeoutMs?: number;
  /** Requests that wait in the queue; whoever comes then waits for a place in it. Default 256. */
  readonly queueDepthMax?: number;
  /** Bytes that a worker has and has not answered; a larger request goes alone. Default 1 MiB. */
  readonly unackedBytesMax?: number;
  /** Further attempts by purpose. Default: read 2, compaction 1, the others 0. */
  readonly retries?: Partial<Record<RedoPurpose, number>>;
  readonly clock?: RedoClock;
}

const WORKERS_MAX = 64;

export const DEFAULTS = {
  requestTimeoutMs: 60_000,
  launchTimeoutMs: 10_000,
  queueDepthMax: 256,
  unackedBytesMax: 1_048_576,
} as const;

export const RETRIES: Readonly<Record<RedoPurpose, number>> = {
  read: 2,
  compaction: 1,
  "gc-compaction": 0,
  backlog: 0,
};

/** @throws {RangeError} a number out of its range */
export function checkOptions(options: RedoManagerOptions): void {
  const { workerCount = 1, queueDepthMax = 1, requestTimeoutMs = 1 } = options;
  const { launchTimeoutMs = 1, unackedBytesMax = 1 } = options;
  if (!Number.isInteger(workerCount) || workerCount < 1 || workerCount > WORKERS_MAX) {
    throw new RangeError(`${String(workerCount)} workers`);
  }
  const numbers = { queueDepthMax, requestTimeoutMs, launchTimeoutMs, unackedBytesMax };
  for (const [name, value] of Object.entries(numbers)) {
    if (!(value >= 1)) throw new RangeError(`${name} is ${String(value)}`);
  }
}
