/**
 * What a pool's I/O needs in every thread that can complete it: targets and callbacks under the same numbers.
 *
 * Plain files keep the numbers they have in aio's own registry, so that one system serves a pool and other users.
 */
import {
  AioRegistry,
  createBlockCallbacks,
  FILE_CALLBACK,
  FILE_TARGET,
  fileCallbacks,
  fileTarget,
  WAL_TARGET,
  walTarget,
} from "@millrace/aio";

import { blockWriteCallbacks } from "./block-write-callbacks.js";
import { POOL_CALLBACK, POOL_TARGET } from "./io-ids.js";
import { BufferHeaders } from "./headers.js";
import { OwnBuffersHolder } from "./own-buffers.js";
import { openPool } from "./pool-core.js";
import type { PoolCore } from "./pool-core.js";
import { createLocalReadCallbacks, createSharedReadCallbacks } from "./read-callbacks.js";
import type { CompletionHook } from "./read-callbacks.js";
import { relationTarget, targetRange } from "./relation-target.js";
import { PAGE_BYTES } from "./settings.js";
import { createWriteCallbacks } from "./write-callbacks.js";

/** What a registry of a backend has that one of another thread has not. */
export interface BackendRegistryParts {
  /** Of the buffers for its temporary relations. */
  readonly own?: OwnBuffersHolder;
  /** For tests. */
  readonly hook?: CompletionHook | undefined;
}

/** The registry of a pool, for this thread. */
export function createPoolRegistry(core: PoolCore, parts: BackendRegistryParts = {}): AioRegistry {
  const view = openPool(core);
  const headers = new BufferHeaders(view.words, view.layout, -1, true);
  return new AioRegistry()
    .target(FILE_TARGET, fileTarget)
    .target(WAL_TARGET, walTarget)
    .target(POOL_TARGET.relation, relationTarget)
    .callback(FILE_CALLBACK, fileCallbacks)
    .callback(
      POOL_CALLBACK.blocksRead,
      createBlockCallbacks(POOL_CALLBACK.blocksRead, PAGE_BYTES, { rangeOf: targetRange }),
    )
    .callback(POOL_CALLBACK.blocksWritten, blockWriteCallbacks)
    .callback(POOL_CALLBACK.sharedRead, createSharedReadCallbacks(view, parts.hook))
    .callback(POOL_CALLBACK.localRead, createLocalReadCallbacks(view, parts.own ?? new OwnBuffersHolder()))
    .callback(POOL_CALLBACK.sharedWrite, createWriteCallbacks(headers));
}
