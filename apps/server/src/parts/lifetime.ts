/**
 * When this process has to end: a signal, a request of its parent, or the loss of its parent.
 *
 * A process on its own obeys SIGINT, SIGTERM and SIGHUP; a second one ends it at once. A part of the all-in-one
 * ignores these signals and obeys the IPC channel only: Ctrl-C reaches the whole process group and a service manager
 * signals every process, but PostgreSQL, bridge and acceptors must end in this order, and the parent knows it.
 *
 * A broken output never ends a process by itself: Node would throw, and what runs would be left behind. If the reader
 * of standard output has gone, as in `millrace demo | head`, a process on its own ends the orderly way.
 */
import { EXIT } from "../errors.js";
import { isExpectEndMessage, isStopMessage } from "./messages.js";
import type { ChildMessage } from "./messages.js";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Why a process is asked to end. */
export type StopReason =
  (typeof SIGNALS)[number] | "parent asked" | "parent is gone" | "nobody reads the output";

/** The one place that says when to end. Installed once per process. */
export interface Lifetime {
  /** Aborted at the first request; its reason is a `StopReason`. */
  readonly signal: AbortSignal;
  /** The same as a promise. */
  readonly stopped: Promise<StopReason>;
  readonly supervised: boolean;
  /** The parent has said that what this process lives on is about to end. */
  readonly endExpected: boolean;
  /** Tells the parent; nothing without one. */
  tell(message: ChildMessage): void;
  /** Replaces what a second signal does; the default ends the process at once. */
  onSecond(action: () => void): void;
}

/** Set by the all-in-one for its children; somebody else's IPC channel (pm2, a test) does not make us a part. */
export const SUPERVISED_VARIABLE = "MILLRACE_PART_OF";

/** Installs the handlers and gives the process's lifetime. */
export function installLifetime(): Lifetime {
  const abort = new AbortController();
  let second = (): void => process.exit(EXIT.interrupted);
  let resolveStopped: (reason: StopReason) => void = () => undefined;
  const stopped = new Promise<StopReason>((resolve) => {
    resolveStopped = resolve;
  });
  const request = (reason: StopReason): void => {
    if (abort.signal.aborted) return;
    abort.abort(reason);
    resolveStopped(reason);
  };
  let endExpected = false;
  const supervised = process.send !== undefined && process.env[SUPERVISED_VARIABLE] !== undefined;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (supervised) return;
      if (abort.signal.aborted) second();
      else request(signal);
    });
  }
  if (supervised) {
    process.on("message", (message: unknown) => {
      if (isStopMessage(message)) request("parent asked");
      else if (isExpectEndMessage(message)) endExpected = true;
    });
    process.once("disconnect", () => {
      request("parent is gone");
    });
  }
  // With a parent's pipes or a terminal gone every line fails; ending must go on regardless.
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (!supervised && error.code === "EPIPE") request("nobody reads the output");
  });
  return {
    signal: abort.signal,
    stopped,
    supervised,
    get endExpected() {
      return endExpected;
    },
    tell(message) {
      // The callback takes the error of a channel that closes at this moment.
      if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
    },
    onSecond(action) {
      second = action;
    },
  };
}
