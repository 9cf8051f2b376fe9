/** Frames of a pool: where they are, and which runs exist. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { createPoolMemory, SEGMENT_BYTES_MAX } from "../src/index.js";

// Aim: every frame has a place of its own, and runs are contiguous. Method: any shape, against counting in order.
test("frames are disjoint, and runs end at the border of a segment", () => {
  const shape = fc.record({
    frameCount: fc.integer({ min: 1, max: 40 }),
    frameBytes: fc.constantFrom(512, 4096, 8192),
    framesPerSegment: fc.constantFrom(8, 16),
  });
  fc.assert(
    fc.property(shape, ({ frameCount, frameBytes, framesPerSegment }) => {
      const segmentBytes = frameBytes * framesPerSegment;
      const pool = createPoolMemory({ frameCount, frameBytes, segmentBytes });
      expect(pool.segments).toHaveLength(Math.ceil(frameCount / framesPerSegment));
      for (let frame = 0; frame < frameCount; frame += 1) {
        const index = Math.floor(frame / framesPerSegment);
        const within = frame - index * framesPerSegment;
        expect(pool.segmentIndexOf(frame)).toBe(index);
        expect(pool.byteOffsetOf(frame)).toBe(within * frameBytes);
        const run = Math.min(framesPerSegment - within, frameCount - frame);
        expect(pool.runFramesMax(frame)).toBe(run);
        const view = pool.view(frame, run);
        expect([view.buffer, view.byteOffset, view.length]).toEqual([
          pool.segments[index]?.buffer,
          within * frameBytes,
          run * frameBytes,
        ]);
        expect(() => pool.view(frame, run + 1)).toThrow(RangeError);
      }
    }),
    { numRuns: 50 },
  );
});

test("frames are copied and zeroed within and across segments", () => {
  const pool = createPoolMemory({ frameCount: 3, frameBytes: 4096, segmentBytes: 8192 });
  pool.view(0).set(new Uint8Array(4096).map((_, index) => index & 255));
  for (const target of [1, 2]) {
    pool.copyFrame(target, 0);
    expect(Buffer.compare(pool.view(target), pool.view(0))).toBe(0);
  }
  pool.zero(0, 2);
  expect(pool.view(0, 2).every((byte) => byte === 0)).toBe(true);
  expect(pool.view(2)[255]).toBe(255);
  for (const frame of [-1, 3, 0.5, Number.NaN]) {
    expect(() => pool.view(frame)).toThrow(RangeError);
    expect(() => pool.zero(frame)).toThrow(RangeError);
    expect(() => pool.copyFrame(frame, 0)).toThrow(RangeError);
    expect(() => pool.copyFrame(0, frame)).toThrow(RangeError);
  }
  for (const count of [0, -1, 0.5]) expect(() => pool.view(0, count)).toThrow(RangeError);
});

test("by default frames are PostgreSQL's pages in segments of 1 GiB", () => {
  const pool = createPoolMemory({ frameCount: 131_072 + 1 });
  expect([pool.frameBytes, pool.framesPerSegment]).toEqual([8192, 131_072]);
  expect(pool.segments.map(({ byteLength }) => byteLength)).toEqual([SEGMENT_BYTES_MAX, 8192]);
  expect([pool.segmentIndexOf(131_072), pool.byteOffsetOf(131_071)]).toEqual([1, SEGMENT_BYTES_MAX - 8192]);
});

test("every segment of a pool gets the hooks", () => {
  const hooks = { addressOf: () => 0x10_0000, adviseHugePages: () => true };
  const pool = createPoolMemory({ frameCount: 4, frameBytes: 4096, segmentBytes: 8192, hooks });
  expect(pool.segments.map(({ hugePages, byteOffset }) => [hugePages, byteOffset])).toEqual([
    ["advised", 0x10_0000],
    ["advised", 0x10_0000],
  ]);
  expect(pool.byteOffsetOf(3)).toBe(0x10_0000 + 4096);
});

test("shapes that cannot be are refused", () => {
  for (const shape of [
    { frameCount: 0 },
    { frameCount: 1.5 },
    { frameCount: 1, frameBytes: 256 },
    { frameCount: 1, frameBytes: 6000 },
    { frameCount: 1, segmentBytes: 4096 },
    { frameCount: 1, segmentBytes: 2 ** 31 },
    { frameCount: 257, frameBytes: 4096, segmentBytes: 4096 },
  ]) {
    expect(() => createPoolMemory(shape)).toThrow(RangeError);
  }
});
