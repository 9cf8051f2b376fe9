/**
 * What a thread needs to take part in a system: its own views of the shared memory, made from what was sent to it.
 */
import type { SharedMemory } from "@millrace/aligned-buffers";
import { addressOf, nativeStatus } from "@millrace/io-uring";

import { AioError } from "./errors.js";
import type { ExecutionContext } from "./execute.js";
import { Faults } from "./faults.js";
import { FileTable } from "./file-table.js";
import { HandleTable } from "./handle-table.js";
import { HEADER, readLayout } from "./layout.js";
import type { Layout } from "./layout.js";
import type { MethodName } from "./method.js";
import { nativeCalls } from "./native-calls.js";
import type { AioRegistry } from "./registry.js";
import { SegmentTable } from "./segment-table.js";
import { nodeCalls } from "./synchronous-calls.js";

/** A system as it is sent to other threads: structured-cloneable, opaque. */
export interface AioShared {
  /** The words of layout.ts. */
  readonly memory: SharedMemory;
  /** The memory that I/O is done on, by segment number. */
  readonly segments: readonly SharedMemory[];
  readonly method: MethodName;
  /** Whether backends register the segments with their rings. */
  readonly fixBuffers: boolean;
}

/** A thread's view of a system. */
export interface ThreadContext extends ExecutionContext {
  readonly words: Int32Array;
  readonly layout: Layout;
}

/**
 * Opens a system in this thread.
 *
 * @throws {AioError} ERR_AIO_REGISTRY_MISMATCH: other callbacks or targets than the system was made with;
 *   ERR_AIO_BAD_STATE: not the memory of a system
 */
export function openThread(shared: AioShared, registry: AioRegistry): ThreadContext {
  const words = new Int32Array(shared.memory.buffer);
  const layout = readLayout(words);
  if (registry.freeze() !== words[HEADER.registryHash]) {
    throw new AioError(
      "ERR_AIO_REGISTRY_MISMATCH",
      "this thread's callbacks and targets are not the ones the system was created with: register the same names " +
        "under the same ids in every thread",
    );
  }
  const isNative = nativeStatus().available;
  return {
    words,
    layout,
    table: new HandleTable(words, layout),
    files: new FileTable(words, layout),
    segments: new SegmentTable(shared.segments, isNative ? addressOf : undefined),
    faults: new Faults(words, layout),
    calls: isNative ? nativeCalls : nodeCalls,
  };
}
