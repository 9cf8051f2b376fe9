/**
 * Callbacks and targets by number: what shared memory holds instead of functions.
 *
 * A function lives in one thread, an I/O may be completed in any. So each thread registers the same names under the
 * same numbers, and a hash of both, kept in the shared header, refuses a thread that did not. A frozen registry cannot
 * change any more. Several registrations on one I/O run last registered first, for all three phases: the upper layer
 * registers first, the lower later, so that the upper one sees the lower one's verdict.
 *
 * Idea: PostgreSQL's aio_callback.c and aio_target.c, which index a table of the program in the same way.
 */
import assert from "node:assert/strict";

import { AioError } from "./errors.js";
import type { FileLease } from "./file-table.js";
import type { IoOperation } from "./operations.js";
import { CALLBACK_IDS } from "./result.js";
import type { IoResult } from "./result.js";

/** Target numbers are below this: the field in a statistics row is small. */
export const TARGET_IDS = 16;

/** An I/O as its callbacks see it: borrowed for the call, reused afterwards. */
export interface IoView {
  /** Number of the handle in the system. */
  readonly handle: number;
  readonly generation: number;
  /** Number of the backend that issued it. */
  readonly owner: number;
  readonly operation: IoOperation;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Bytes moved, or a negative errno. 0 before COMPLETED_IO. */
  readonly rawResult: number;
  readonly targetId: number;
  /** A copy of the target's words. */
  readonly target: Int32Array;
  /** Words the issuer attached: as many as it gave. */
  readonly dataLength: number;
  dataAt(index: number): number;
  readonly vectorCount: number;
  /** The bytes of a piece, in this thread's view of them. */
  vectorAt(index: number): Uint8Array;
  /** Whether the completing thread is the issuer's. */
  readonly isOwn: boolean;
}

/** How an issuer's report is meant. */
export type ReportLevel = "log" | "warning" | "error";

/**
 * What runs at the stations of an I/O. At least one of the completions must be there.
 *
 * Completions run in whatever thread notices that the I/O is done, with a lock of the system held: they must not throw
 * (that stops the whole system), not wait, and not start I/O.
 */
export interface Callbacks {
  /** Unique in the registry; part of its hash. */
  readonly name: string;
  /** In the issuer's thread, before submission: take over what the I/O needs, such as a buffer's pin. */
  stage?(io: IoView, data: number): void;
  /** In the completing thread; what it returns is final for everybody. `prior` may be changed and returned. */
  completeShared?(io: IoView, prior: IoResult, data: number): IoResult;
  /** In the issuer's thread, on a copy that only the issuer sees. */
  completeLocal?(io: IoView, prior: IoResult, data: number): IoResult;
  /** Turns a result that names this callback into an error, a warning or a log line. */
  report?(result: Readonly<IoResult>, target: Int32Array, level: ReportLevel): void;
}

/** What I/O is done on: how to describe it, and how another thread finds the file. */
export interface Target {
  /** Unique in the registry; part of its hash. */
  readonly name: string;
  describe(target: Int32Array): string;
  /**
   * Called in an I/O worker: the lease under which the file is open now. Without it, a worker cannot do the I/O and
   * the issuer does it itself. May throw: the I/O then fails with ENOENT and the worker is replaced.
   */
  reopen?(io: IoView, lease: FileLease): FileLease;
}

const FNV_PRIME = 0x01000193;
const FNV_BASIS = 0x811c9dc5;

/** The callbacks and targets of one thread. */
export class AioRegistry {
  readonly #callbacks: (Callbacks | undefined)[] = [];
  readonly #targets: (Target | undefined)[] = [];
  #hash: number | undefined;

  /**
   * Registers callbacks under an id.
   *
   * @param id 1..63; 0 means "none" in a result
   * @throws {RangeError} the id is out of range or taken
   * @throws {AioError} ERR_AIO_BAD_CALLBACK: neither completion is there; ERR_AIO_BAD_STATE: frozen
   */
  callback(id: number, callbacks: Callbacks): this {
    this.#checkOpen();
    if (!Number.isInteger(id) || id < 1 || id >= CALLBACK_IDS)
      throw new RangeError(`not a callback id: ${id}`);
    if (this.#callbacks[id] !== undefined) throw new RangeError(`callback id ${id} is taken`);
    if (callbacks.completeShared === undefined && callbacks.completeLocal === undefined) {
      throw new AioError("ERR_AIO_BAD_CALLBACK", `${callbacks.name} completes nothing`);
    }
    this.#callbacks[id] = callbacks;
    return this;
  }

  /**
   * Registers a target under an id.
   *
   * @param id 1..15; 0 means "not set"
   * @throws {RangeError} the id is out of range or taken
   * @throws {AioError} ERR_AIO_BAD_STATE: frozen
   */
  target(id: number, target: Target): this {
    this.#checkOpen();
    if (!Number.isInteger(id) || id < 1 || id >= TARGET_IDS) throw new RangeError(`not a target id: ${id}`);
    if (this.#targets[id] !== undefined) throw new RangeError(`target id ${id} is taken`);
    this.#targets[id] = target;
    return this;
  }

  /** Ends registration. @returns a hash over ids, names and phases, an int32; the same each time */
  freeze(): number {
    if (this.#hash === undefined) {
      let hash = FNV_BASIS;
      for (const character of this.#description()) {
        hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), FNV_PRIME);
      }
      this.#hash = hash | 0;
    }
    return this.#hash;
  }

  /** The callbacks under an id; undefined where there are none. */
  callbacksOf(id: number): Callbacks | undefined {
    return this.#callbacks[id];
  }

  /** The target under an id; undefined where there is none. */
  targetOf(id: number): Target | undefined {
    return this.#targets[id];
  }

  #description(): string {
    const phases = (each: Callbacks): string =>
      (["stage", "completeShared", "completeLocal", "report"] as const)
        .map((phase) => (phase in each && each[phase] !== undefined ? "+" : "-"))
        .join("");
    const callbacks = this.#callbacks.map((each, id) => (each ? `c${id}:${each.name}:${phases(each)}` : ""));
    const targets = this.#targets.map((each, id) =>
      each ? `t${id}:${each.name}:${each.reopen === undefined ? "-" : "+"}` : "",
    );
    return [...callbacks, ...targets].filter((line) => line !== "").join("\n");
  }

  #checkOpen(): void {
    if (this.#hash !== undefined) throw new AioError("ERR_AIO_BAD_STATE", "the registry is frozen");
  }
}

/** The callbacks under an id that was checked when it was registered on a handle. */
export function knownCallbacks(registry: AioRegistry, id: number): Callbacks {
  return registry.callbacksOf(id) ?? assert.fail(`callback ${id} vanished`);
}
