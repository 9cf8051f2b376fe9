/**
 * The file layer's callbacks for writes of whole blocks: all of them are written, or the write failed.
 *
 * A short write is what a full disk looks like before ENOSPC; nothing continues it, because the page stays dirty in the pool
 * and is written again as a whole.
 */
import { AioError, AioIoError, errnoName } from "@millrace/aio";
import type { Callbacks } from "@millrace/aio";

import { POOL_CALLBACK } from "./io-ids.js";
import { relationTarget } from "./relation-target.js";
import { PAGE_BYTES } from "./settings.js";

/** Callbacks of a write. The result counts blocks; `error` is the errno, or 0 for a short write. */
export const blockWriteCallbacks: Callbacks = {
  name: "block-write",
  completeShared(io, prior) {
    const bytes = prior.result;
    if (bytes === io.lengthBytes) {
      prior.result = bytes / PAGE_BYTES;
      return prior;
    }
    prior.callback = POOL_CALLBACK.blocksWritten;
    prior.status = "error";
    prior.error = Math.max(0, -bytes);
    prior.result = 0;
    return prior;
  },
  report(result, target, level) {
    if (level !== "error") return;
    const what = `could not write ${relationTarget.describe(target)}`;
    if (result.error === 0) throw new AioError("ERR_AIO_SHORT", `${what}: only a part was written`);
    const name = errnoName(result.error);
    throw new AioIoError("writev", result.error, name, `${what}: ${name}`);
  },
};
