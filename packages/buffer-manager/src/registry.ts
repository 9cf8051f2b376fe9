/**
 * What a pool's I/O needs in every thread that can complete it: targets and callbacks under the same numbers.
 *
 * Plain files keep the numbers they have in aio's own registry, so that one system serves a pool and other users.
 */
import {
  AioRegistry,
  FILE_CALLBACK,
  FILE_TARGET,
  fileCallbacks,
  fileTarget,
  WAL_TARGET,
  walTarget,
} from "@millrace/aio";

import type { PoolCore } from "./pool-core.js";

/** The registry of a pool, for this thread. */
export function createPoolRegistry(core: PoolCore): AioRegistry {
  void core;
  return new AioRegistry()
    .target(FILE_TARGET, fileTarget)
    .target(WAL_TARGET, walTarget)
    .callback(FILE_CALLBACK, fileCallbacks);
}
