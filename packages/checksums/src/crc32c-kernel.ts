/**
 * The running kernel of this thread: compiled at first use, or not to be had.
 *
 * Each thread that loads this module has one instance with a private memory of 64 KiB; a call copies its input
 * there in chunks. A call never yields, so that no second one can find the memory in use. Where WebAssembly is
 * missing (`--jitless`) or refuses to compile, the answer is no kernel, for good: the caller has JavaScript.
 */
import { INPUT_AT, INPUT_BYTES_MAX, kernelModule, kernelTables } from "./crc32c-module.js";
import type { WebAssemblyLike } from "./webassembly.js";

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly update: (register: number, address: number, length: number) => number;
}

/** One instance. Invariant: the tables at the start of its memory are never written again. */
export class Crc32cKernel {
  readonly #update: Exports["update"];
  readonly #input: Uint8Array;

  constructor(webAssembly: WebAssemblyLike) {
    const instance = new webAssembly.Instance(new webAssembly.Module(kernelModule()));
    // What the module exports is decided a few lines away, by assembleModule.
    const exports = instance.exports as Exports;
    const tables = kernelTables();
    new Int32Array(exports.memory.buffer, 0, tables.length).set(tables);
    this.#update = exports.update;
    this.#input = new Uint8Array(exports.memory.buffer, INPUT_AT, INPUT_BYTES_MAX);
  }

  /**
   * Feeds `bytes` to a raw register.
   *
   * @param bytes borrowed for the call
   * @returns the new register, as signed 32-bit
   */
  update(register: number, bytes: Uint8Array): number {
    if (bytes.length <= INPUT_BYTES_MAX) {
      this.#input.set(bytes);
      return this.#update(register, INPUT_AT, bytes.length);
    }
    let state = register;
    for (let start = 0; start < bytes.length; start += INPUT_BYTES_MAX) {
      const chunk = bytes.subarray(start, start + INPUT_BYTES_MAX);
      this.#input.set(chunk);
      state = this.#update(state, INPUT_AT, chunk.length);
    }
    return state;
  }
}

/** Makes a kernel, or gives undefined where that is impossible. */
export function tryCreateKernel(webAssembly: WebAssemblyLike | undefined): Crc32cKernel | undefined {
  if (webAssembly === undefined) return undefined;
  try {
    return new Crc32cKernel(webAssembly);
  } catch {
    // Not compiled (an embedder may forbid it) or out of memory: slower, not wrong.
    return undefined;
  }
}
