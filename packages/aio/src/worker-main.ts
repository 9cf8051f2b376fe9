/**
 * The entry of an I/O worker's thread: loads the registry that its system was made with, and works.
 *
 * Callbacks and targets are functions and cannot be sent; the module that makes them is named instead, and imported
 * here. An error ends the thread; the supervisor sees that, tidies up and starts another.
 */
import { workerData } from "node:worker_threads";

import { createFileRegistry } from "./file-registry.js";
import type { AioRegistry } from "./registry.js";
import type { AioShared } from "./thread-context.js";
import { runWorker } from "./worker-loop.js";

/** What the supervisor hands to a worker. */
export interface WorkerOrder {
  readonly shared: AioShared;
  readonly slot: number;
  /** URL of a module that exports `createRegistry`; without it, the registry for plain files. */
  readonly registryModule: string | undefined;
  /** What `createRegistry` is given: a structured clone of what the system was made with. */
  readonly registryData: unknown;
}

interface RegistryModule {
  readonly createRegistry: (data: unknown) => AioRegistry;
}

async function main(order: WorkerOrder): Promise<void> {
  const module =
    order.registryModule === undefined
      ? { createRegistry: createFileRegistry }
      : ((await import(order.registryModule)) as RegistryModule);
  runWorker(order.shared, module.createRegistry(order.registryData), order.slot);
}

// Without a top-level await: V8 aborts the whole process if a thread is terminated while it enters a module that has one
// (Node 20: "Check failed: (location_) != nullptr" in ExecuteAsyncModule). A rejection ends the thread all the same.
void main(workerData as WorkerOrder);
