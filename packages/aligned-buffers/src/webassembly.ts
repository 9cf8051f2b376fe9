/**
 * The part of the WebAssembly interface that is used, which TypeScript declares only together with the DOM, and the one
 * module of this package: `fill` and `copy` inside an imported memory.
 *
 * Why a module for that: `fill` of a typed array over shared memory works byte by byte in V8 (20 times slower than
 * over a plain ArrayBuffer, measured with Node 20 and 24); `memory.fill` and `memory.copy` are plain memset and memmove.
 *
 * Encoding: WebAssembly core specification 2.0, chapter 5, and the limits of shared memories from the threads proposal.
 */

/** A `WebAssembly.Memory` made with `shared: true`. Can be posted to other threads. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** Work on bytes of one memory, in place. Addresses are offsets into it; the engine checks them. */
export interface MemoryOperations {
  fill(address: number, byte: number, length: number): void;
  /** Ranges may overlap. */
  copy(target: number, source: number, length: number): void;
}

interface MemoryDescriptor {
  readonly initial: number;
  readonly maximum: number;
  readonly shared: true;
}

interface WebAssemblyLike {
  readonly Memory: new (descriptor: MemoryDescriptor) => SharedMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

/** Unit of a memory's size, bytes. */
export const WASM_PAGE_BYTES = 65_536;

/** This runtime's WebAssembly; undefined under `--jitless`. */
export function runtimeWebAssembly(): WebAssemblyLike | undefined {
  return (globalThis as { WebAssembly?: WebAssemblyLike }).WebAssembly;
}

/**
 * A shared memory that can never grow: its buffer and its address stay the same for life.
 *
 * @throws {RangeError} the runtime has not enough address space
 */
export function createSharedMemory(webAssembly: WebAssemblyLike, pages: number): SharedMemory {
  return new webAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** `fill` and `copy` for one memory. The module is compiled once in a thread, the instance is tiny. */
export function memoryOperations(webAssembly: WebAssemblyLike, memory: SharedMemory): MemoryOperations {
  moduleOfThread ??= new webAssembly.Module(MODULE);
  // What the module exports is decided below.
  return new webAssembly.Instance(moduleOfThread, { m: { m: memory } }).exports as MemoryOperations;
}

let moduleOfThread: object | undefined;

/** "\\0asm" and the version, 1. */
const HEADER = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const THREE_I32 = [0x7f, 0x7f, 0x7f];
const GET_ALL = [0x20, 0, 0x20, 1, 0x20, 2]; // local.get 0, 1, 2
const FILL = [0, ...GET_ALL, 0xfc, 0x0b, 0, 0x0b]; // no locals; memory.fill; end
const COPY = [0, ...GET_ALL, 0xfc, 0x0a, 0, 0, 0x0b]; // no locals; memory.copy; end

const MODULE: Uint8Array<ArrayBuffer> = Uint8Array.from([
  ...HEADER,
  ...section(1, [[0x60, 3, ...THREE_I32, 0]]),
  // The memory "m" of the import "m": shared (3), any size from 0 to 65536 pages (a LEB128 of three bytes).
  ...section(2, [[1, 0x6d, 1, 0x6d, 0x02, 0x03, 0, 0x80, 0x80, 0x04]]),
  ...section(3, [[0], [0]]),
  ...section(7, [exported("fill", 0), exported("copy", 1)]),
  ...section(10, [
    [FILL.length, ...FILL],
    [COPY.length, ...COPY],
  ]),
]);

/** A section of items. All counts and lengths here are below 128 and thus a byte each. */
function section(id: number, items: readonly (readonly number[])[]): readonly number[] {
  const body = [items.length, ...items.flat()];
  return [id, body.length, ...body];
}

function exported(name: string, index: number): readonly number[] {
  return [name.length, ...Buffer.from(name, "latin1"), 0x00, index];
}
