/**
 * Who writes the pages of a bulk load: the loader itself where it has a ring, the background writer where it has none.
 */
import { describe, expect, test } from "vitest";

import { BackgroundWriter } from "../src/background-writer.js";
import { Extender } from "../src/extend.js";
import { Ring } from "../src/ring.js";
import { ringBuffers, ringKib } from "../src/ring-sizes.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { PAGE } from "./data-directory.js";
import { TABLE, WriteWorld } from "./write-world.js";
import type { Backend } from "./write-world.js";

const CHUNK = 16;

/** The ring for a load, as the buffer manager makes it. @param kib -1 for PostgreSQL's size, 0 for none */
function bulkwriteRing(world: WriteWorld, kib: number): Ring | null {
  const { settings } = world.context;
  const size = ringBuffers(ringKib("bulkwrite", settings, settings.buffers, 16, kib), settings.buffers);
  return size === 0 ? null : new Ring("bulkwrite", size);
}

/** Loads pages, and calls `between` after every chunk. */
function load(
  world: WriteWorld,
  backend: Backend,
  pages: number,
  ring: Ring | null,
  between = (): void => undefined,
): void {
  const { context, allocator, locks, ioLocks, writer } = backend;
  const extender = new Extender({ context, allocator, locks, ioLocks, writer, additionalPins: () => CHUNK });
  for (let loaded = 0; loaded < pages;) {
    const { buffers } = context.waiter.run(
      extender.extend(TABLE, { count: Math.min(CHUNK, pages - loaded), ring }),
    );
    for (const buffer of buffers) {
      world.change(buffer, 1, backend);
      context.pins.unpin(buffer);
    }
    loaded += buffers.length;
    between();
  }
}

/** Pages that a backend wrote. */
function written({ context: { counters } }: Backend, kind: number): number {
  return counters.get(COUNTED.write, kind, false).bytes / PAGE;
}

describe("a bulk load", () => {
  // Aim: with a ring of 16 MB every page past the ring costs the loader a write; without one it writes nothing as long as
  // the pool has room. Method: 10000 pages into 16384 buffers, with direct I/O.
  test.each([
    ["of 16 MB", -1, 10_000 - 2048],
    ["of no size", 0, 0],
  ])("with a ring %s", async (_, kib, expected) => {
    await using world = new WriteWorld({ aio: { method: "sync" }, direct: true, buffers: 16_384 });
    world.create(TABLE, 0);
    load(world, world.backend, 10_000, bulkwriteRing(world, kib));
    expect(written(world.backend, CONTEXT.bulkwrite)).toBe(expected);
    expect(written(world.backend, CONTEXT.normal)).toBe(0);
    world.discard();
  });

  // Aim: without a ring, and with a pool that is too small, it is the background writer that writes. Method: it gets a round
  // after every 16 pages.
  test("without a ring leaves its pages to the background writer", async () => {
    await using world = new WriteWorld({ aio: { method: "sync" }, buffers: 512 });
    world.create(TABLE, 0);
    const loader = world.attach();
    const writer = new BackgroundWriter(world.parts, { pagesMax: 1000 });
    load(world, loader, 5000, null, () => void writer.cycle());
    const [own, others] = [written(loader, CONTEXT.normal), written(world.backend, CONTEXT.normal)];
    expect(own + others).toBeGreaterThanOrEqual(5000 - 512);
    expect(own).toBeLessThan(others / 10);
  });
});
