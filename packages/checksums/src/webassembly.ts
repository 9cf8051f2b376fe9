/**
 * The part of the WebAssembly interface that is used; TypeScript declares it only together with the DOM.
 *
 * Every kernel of this package is optional: where WebAssembly is missing (`--jitless`), or refuses a module, the same is
 * computed in JavaScript.
 */

/** A memory: a `WebAssembly.Memory`, shared or not. */
export interface MemoryLike {
  readonly buffer: ArrayBufferLike;
}

export interface WebAssemblyLike {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports?: object) => { readonly exports: unknown };
  readonly Memory: new (descriptor: { readonly initial: number; readonly maximum: number }) => MemoryLike;
}

/** This runtime's WebAssembly; undefined under `--jitless`. */
export function runtimeWebAssembly(): WebAssemblyLike | undefined {
  return (globalThis as { WebAssembly?: WebAssemblyLike }).WebAssembly;
}
