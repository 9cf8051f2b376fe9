/**
 * How an open segment gives its bytes to the kernel: which call, how many bytes, and what happens when zeros or a call
 * of its own thread do not work out.
 */
import { expect, test } from "vitest";

import { OpenSegment, WRITE_NOW_BYTES_MAX, ZERO_AHEAD_BYTES } from "../src/open-segment.js";
import { codeOf, thrownCode } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import type { Call } from "./memory-file-system.js";

const SEGMENT = 1024 * 1024;

interface Opened {
  readonly fileSystem: MemoryFileSystem;
  readonly segment: OpenSegment;
  /** Name and bytes of each call since the last look. */
  readonly calls: () => [string, number][];
  readonly contents: () => Uint8Array;
}

async function openSegment(options: { now?: boolean; zeroAhead?: boolean } = {}): Promise<Opened> {
  const fileSystem = new MemoryFileSystem("/wal");
  fileSystem.writesNow = options.now ?? true;
  const file = await fileSystem.open("/wal/s", "create");
  await file.ftruncate(SEGMENT);
  const segment = new OpenSegment({
    segno: 1n,
    file,
    segmentBytes: SEGMENT,
    zeroAhead: options.zeroAhead ?? true,
  });
  let seen: Call[] = [];
  fileSystem.onCall = (call) => void seen.push(call);
  return {
    fileSystem,
    segment,
    calls: () => {
      const calls = seen.map(({ name, bytes }): [string, number] => [name, bytes]);
      seen = [];
      return calls;
    },
    contents: () => fileSystem.bytes("/wal/s"),
  };
}

const ones = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(1);

// Aim: blocks are allocated for many commits at a time, and what follows is copied at once. Method: calls and bytes.
test("a short write into a hole carries zeros, the next ones are made at once", async () => {
  const { segment, calls, contents } = await openSegment();
  await segment.write([ones(100), ones(100)], 200, 8192);
  expect(calls()).toEqual([["pwritev", 200 + ZERO_AHEAD_BYTES]]);
  expect(segment.write([ones(300)], 300, 8392)).toBeUndefined();
  expect(segment.write([ones(1), ones(2)], 3, 8692)).toBeUndefined();
  expect(calls()).toEqual([
    ["writeNow", 300],
    ["writeNow", 3],
  ]);
  await segment.write([ones(WRITE_NOW_BYTES_MAX + 1)], WRITE_NOW_BYTES_MAX + 1, 8695);
  expect(calls()).toEqual([["pwritev", WRITE_NOW_BYTES_MAX + 1]]);
  const bytes = contents();
  const end = 8695 + WRITE_NOW_BYTES_MAX + 1;
  expect(bytes.byteLength).toBe(SEGMENT);
  expect(bytes.subarray(8192, end).every((byte) => byte === 1)).toBe(true);
  expect(bytes.subarray(end).every((byte) => byte === 0)).toBe(true);
  // Where the zeros end there is a hole again.
  const next = 8392 + ZERO_AHEAD_BYTES;
  await segment.write([ones(10)], 10, next - 5);
  expect(calls()).toEqual([["pwritev", 10 + ZERO_AHEAD_BYTES]]);
});

test("zeros end with the segment, and there are none behind long writes or where nothing is synced", async () => {
  const last = await openSegment();
  await last.segment.write([ones(100)], 100, SEGMENT - 150);
  expect(last.calls()).toEqual([["pwritev", 150]]);
  expect(last.contents().byteLength).toBe(SEGMENT);
  const long = await openSegment();
  await long.segment.write([ones(200_000)], 200_000, 0);
  expect(long.calls()).toEqual([["pwritev", 200_000]]);
  const unsynced = await openSegment({ zeroAhead: false });
  expect(unsynced.segment.write([ones(100)], 100, 0)).toBeUndefined();
  expect(unsynced.calls()).toEqual([["writeNow", 100]]);
});

// Aim: a file that cannot write at once, or takes only a part, gets all bytes all the same. Method: both kinds.
test("what a call of this thread did not take goes through the pool", async () => {
  const pooled = await openSegment({ now: false, zeroAhead: false });
  await pooled.segment.write([ones(100)], 100, 0);
  expect(pooled.calls()).toEqual([["pwritev", 100]]);
  const short = await openSegment({ zeroAhead: false });
  short.fileSystem.shortWrite = (bytes) => Math.min(bytes, 60);
  await short.segment.write([ones(50), ones(50)], 100, 7);
  expect(short.calls()).toEqual([
    ["writeNow", 100],
    ["pwritev", 40],
  ]);
  expect(short.contents().subarray(0, 110)).toEqual(
    Uint8Array.from({ length: 110 }, (_, index) => (index >= 7 && index < 107 ? 1 : 0)),
  );
});

// Aim: a nearly full disk takes WAL as long as it has room for that. Method: calls above a size fail; then all do.
test("zeros that find no room do not stop the WAL in front of them", async () => {
  const { fileSystem, segment, contents } = await openSegment();
  const sizes: number[] = [];
  fileSystem.onCall = ({ bytes }) => {
    sizes.push(bytes);
    if (bytes > 1000) throw systemError("ENOSPC");
  };
  await segment.write([ones(200)], 200, 0);
  expect(segment.write([ones(200)], 200, 200)).toBeUndefined();
  expect(sizes).toEqual([200 + ZERO_AHEAD_BYTES, 200, 200]); // zeros are tried once
  expect(contents().subarray(0, 401)).toEqual(
    Uint8Array.from({ length: 401 }, (_, index) => (index < 400 ? 1 : 0)),
  );
  fileSystem.onCall = () => {
    throw systemError("EIO");
  };
  expect(thrownCode(() => segment.write([ones(200)], 200, 400))).toBe("EIO");
  const broken = await openSegment();
  broken.fileSystem.onCall = fileSystem.onCall;
  expect(await codeOf(broken.segment.write([ones(200)], 200, 0) ?? Promise.resolve())).toBe("EIO");
});
