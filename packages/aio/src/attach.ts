/**
 * Joining a system: a thread takes a free backend slot.
 */
import { isMainThread, threadId } from "node:worker_threads";

import { AioBackend } from "./backend.js";
import type { BackendOptions } from "./backend-options.js";
import { AioError } from "./errors.js";
import { BACKEND, HEADER } from "./layout.js";
import { checkPanic } from "./panic.js";
import type { AioRegistry } from "./registry.js";
import { openThread } from "./thread-context.js";
import type { AioShared } from "./thread-context.js";

/**
 * Makes the calling thread (or a part of it: it may have several) a backend of a system.
 *
 * @param registry this thread's callbacks and targets; frozen by this
 * @throws {AioError} ERR_AIO_REGISTRY_MISMATCH; ERR_AIO_LIMIT: all backend slots are taken; ERR_AIO_CLOSED;
 *   ERR_AIO_PANIC; ERR_AIO_UNAVAILABLE: this thread cannot use the system's method
 */
export function attachBackend(
  shared: AioShared,
  registry: AioRegistry,
  options: BackendOptions = {},
): AioBackend {
  const context = openThread(shared, registry);
  const { words, layout } = context;
  checkPanic(words);
  if (words[HEADER.closing] !== 0) throw new AioError("ERR_AIO_CLOSED", "the system is closing");
  for (let id = 0; id < layout.backends; id++) {
    const at = layout.backendsAt + id * BACKEND.words;
    if (Atomics.compareExchange(words, at + BACKEND.inUse, 0, threadId + 1) !== 0) continue;
    words[at + BACKEND.threadId] = threadId;
    words[at + BACKEND.uses] = (words[at + BACKEND.uses] as number) + 1;
    try {
      return new AioBackend(context, registry, shared, id, options, options.mayBlock ?? !isMainThread);
    } catch (error) {
      Atomics.store(words, at + BACKEND.inUse, 0);
      throw error;
    }
  }
  throw new AioError("ERR_AIO_LIMIT", `all ${layout.backends} backends of the system are attached`);
}
