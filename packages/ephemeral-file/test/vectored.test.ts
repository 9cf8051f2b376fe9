/** Reads of many ranges: which reads of the disk they become, who fails with whom, bounds, and giving up. */
import { createTempFile } from "@millrace/virtual-file";
import { expect, test } from "vitest";
import { readVectored, VECTORED_BYTES_MAX } from "../src/index.js";
import type { ByteRange, VectoredOptions, VectoredResult } from "../src/index.js";
import { createArena, FakeSource } from "./fake-source.js";
import { latch } from "./test-engine.js";
import { diskWorld, expectSame, isPending, noise, probe, rejection, settle } from "./world.js";

type Range = readonly [offset: number, length: number];

const NOTHING = new Uint8Array(0);
const SEQUENTIAL: VectoredOptions = { batchBytesMax: 131_072, inFlightMax: 1 };

function ranges(list: readonly Range[]): ByteRange[] {
  return list.map(([offsetBytes, lengthBytes]) => ({ offsetBytes, lengthBytes }));
}

/** All orders of a short list. */
function ordersOf<T>(list: readonly T[]): T[][] {
  if (list.length < 2) return [[...list]];
  return list.flatMap((first, index) => {
    const others = list.filter((_, other) => other !== index);
    return ordersOf(others).map((rest) => [first].concat(rest));
  });
}

/** Reads, checks the bytes of those that succeeded, and says how the others failed. */
async function read(
  source: FakeSource,
  list: readonly Range[],
  options: VectoredOptions = SEQUENTIAL,
): Promise<string[]> {
  const arena = createArena();
  const results = await readVectored(source, arena, ranges(list), options);
  expect(arena.stats.liveBuffers).toBe(0);
  return results.map((result, index) => outcome(source, list[index] as Range, result));
}

function outcome(source: FakeSource, [offset, length]: Range, result: VectoredResult): string {
  if (!result.ok) return (result.error as { readonly code?: string }).code ?? result.error.message;
  expectSame(
    result.bytes,
    source.content.subarray(offset, offset + length),
    `${String(offset)}+${String(length)}`,
  );
  return "ok";
}

// Aim: chunks that follow each other are one read, whatever the order of the ranges. Method: five ranges in all 120 orders.
test("neighbouring chunks are read at once, in every order of the ranges", async () => {
  for (const order of ordersOf<Range>([
    [0, 1],
    [1, 2],
    [511, 2],
    [1535, 514],
    [2560, 1],
  ])) {
    const source = new FakeSource(4096);
    expect(await read(source, order)).toEqual(["ok", "ok", "ok", "ok", "ok"]);
    expect(source.reads).toEqual([[0, 3072]]);
  }
});

// Aim: the plan. Method: ranges within a chunk, with a gap, longer than a batch, the same twice, and with larger chunks.
test.each<[string, number, Range[], Range[]]>([
  [
    "within a chunk",
    512,
    [
      [512, 10],
      [542, 20],
    ],
    [[512, 512]],
  ],
  [
    "a gap splits",
    512,
    [
      [0, 1],
      [1024, 1],
    ],
    [
      [0, 512],
      [1024, 512],
    ],
  ],
  [
    "a batch is bounded",
    512,
    Array.from({ length: 384 }, (_, index) => [512 * (index + 3) + 10, 1]),
    [
      [1536, 131_072],
      [132_608, 65_536],
    ],
  ],
  [
    "duplicates",
    512,
    [
      [700, 100],
      [700, 100],
      [0, 1],
    ],
    [[0, 1024]],
  ],
  [
    "larger chunks",
    4096,
    [
      [4095, 2],
      [20_000, 1],
    ],
    [
      [0, 8192],
      [16_384, 4096],
    ],
  ],
  [
    "one long range",
    512,
    [[100, 300_000]],
    [
      [0, 131_072],
      [131_072, 131_072],
      [262_144, 38_400],
    ],
  ],
  [
    "a file without alignment",
    1,
    [
      [5, 10],
      [600, 1],
      [2000, 1],
    ],
    [
      [0, 1024],
      [1536, 512],
    ],
  ],
  [
    "nothing",
    512,
    [
      [0, 0],
      [99, 0],
      [10_000_000, 0],
      [Number.MAX_SAFE_INTEGER, 0],
    ],
    [],
  ],
])("%s", async (_name, alignment, list, reads) => {
  const source = new FakeSource(400_000, alignment);
  expect(await read(source, list)).toEqual(list.map(() => "ok"));
  expect(source.reads).toEqual(reads);
});

// Aim: a failed read of the disk fails those who need it, and only those. Method: the middle one of three, in every order.
test("a failed batch fails exactly the ranges that touch it", async () => {
  const list: Range[] = [
    [256, 131_072],
    [131_574, 5],
    [132_106, 5],
  ];
  for (const order of ordersOf(list)) {
    const source = new FakeSource(140_000);
    source.failing.set(131_072, new Error("foo"));
    expect(await read(source, order)).toEqual(order.map(([offset]) => (offset === 132_106 ? "ok" : "foo")));
    expect(source.reads).toEqual([
      [0, 131_072],
      [131_072, 512],
      [132_096, 512],
    ]);
  }
});

test("ranges that fail together share the error, and what nobody needs any more is not read", async () => {
  const source = new FakeSource(400_000);
  source.failing.set(0, new Error("foo"));
  const list: Range[] = [
    [0, 300_000],
    [100, 5],
    [393_216, 1],
  ];
  const [first, second] = await readVectored(source, createArena(), ranges(list), SEQUENTIAL);
  if (first?.ok !== false || second?.ok !== false) expect.fail("it was not told");
  expect(first.error).toBe(second.error);
  expect(source.reads).toEqual([
    [0, 131_072],
    [393_216, 512],
  ]);
});

// Aim: the end of the file is the matter of those who want more. Method: a file of 1014 bytes, around its end and far beyond.
test("a range that ends beyond the file fails, the others do not", async () => {
  const source = new FakeSource(1014);
  for (const [offset, gotBytes] of [
    [1013, 1],
    [1014, 0],
    [1015, 0],
  ] as const) {
    const list = ranges([
      [1004, 5],
      [offset, 5],
      [1004, 10],
    ]);
    source.reads.length = 0;
    const results = await readVectored(source, createArena(), list, SEQUENTIAL);
    expect(results.map(({ ok }) => ok)).toEqual([true, false, true]);
    expect(results[1]).toMatchObject({
      error: {
        name: "UnexpectedEofError",
        code: "ERR_FILE_UNEXPECTED_EOF",
        path: "/d/file",
        offsetBytes: offset,
        wantedBytes: 5,
        gotBytes,
      },
    });
    expect(source.reads).toEqual([[512, 512]]);
  }
  const far: Range[] = [
    [0, 5],
    [2 ** 40, 5],
    [Number.MAX_SAFE_INTEGER, 5],
    [500, 1000],
  ];
  const eof = "ERR_FILE_UNEXPECTED_EOF";
  source.reads.length = 0;
  expect(await read(source, far)).toEqual(["ok", eof, eof, eof]);
  expect(source.reads, "what no file has is not asked for").toEqual([
    [0, 1536],
    [2 ** 40, 512],
  ]);
});

// Aim: the bound on reads in flight. Method: six batches, four at a time, completed in reverse.
test("so many batches as allowed are in flight", async () => {
  const source = new FakeSource(100_000);
  const waiting: (() => void)[] = [];
  source.before = () => new Promise<void>((resolve) => waiting.push(resolve));
  const list = Array.from({ length: 6 }, (_, index): Range => [index * 10_240 + 3, 100]);
  const reading = read(source, list, { inFlightMax: 4 });
  await settle();
  expect(source.reads.length).toBe(4);
  while (await isPending(reading)) waiting.pop()?.();
  expect(await reading).toEqual(list.map(() => "ok"));
  expect([source.inFlightMax, source.reads.length]).toEqual([4, 6]);
});

// Aim: giving up. Method: abort with two of six batches held; then let them go.
test("an abort rejects at once, starts nothing more, and memory comes back when it is free", async () => {
  const source = new FakeSource(100_000);
  const held = latch();
  source.before = () => held.opened;
  const arena = createArena();
  const aborting = new AbortController();
  const { signal } = aborting;
  const list = ranges(Array.from({ length: 6 }, (_, index): Range => [index * 10_240, 100]));
  const reading = rejection(readVectored(source, arena, list, { inFlightMax: 2, signal }));
  await settle();
  aborting.abort("enough");
  expect(await reading).toBe("enough");
  expect([source.reads.length, arena.stats.liveBuffers]).toEqual([2, 2]);
  held.open();
  await settle();
  expect([source.reads.length, arena.stats.liveBuffers, source.inFlight]).toEqual([2, 0, 0]);
  await expect(readVectored(source, arena, list, { signal })).rejects.toBe("enough");
  expect(source.reads.length).toBe(2);
});

test("an abort that fails a read as well is told as an abort", async () => {
  const source = new FakeSource(1000);
  const held = latch();
  source.before = () => held.opened;
  source.failing.set(0, new Error("foo"));
  const aborting = new AbortController();
  const arena = createArena();
  const reading = rejection(readVectored(source, arena, ranges([[0, 1]]), { signal: aborting.signal }));
  await settle();
  held.open();
  aborting.abort("enough");
  expect(await reading).toBe("enough");
  await settle();
  expect(arena.stats.liveBuffers).toBe(0);
});

// Aim: a little memory is enough, and none at all is waited for. Method: arenas of three chunks and of less than a batch, and one
// that is full until later.
test("a batch is read in parts where memory is short", async () => {
  const source = new FakeSource(10_000);
  const arena = createArena(3 * 512);
  const list = ranges([
    [10, 4000],
    [9000, 1000],
    [9500, 501],
  ]);
  const results = await readVectored(source, arena, list, SEQUENTIAL);
  expect(results.map((result, index) => result.ok || index)).toEqual([true, true, 2]);
  expectSame(results[0]?.ok === true ? results[0].bytes : NOTHING, source.content.subarray(10, 4010), "it");
  expect(source.reads.slice(0, 3)).toEqual([
    [0, 1024],
    [1024, 1536],
    [2560, 1536],
  ]);
  expect(arena.stats.liveBuffers).toBe(0);

  const taken = [arena.alloc(512), arena.alloc(512), arena.alloc(512)];
  const aborting = new AbortController();
  const aborted = rejection(readVectored(source, arena, list, { signal: aborting.signal }));
  const waiting = readVectored(source, arena, list);
  expect(await isPending(waiting)).toBe(true);
  aborting.abort("enough");
  expect(await aborted).toBe("enough");
  taken.pop()?.[Symbol.dispose]();
  expect((await waiting).map(({ ok }) => ok)).toEqual([true, true, false]);
  for (const buffer of taken) buffer[Symbol.dispose]();

  arena[Symbol.dispose]();
  for (const result of await readVectored(source, arena, list))
    expect(result).toMatchObject({ ok: false, error: { code: "ERR_ARENA_DISPOSED" } });
});

// Aim: any file can be read so. Method: a direct one on a disk, cut in the middle of a block, by ranges anywhere.
test("files of virtual-file can be read by many ranges", async () => {
  const alignment = await probe();
  await using world = diskWorld({ alignment: alignment ?? 512 });
  const { arena, environment, directory } = world;
  await using temporary = await createTempFile(directory, "any-", environment);
  const { file } = temporary;
  expect(file.isDirect).toBe(alignment !== null);
  const content = noise(300_000);
  using source = arena.copyFrom(Buffer.concat([content, new Uint8Array(3104)])).freeze();
  using whole = source.slice(0, 303_104);
  await file.writeAllAt(whole, 0);
  await file.setLength(content.length);
  const list: Range[] = Array.from({ length: 50 }, (_, index) => [(index * 7919) % 299_000, 1 + index * 20]);
  const results = await readVectored(
    file,
    arena,
    ranges([...list, [299_999, 2], [Number.MAX_SAFE_INTEGER, 1]]),
  );
  for (const [index, [offset, length]] of list.entries()) {
    const result = results[index];
    expectSame(
      result?.ok === true ? result.bytes : NOTHING,
      content.subarray(offset, offset + length),
      "a range",
    );
  }
  for (const result of results.slice(50))
    expect(result).toMatchObject({ ok: false, error: { code: "ERR_FILE_UNEXPECTED_EOF", path: file.path } });
});

// Aim: numbers that are none are refused before anything is read. Method: around the legal ranges.
test.each<[Range, VectoredOptions]>([
  [[-1, 1], {}],
  [[0.5, 1], {}],
  [[0, -1], {}],
  [[0, Number.NaN], {}],
  [[2 ** 53, 1], {}],
  [[0, VECTORED_BYTES_MAX + 1], {}],
  [[0, 1], { batchBytesMax: 0 }],
  [[0, 1], { batchBytesMax: 700 }],
  [[0, 1], { batchBytesMax: Infinity }],
  [[0, 1], { inFlightMax: 0 }],
  [[0, 1], { inFlightMax: 1.5 }],
  [[0, 1], { inFlightMax: 1025 }],
])("%o with %o is refused", async (range, options) => {
  const source = new FakeSource(1000);
  await expect(readVectored(source, createArena(), ranges([range]), options)).rejects.toThrow(RangeError);
  expect(source.reads).toEqual([]);
});
