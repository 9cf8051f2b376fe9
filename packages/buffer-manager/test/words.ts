/**
 * The words of a pool without its frames and I/O, for the tests of what works on words alone.
 */
import { createMemorySegment } from "@millrace/aligned-buffers";

import { fillFreeList } from "../src/free-list.js";
import { BufferHeaders } from "../src/headers.js";
import { createHitCalls } from "../src/hit-module.js";
import type { HitCalls } from "../src/hit-module.js";
import { computePoolLayout, writePoolHeader } from "../src/layout.js";
import type { PoolLayout } from "../src/layout.js";
import { Pins } from "../src/pins.js";
import { STATISTICS_DOUBLES } from "../src/statistics.js";

/** Words of a pool, and the headers and pins of a backend. */
export interface Words {
  readonly words: Int32Array;
  readonly layout: PoolLayout;
  readonly headersOf: (backend: number) => BufferHeaders;
  readonly callsOf: (backend: number) => HitCalls;
  readonly pinsOf: (backend: number, calls?: HitCalls) => Pins;
}

/** Makes a pool's words. */
export function createWords(buffers: number, backends = 4): Words {
  const layout = computePoolLayout(buffers, backends, STATISTICS_DOUBLES);
  const { memory } = createMemorySegment(layout.words * Int32Array.BYTES_PER_ELEMENT);
  const words = new Int32Array(memory.buffer, 0, layout.words);
  fillFreeList(words, layout, buffers);
  writePoolHeader(words, layout, buffers);
  const at = (backend: number): number => layout.backendsAt + backend * layout.backendWords;
  const headersOf = (backend: number): BufferHeaders => new BufferHeaders(words, layout, at(backend), true);
  const callsOf = (backend: number): HitCalls => createHitCalls(memory, layout, at(backend));
  const pinsOf = (backend: number, calls?: HitCalls): Pins =>
    new Pins(headersOf(backend), at(backend), calls);
  return { words, layout, headersOf, callsOf, pinsOf };
}
