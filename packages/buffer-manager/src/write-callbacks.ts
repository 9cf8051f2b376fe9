/**
 * What happens to the buffers of a write when it is staged and when it is over, in whatever thread that is noticed.
 *
 * A write owns its buffers' I/O locks and a pin on each. Over, it gives both back: written pages are clean unless they were
 * dirtied meanwhile; after a failure they are as dirty as before and carry IO_ERROR, so that the next write tries again. So
 * nobody who waits for such a buffer depends on its issuer, who may be waiting for him.
 */
import type { Callbacks } from "@millrace/aio";

import { STATE } from "./buffer-state.js";
import type { BufferHeaders } from "./headers.js";
import { handOverToIo, isUnderIo, terminateIo } from "./io-lock.js";

/** Callbacks of writes of shared buffers; the words attached to the I/O are the buffers, from 0. */
export function createWriteCallbacks(headers: BufferHeaders): Callbacks {
  return {
    name: "shared-write",
    stage(io) {
      const ref = { handle: io.handle, generation: io.generation };
      for (let index = 0; index < io.dataLength; index++) handOverToIo(headers, io.dataAt(index), ref);
    },
    completeShared(io, prior) {
      const isWritten = prior.status !== "error";
      const flags = isWritten ? 0 : STATE.ioError;
      for (let index = 0; index < io.dataLength; index++) {
        const buffer = io.dataAt(index);
        if (isUnderIo(headers, buffer, io)) terminateIo(headers, buffer, isWritten, flags, true);
      }
      return prior;
    },
  };
}
