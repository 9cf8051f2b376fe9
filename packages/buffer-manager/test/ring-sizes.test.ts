/**
 * Sizes of rings and limits of pins are PostgreSQL's.
 */
import { expect, test } from "vitest";

import { pinLimit, ringBuffers, ringKib, usesRing } from "../src/ring-sizes.js";

/** buffers, pin limit, combine limit, I/O concurrency; buffers of a bulk read's, a bulk write's and a vacuum's ring */
const ROWS: readonly (readonly [number, number, number, number, number, number, number])[] = [
  [16_384, 94, 16, 16, 94, 2048, 256],
  [16_384, 94, 16, 0, 32, 2048, 256],
  [16_384, 94, 16, 1, 48, 2048, 256],
  [16_384, 94, 16, 1000, 94, 2048, 256],
  [4096, 23, 16, 16, 32, 512, 256],
  [128, 0, 16, 16, 16, 16, 16],
  [32_768, 188, 16, 16, 188, 2048, 256],
  [131_072, 753, 16, 16, 288, 2048, 256],
  [1_048_576, 6026, 16, 16, 288, 2048, 256],
  [1_048_576, 6026, 128, 64, 6026, 2048, 256],
];

test.each(ROWS)(
  "of %i buffers, with pin limit %i, combine limit %i and concurrency %i",
  (buffers, pins, combineLimit, concurrency, bulkread, bulkwrite, vacuum) => {
    const settings = { combineLimit, pinBackends: 136 };
    expect(pinLimit(buffers, settings.pinBackends)).toBe(pins);
    const size = (kind: "bulkread" | "bulkwrite" | "vacuum"): number =>
      ringBuffers(ringKib(kind, settings, buffers, concurrency), buffers);
    expect([size("bulkread"), size("bulkwrite"), size("vacuum")]).toEqual([bulkread, bulkwrite, vacuum]);
  },
);

test("said explicitly are bounded by an eighth of the pool, and less than a page is no ring", () => {
  const settings = { combineLimit: 16, pinBackends: 136 };
  const sizes = [256, 64, 8, 4, 0].map((kib) => ringBuffers(ringKib("vacuum", settings, 32, 16, kib), 32));
  expect(sizes).toEqual([4, 4, 1, 0, 0]);
  expect(ringBuffers(ringKib("bulkwrite", settings, 1_048_576, 16, 65_536), 1_048_576)).toBe(8192);
});

test("a scan uses a ring from a quarter of the pool on", () => {
  expect([usesRing(2000, 4096), usesRing(2000, 8192), usesRing(1024, 4096), usesRing(1025, 4096)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
});
