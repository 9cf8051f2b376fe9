/**
 * Streams over the real pool and real files, with every method of I/O that runs here: they do the same there as on the
 * model, which is to say, the same as PostgreSQL.
 */
import type { Ring } from "@millrace/buffer-manager";
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import type { ReadStreamOptions } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import type { StreamEvent } from "../src/trace.js";
import { blocksFrom, FULL_SCAN, listed, SCAN } from "./calls.js";
import { fnv1a, goldens, isCachedAtFirst, lcgBlocks } from "./golden-data.js";
import { METHODS, PoolWorld, TABLE, TEMPORARY_TABLE } from "./pool-world.js";
import type { Method } from "./pool-world.js";

/** Begins a stream on the world's table. */
function begin(world: PoolWorld, options: Partial<ReadStreamOptions<object>>): ReadStream<object> {
  return ReadStream.begin<object>(world.manager, {
    relation: TABLE,
    flags: SCAN,
    next: listed([]),
    debug: true,
    statistics: true,
    ...options,
  });
}

/** Takes every buffer. @returns what their pages say */
function takeAll(world: PoolWorld, stream: ReadStream<object>): number[] {
  const blocks: number[] = [];
  for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
    blocks.push(world.blockOf(buffer));
    world.manager.release(buffer);
  }
  return blocks;
}

/** Reads, advice and returns, as the goldens have them. */
function token(event: StreamEvent): string[] {
  if (event.t === "return") return [`>${event.block}`];
  if (event.t === "read") return [`R${event.block}+${event.n}`];
  return event.t === "advice" ? [`A${event.block}+${event.n}`] : [];
}

// A pool of 6000 pins for each backend, and one where a wait finds that a block has been read by an earlier read of the same
// stream, which the trace does not know, are the model's alone.
const here = goldens.filter(({ hash }) => hash !== "ea18cbdf" && hash !== "56b722a8");
const cases = here.flatMap((golden) =>
  METHODS.filter((method) => (method === "sync") === (golden.method === "sync")).map(
    (method): [Method, string, typeof golden] => [method, golden.hash, golden],
  ),
);

// Aim: on the real pool a stream does what PostgreSQL does. Method: the stream's own events are hashed. The ring in the table
// only stands for its limit: the buffers of a real one would be taken over, and blocks be read again.
test.for(cases)("%s: the recorded stream %s", async ([method, hash, golden], { skip }) => {
  const [seed, count, percent] = golden.stream;
  const [effectiveIoConcurrency, combineLimit, pinLimit] = golden.limits;
  const blocks = lcgBlocks(seed, count);
  await using world = new PoolWorld(method, {
    buffers: 8192,
    blocks: Math.max(...blocks) + 1,
    combineLimit,
    pinLimit,
    effectiveIoConcurrency,
    maintenanceIoConcurrency: effectiveIoConcurrency,
    direct: golden.isDirect ?? false,
    segmentBlocks: golden.segmentBlocks ?? 131_072,
  });
  const isAdvised = golden.counts[2] > 0;
  if (isAdvised && !world.manager.canAdvise) skip("without the native part the kernel cannot be advised");
  for (const block of new Set(blocks.filter((each) => isCachedAtFirst(each, percent))))
    world.manager.release(world.manager.read(TABLE, block));
  const tokens: string[] = [];
  const stream = begin(world, {
    flags: golden.flags,
    next: listed(blocks),
    ring: golden.ringPinLimit === undefined ? null : { pinLimit: golden.ringPinLimit },
    ...(golden.hasRecords === true ? { perBuffer: () => ({}) } : {}),
    trace: (event) => tokens.push(...token(event)),
  });
  if (golden.ringPinLimit !== undefined) stream.clearRing();
  expect(stream.info.adviceEnabled).toBe(isAdvised);
  for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) world.manager.release(buffer);
  expect(stream.statistics).toMatchObject({ reads: golden.counts[0], blocksRead: golden.counts[1] });
  expect(fnv1a(tokens.join(" "))).toBe(hash);
});

describe.each(METHODS)("method %s", (method) => {
  const far = blocksFrom(0, 400, 7);
  const again = [5, 5, 5, 6, 5, 7, 8, 300, 301, 5];

  test.each([
    ["neighbours", SCAN, blocksFrom(0, 400)],
    ["all of it", FULL_SCAN, blocksFrom(0, 400)],
    ["far blocks", STREAM_FLAG.default, far],
    ["blocks asked for again", FULL_SCAN, again],
  ])("pages are what they should be: %s", async (_name, flags, blocks) => {
    await using world = new PoolWorld(method, { blocks: 400 });
    world.writeBlocks(TABLE, blocksFrom(0, 400));
    expect(takeAll(world, begin(world, { flags, next: listed(blocks) }))).toEqual(blocks);
    // All is cached now.
    const cached = begin(world, { flags, next: listed(blocks) });
    expect(takeAll(world, cached)).toEqual(blocks);
    expect(cached.statistics).toMatchObject({ reads: 0, waits: 0 });
  });

  test("a thread that must not sleep gets the same, with the event loop turning", async () => {
    const events: StreamEvent[][] = [];
    for (const mayBlock of [false, true]) {
      await using world = new PoolWorld(method, { blocks: 1000, mayBlock });
      world.writeBlocks(TABLE, blocksFrom(0, 1000));
      const seen: StreamEvent[] = [];
      const stream = begin(world, { next: listed(blocksFrom(0, 1000)), trace: (event) => seen.push(event) });
      events.push(seen);
      let turns = 0;
      const counting = new AbortController();
      const count = (): void => {
        turns += 1;
        if (!counting.signal.aborted) setImmediate(count);
      };
      setImmediate(count);
      const blocks: number[] = [];
      if (mayBlock) blocks.push(...takeAll(world, stream));
      else {
        for await (const { buffer } of stream) {
          blocks.push(world.blockOf(buffer));
          world.manager.release(buffer);
        }
        expect(turns).toBeGreaterThanOrEqual(7);
      }
      counting.abort();
      expect(blocks).toEqual(blocksFrom(0, 1000));
    }
    expect(events[0]).toEqual(events[1]);
  });

  test("a scan with a ring takes its own buffers over, 137 reads and 32 buffers in all", async () => {
    await using world = new PoolWorld(method, { blocks: 2000, buffers: 4096, pinLimit: 23 });
    const ring = world.manager.ring("bulkread", 256);
    expect(ring?.pinLimit).toBe(32);
    const stream = begin(world, { ring, next: listed(blocksFrom(0, 2000)) });
    for (const { buffer } of stream) world.manager.release(buffer);
    expect(stream.statistics).toMatchObject({ reads: 137, blocksRead: 2000 });
    expect(world.cachedBlocks(2000)).toEqual(blocksFrom(1968, 2000));
  });

  // Aim: the figures of pg_stat_io for a scan through a ring, in an empty pool and in a full one. In the full one the pages that
  // the ring begins with are somebody else's: 32 evictions.
  test("a scan with a ring is counted as 2000 blocks read, 1968 buffers reused, none or 32 evicted", async () => {
    await using world = new PoolWorld(method, { blocks: 8192, buffers: 4096, pinLimit: 23 });
    const { manager } = world;
    const scan = (blocks: readonly number[], ring: Ring | null): void => {
      manager.resetStatistics();
      for (const { buffer } of begin(world, { ring, next: listed(blocks) })) manager.release(buffer);
    };
    const counted = (context: string): object => {
      const row = manager
        .statistics()
        .find((each) => each.kind === "client backend" && each.context === context);
      const { read, reuse, evict, hit } = row ?? {};
      return {
        reads: read?.count,
        bytes: read?.bytes,
        reuse: reuse?.count,
        evict: evict?.count,
        hit: hit?.count,
      };
    };
    scan(blocksFrom(0, 2000), manager.ring("bulkread", 256));
    const read = { reads: 137, bytes: 2000 * 8192, reuse: 1968, hit: 0 };
    expect(counted("bulkread")).toEqual({ ...read, evict: 0 });
    expect(manager.summary().used).toBe(32);
    expect(manager.usageCounts()[1]?.buffers).toBe(32);
    scan(blocksFrom(4096, 8192), null);
    expect(counted("normal")).toMatchObject({ bytes: 4096 * 8192, evict: 32, hit: 0 });
    expect(manager.summary().unused).toBe(0);
    scan(blocksFrom(0, 2000), manager.ring("bulkread", 256));
    expect(counted("bulkread")).toEqual({ ...read, evict: 32 });
  });

  test("a ring that is cleared in the middle is left alone from then on", async () => {
    await using world = new PoolWorld(method, { blocks: 2000, buffers: 4096, pinLimit: 23 });
    const ring = world.manager.ring("bulkread", 256);
    const stream = begin(world, { ring, next: listed(blocksFrom(0, 2000)) });
    for (let block = 0; block < 1000; block += 1) world.manager.release(stream.next());
    const ahead = 1000 + stream.info.pinned;
    stream.clearRing();
    for (const { buffer } of stream) world.manager.release(buffer);
    // What the ring held then, and everything after it.
    expect(world.cachedBlocks(2000)).toEqual(blocksFrom(ahead - 32, 2000));
  });

  test("end waits for reads in flight and leaves no pin", async () => {
    await using world = new PoolWorld(method, { blocks: 400 });
    const stream = begin(world, { flags: FULL_SCAN, next: listed(blocksFrom(0, 400)) });
    for (let index = 0; index < 20; index += 1) world.manager.release(stream.next());
    expect(stream.info.inProgress).toBeGreaterThan(1);
    stream.end();
    expect(world.manager.additionalPins()).toBe(94 - 8);
  });

  test("a page that is invalid fails the read it is in; once it is mended a reset helps", async () => {
    await using world = new PoolWorld(method, { blocks: 10 });
    world.writeBlocks(TABLE, blocksFrom(0, 10));
    world.writeBlocks(TABLE, [5], true);
    let next = listed(blocksFrom(0, 10));
    const stream = begin(world, { flags: FULL_SCAN, next: () => next(undefined) });
    expect(() => stream.next()).toThrow(expect.objectContaining({ code: "ERR_BUFFER_INVALID_PAGE" }));
    world.writeBlocks(TABLE, [5]);
    stream.reset();
    next = listed(blocksFrom(0, 10));
    expect(takeAll(world, stream)).toEqual(blocksFrom(0, 10));
  });

  test("a block beyond the end of the file fails when it is due, not before", async () => {
    await using world = new PoolWorld(method, { blocks: 40 });
    const stream = begin(world, { next: listed(blocksFrom(30, 50)) });
    let returned = 0;
    const scan = (): void => {
      for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
        returned += 1;
        world.manager.release(buffer);
      }
    };
    // Reads of 1, 2, 4 and 8 blocks; the last one begins at block 37.
    expect(scan).toThrow(expect.objectContaining({ code: "ERR_BUFFER_SHORT_READ" }));
    expect(returned).toBe(7);
    stream.end();
  });

  test("a temporary relation is read into the backend's own buffers, a quarter of them at most", async () => {
    await using world = new PoolWorld(method, { blocks: 200, localBuffers: 100 });
    world.writeBlocks(TEMPORARY_TABLE, blocksFrom(0, 200));
    world.manager.session.effectiveConcurrency = 1000;
    const stream = begin(world, { relation: TEMPORARY_TABLE, next: listed(blocksFrom(0, 200)) });
    expect(stream.info.maxPinned).toBe(25);
    expect(takeAll(world, stream)).toEqual(blocksFrom(0, 200));
    expect(world.cachedBlocks(200)).toEqual([]);
  });

  test("of a temporary relation no more is read at a time than pins are left, five of them, and it never runs out", async () => {
    await using world = new PoolWorld(method, { blocks: 200, localBuffers: 100 });
    const { manager } = world;
    world.writeBlocks(TEMPORARY_TABLE, blocksFrom(0, 200));
    manager.session.effectiveConcurrency = 1000;
    expect(manager.pinLimit(true)).toBe(25);
    const held = blocksFrom(180, 200).map((block) => manager.read(TEMPORARY_TABLE, block));
    expect(manager.additionalPins(true)).toBe(5);
    const sizes: number[] = [];
    const stream = begin(world, {
      relation: TEMPORARY_TABLE,
      flags: FULL_SCAN,
      next: listed(blocksFrom(0, 180)),
      trace: (event) => event.t === "read" && sizes.push(event.n),
    });
    expect(takeAll(world, stream)).toEqual(blocksFrom(0, 180));
    expect(Math.max(...sizes)).toBe(5);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(180);
    for (const buffer of held) manager.release(buffer);
  });

  test("a scope that ends takes the pins, also those of reads in flight, whose blocks become valid", async () => {
    await using world = new PoolWorld(method, { blocks: 400 });
    world.writeBlocks(TABLE, blocksFrom(0, 400));
    const hooks: (() => void)[] = [];
    const scope = world.manager.openScope();
    const stream = begin(world, {
      flags: FULL_SCAN,
      next: listed(blocksFrom(0, 400)),
      scope: { onEnd: (hook) => hooks.push(hook) },
    });
    for (let index = 0; index < 20; index += 1) world.manager.release(stream.next());
    scope.end(true);
    for (const hook of hooks) hook();
    expect(() => stream.next()).toThrow(expect.objectContaining({ code: "ERR_STREAM_DEAD" }));
    expect(world.manager.additionalPins()).toBe(94 - 8);
    expect(takeAll(world, begin(world, { next: listed(blocksFrom(0, 100)) }))).toEqual(blocksFrom(0, 100));
  });
});

test("tablespaces and sessions have their say about concurrency", async () => {
  await using world = new PoolWorld("sync");
  const { manager } = world;
  manager.session.effectiveConcurrency = 1;
  manager.session.maintenanceConcurrency = 8;
  const maxIos = (flags: number): number => begin(world, { flags }).info.maxIos;
  expect([maxIos(SCAN), maxIos(STREAM_FLAG.maintenance)]).toEqual([1, 8]);
});

test("a temporary relation of another backend is refused", async () => {
  await using world = new PoolWorld("sync");
  expect(() => begin(world, { relation: { ...TEMPORARY_TABLE, owner: 1 } })).toThrow(
    expect.objectContaining({ code: "ERR_STREAM_FOREIGN_TEMPORARY" }),
  );
});
