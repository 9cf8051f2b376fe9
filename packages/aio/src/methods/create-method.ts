/**
 * The method object of a backend, by the name that its system chose: the one place that knows all methods.
 */
import type { Layout } from "../layout.js";
import type { IoMethod, MethodContext, MethodName } from "../method.js";
import type { AioRegistry } from "../registry.js";
import { createManualMethod } from "./manual.js";
import { syncMethod } from "./sync.js";
import { UringMethod } from "./uring.js";
import { createWorkerMethod } from "./worker.js";

/** What a method is made for. */
export interface MethodOptions {
  readonly layout: Layout;
  readonly registry: AioRegistry;
  /** See `AioSystemOptions.fixBuffers`. */
  readonly fixBuffers: boolean;
}

/** Makes a backend's method object. @throws {UringError} io_uring, and no ring could be set up */
export function createMethod(name: MethodName, context: MethodContext, options: MethodOptions): IoMethod {
  if (name === "io_uring") return new UringMethod(context, options.layout, options.fixBuffers);
  if (name === "worker") return createWorkerMethod(context, options.layout, options.registry);
  return name === "manual" ? createManualMethod(context) : syncMethod;
}
