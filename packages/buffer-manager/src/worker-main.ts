/**
 * The module that the I/O workers of a pool's system import: it makes the callbacks that complete the pool's I/O there.
 *
 * Not an entry of the package; method worker loads it by its URL.
 */
import type { AioRegistry } from "@millrace/aio";

import type { PoolCore } from "./pool-core.js";
import { createPoolRegistry } from "./registry.js";

/** @param data the pool's core, as `AioSystem` was given it */
export function createRegistry(data: unknown): AioRegistry {
  return createPoolRegistry(data as PoolCore);
}
