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
import type { PoolCore } from "./pool-core.js";
import { relationTarget, targetRange } from "./relation-target.js";
import { PAGE_BYTES } from "./settings.js";

/** The registry of a pool, for this thread. */
export function createPoolRegistry(core: PoolCore): AioRegistry {
  void core;
  return new AioRegistry()
    .target(FILE_TARGET, fileTarget)
    .target(WAL_TARGET, walTarget)
    .target(POOL_TARGET.relation, relationTarget)
    .callback(FILE_CALLBACK, fileCallbacks)
    .callback(
      POOL_CALLBACK.blocksRead,
      createBlockCallbacks(POOL_CALLBACK.blocksRead, PAGE_BYTES, { rangeOf: targetRange }),
    )
    .callback(POOL_CALLBACK.blocksWritten, blockWriteCallbacks);
}
