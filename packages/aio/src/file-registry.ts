/**
 * The registry for plain files: one target, and callbacks that say what a transfer came to.
 *
 * What the promise face uses, and enough for anybody who only wants bytes. A target's words name the lease, and a
 * worker reopens nothing: it is a thread of the same process, so the descriptor is good as long as the lease is.
 */
import { AioError } from "./errors.js";
import { AioRegistry } from "./registry.js";
import type { Callbacks, Target } from "./registry.js";
import { ioError } from "./report.js";
import { WAL_TARGET, walTarget } from "./wal-target.js";

/** The target "file": words 0 and 1 are the descriptor and the slot of its lease. */
export const FILE_TARGET = 1;
/** Callbacks that turn a negative result into an error, and leave bytes as they are. */
export const FILE_CALLBACK = 1;

/** A plain file. */
export const fileTarget: Target = {
  name: "file",
  describe: (target) => `file descriptor ${target[0] ?? -1}`,
  reopen: (_io, lease) => lease,
};

/** Success and failure of a transfer or a sync. */
export const fileCallbacks: Callbacks = {
  name: "file",
  completeShared(_io, prior) {
    if (prior.result >= 0) return prior;
    prior.callback = FILE_CALLBACK;
    prior.status = "error";
    prior.error = -prior.result;
    prior.result = 0;
    return prior;
  },
  report(result, target, level) {
    const what = fileTarget.describe(target);
    if (result.status === "error" && level === "error") throw ioError("do I/O on", result.error, what);
    if (level === "error") throw new AioError("ERR_AIO_SHORT", `short transfer on ${what}`);
  },
};

/** A registry with just these, and with WAL as a second target. */
export function createFileRegistry(): AioRegistry {
  return new AioRegistry()
    .target(FILE_TARGET, fileTarget)
    .target(WAL_TARGET, walTarget)
    .callback(FILE_CALLBACK, fileCallbacks);
}
