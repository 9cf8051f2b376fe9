/**
 * PostgreSQL's page checksum as its users see it: of bytes anywhere, and of pages that lie in a WebAssembly memory.
 *
 * The checksum depends on the block number, so that a page at a wrong place is found too. It covers the whole page but
 * its own two bytes. PostgreSQL sets it when it writes a page to disk and compares it when it reads one; in its
 * buffers the field is out of date. Pages that were never initialised have none.
 */
import { isSharedArrayBuffer } from "node:util/types";
import { checkBytes } from "./arguments.js";
import { pageChecksumInJavaScript } from "./page-checksum-lanes.js";
import { createPageKernel } from "./page-checksum-module.js";
import type { PageKernel } from "./page-checksum-module.js";
import {
  checkBlockNumber,
  checkPageBytes,
  isNew,
  PAGE_BYTES_DEFAULT,
  PAGE_BYTES_MAX,
  storedChecksum,
} from "./page-layout.js";
import { runtimeWebAssembly } from "./webassembly.js";
import type { MemoryLike } from "./webassembly.js";

/**
 * What a page from disk is. `valid`: its checksum is right. `new`: all zeros, as PostgreSQL leaves a page that it has
 * added to a file and not initialised; that has no checksum. `invalid`: anything else.
 */
export type PageState = "valid" | "new" | "invalid";

/** Pages of one memory, in place. For one thread: make one in each. */
export interface PageChecksummer {
  /** What computes here. */
  readonly method: "webassembly" | "javascript";
  /**
   * The checksum that PostgreSQL would give a page.
   *
   * @param byteOffset where the page starts in `memory.buffer`; nobody writes to it meanwhile
   * @param blockNumber of the page in its relation fork, over all segment files; unsigned 32-bit
   * @returns 1 to 65535
   * @throws {RangeError} the page is not inside, or no block number
   */
  checksum(byteOffset: number, blockNumber: number): number;
  /** What the page is, by PostgreSQL's rules. Arguments and errors as of `checksum`. */
  verify(byteOffset: number, blockNumber: number): PageState;
}

/**
 * Checks pages where they lie in a `WebAssembly.Memory`, such as the memory of a buffer pool: nothing is copied and
 * nothing written. Compiles the kernel; the first few thousand calls are slower, until V8 has optimised it.
 *
 * @param memory borrowed for good; shared or not, of any size; it may grow
 * @param pageBytes a power of two from 1024 to 32768
 * @throws {RangeError} not a size of pages
 */
export function createPageChecksummer(
  memory: MemoryLike,
  pageBytes: number = PAGE_BYTES_DEFAULT,
): PageChecksummer {
  checkPageBytes(pageBytes);
  return new InPlace(memory, pageBytes);
}

/**
 * The checksum that PostgreSQL would give a page: pg_checksum_page.
 *
 * @param page borrowed for the call and only read; its own checksum does not matter. 1 to 32 KiB, a power of two
 * @param blockNumber of the page in its relation fork, over all segment files; unsigned 32-bit
 * @returns 1 to 65535
 * @throws {TypeError} `page` is not an array of bytes
 * @throws {RangeError} not the size of a page, or no block number
 */
export function pageChecksum(page: Uint8Array, blockNumber: number): number {
  checkBytes(page);
  checkPageBytes(page.length);
  checkBlockNumber(blockNumber);
  const kernel = thisThreadsKernel();
  if (kernel === undefined) return pageChecksumInJavaScript(page, blockNumber);
  kernel.input.set(page);
  return kernel.update(0, page.length, blockNumber);
}

/**
 * What a page from disk is, by the rules of PostgreSQL's PageIsVerified, apart from its look at the header.
 *
 * Only of a cluster with checksums: without them the field is 0, and every page but new ones is `invalid`.
 *
 * @param page borrowed for the call and only read; 1 to 32 KiB, a power of two
 * @param blockNumber as of `pageChecksum`
 * @throws {TypeError} {RangeError} as `pageChecksum`
 */
export function verifyPage(page: Uint8Array, blockNumber: number): PageState {
  const checksum = pageChecksum(page, blockNumber);
  if (isNew(page, 0)) return isZero(page) ? "new" : "invalid";
  return checksum === storedChecksum(page, 0) ? "valid" : "invalid";
}

/** What `pageChecksum` computes with: "javascript" without WebAssembly, or without vectors. Compiles the kernel. */
export function pageChecksumMethod(): "webassembly" | "javascript" {
  return thisThreadsKernel() === undefined ? "javascript" : "webassembly";
}

/** Invariant: `#bytes` is over the memory's buffer, or over what it was before the memory grew. */
class InPlace implements PageChecksummer {
  readonly #memory: MemoryLike;
  readonly #pageBytes: number;
  readonly #kernel: PageKernel | undefined;
  #bytes: Uint8Array;

  constructor(memory: MemoryLike, pageBytes: number) {
    this.#memory = memory;
    this.#pageBytes = pageBytes;
    this.#bytes = new Uint8Array(memory.buffer);
    this.#kernel = tryCreatePageKernel(memory);
  }

  get method(): "webassembly" | "javascript" {
    return this.#kernel === undefined ? "javascript" : "webassembly";
  }

  checksum(byteOffset: number, blockNumber: number): number {
    this.#check(byteOffset);
    checkBlockNumber(blockNumber);
    if (this.#kernel !== undefined) return this.#kernel(byteOffset, this.#pageBytes, blockNumber);
    return pageChecksumInJavaScript(this.#page(byteOffset), blockNumber);
  }

  verify(byteOffset: number, blockNumber: number): PageState {
    const checksum = this.checksum(byteOffset, blockNumber);
    if (isNew(this.#bytes, byteOffset)) return isZero(this.#page(byteOffset)) ? "new" : "invalid";
    return checksum === storedChecksum(this.#bytes, byteOffset) ? "valid" : "invalid";
  }

  #page(byteOffset: number): Uint8Array {
    return this.#bytes.subarray(byteOffset, byteOffset + this.#pageBytes);
  }

  #check(byteOffset: number): void {
    const end = byteOffset + this.#pageBytes;
    // A memory that is not shared leaves an empty buffer behind when it grows, a shared one a short one.
    if (end > this.#bytes.length) this.#bytes = new Uint8Array(this.#memory.buffer);
    if (!Number.isInteger(byteOffset) || byteOffset < 0 || end > this.#bytes.length)
      throw new RangeError(`no page at ${String(byteOffset)} of ${String(this.#bytes.length)} bytes`);
  }
}

/** The kernel of the plain functions, with a memory of its own for one page. */
interface CopyingKernel {
  readonly update: PageKernel;
  readonly input: Uint8Array;
}

/** undefined: not tried yet; null: tried, and there is none. */
let kernelOfThread: CopyingKernel | null | undefined;

function thisThreadsKernel(): CopyingKernel | undefined {
  if (kernelOfThread === undefined) kernelOfThread = tryCreateCopyingKernel() ?? null;
  return kernelOfThread ?? undefined;
}

function tryCreateCopyingKernel(): CopyingKernel | undefined {
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) return undefined;
  const memory = new webAssembly.Memory({ initial: 1, maximum: 1 });
  const update = tryCreatePageKernel(memory);
  return update && { update, input: new Uint8Array(memory.buffer, 0, PAGE_BYTES_MAX) };
}

function tryCreatePageKernel(memory: MemoryLike): PageKernel | undefined {
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) return undefined;
  try {
    return createPageKernel(webAssembly, memory, isSharedArrayBuffer(memory.buffer) ? "shared" : "private");
  } catch {
    // No vectors on this machine, or not a WebAssembly memory: slower, not wrong.
    return undefined;
  }
}

const ZEROS = Buffer.alloc(PAGE_BYTES_MAX);

function isZero(page: Uint8Array): boolean {
  return ZEROS.compare(page, 0, page.length, 0, page.length) === 0;
}
