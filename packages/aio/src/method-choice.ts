/**
 * Which method runs, and why not a better one.
 *
 * The order is io_uring, worker, sync; each is probed, not guessed from versions: containers and sysctls refuse rings
 * that the kernel has. The reason of a fallback is kept and shown, because a slow method that nobody notices is the
 * worst outcome.
 */
import { probeUring } from "@millrace/io-uring";

import { AioError } from "./errors.js";
import type { MethodName } from "./method.js";

/** What was chosen. */
export interface MethodChoice {
  readonly method: MethodName;
  /** Why a method that stands before it in the order, or that was asked for, is not used. Empty if none was passed over. */
  readonly fallbacks: readonly { readonly method: MethodName; readonly reason: string }[];
}

/** What a caller wants: a method, the best there is, or a method and nothing else. */
export interface MethodWish {
  /** "auto" unless said otherwise. */
  readonly method?: MethodName | "auto";
  /** Fail instead of falling back. */
  readonly required?: boolean;
}

/** How to find out about io_uring; a test brings its own. */
export type UringProbe = () => { readonly available: boolean; readonly reason?: string | undefined };

/**
 * Chooses a method.
 *
 * @throws {AioError} ERR_AIO_UNAVAILABLE: the wish is `required` and cannot be met; the message says why
 */
export function chooseMethod(wish: MethodWish, probe: UringProbe = probeUring): MethodChoice {
  const method = wish.method ?? "auto";
  if (method !== "auto" && method !== "io_uring") return { method, fallbacks: [] };
  const { available, reason = "unknown" } = probe();
  if (available) return { method: "io_uring", fallbacks: [] };
  if (wish.required === true && method === "io_uring") {
    throw new AioError("ERR_AIO_UNAVAILABLE", `io_uring is not available: ${reason}`);
  }
  return { method: "worker", fallbacks: [{ method: "io_uring", reason }] };
}
