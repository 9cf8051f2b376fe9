/**
 * The words of a pool without its frames and I/O, for the tests of what works on words alone.
 */
import { fillFreeList } from "../src/free-list.js";
import { BufferHeaders } from "../src/headers.js";
import { computePoolLayout, writePoolHeader } from "../src/layout.js";
import type { PoolLayout } from "../src/layout.js";
import { Pins } from "../src/pins.js";
import { STATISTICS_DOUBLES } from "../src/statistics.js";

/** Words of a pool, and the headers and pins of a backend. */
export interface Words {
  readonly words: Int32Array;
  readonly layout: PoolLayout;
  readonly headersOf: (backend: number) => BufferHeaders;
  readonly pinsOf: (backend: number) => Pins;
}

/** Makes a pool's words. */
export function createWords(buffers: number, backends = 4): Words {
  const layout = computePoolLayout(buffers, backends, STATISTICS_DOUBLES);
  const words = new Int32Array(new SharedArrayBuffer(layout.words * 4));
  fillFreeList(words, layout, buffers);
  writePoolHeader(words, layout, buffers);
  const at = (backend: number): number => layout.backendsAt + backend * layout.backendWords;
  const headersOf = (backend: number): BufferHeaders => new BufferHeaders(words, layout, at(backend), true);
  const pinsOf = (backend: number): Pins => new Pins(headersOf(backend), at(backend));
  return { words, layout, headersOf, pinsOf };
}
