/**
 * Reads of bytes that are in the file, in a segment and in the buffer that is being filled, at every stage of that segment: not
 * started, half of it on the disk, all of it there but not known to be, and confirmed.
 */
import { FlushProbe } from "@millrace/buffered-writer";
import { expect, test } from "vitest";
import { EphemeralFile } from "../src/index.js";
import type { Act } from "./test-engine.js";
import { latch, pass, stop } from "./test-engine.js";
import { diskWorld, expectSame, noise, probe, readBytes } from "./world.js";

const CAPACITY = 65_536;
const probed = await probe();
const ALIGNMENT: number = probed ?? 512;
const CONTENT: Uint8Array = noise(2.5 * CAPACITY);
const END: number = CONTENT.length;

/** Every border between regions, a block before and behind it, and a byte before and behind it. */
const BORDERS: readonly number[] = [0, CAPACITY, 2 * CAPACITY, END].flatMap((border) =>
  [-ALIGNMENT, -1, 0, 1, ALIGNMENT].map((step) => border + step),
);
const EDGES: readonly number[] = [...new Set(BORDERS.filter((edge) => edge >= 0 && edge <= END + ALIGNMENT))];

/** All ranges between two of these; none, one or two regions are wholly within. */
function rangesOf(): [number, number][] {
  return EDGES.flatMap((from) => EDGES.filter((to) => to > from).map((to): [number, number] => [from, to]));
}

async function checkReads(file: EphemeralFile, stage: string): Promise<void> {
  expect(file.length).toBe(END);
  const ranges = rangesOf();
  for (const [from, to] of ranges)
    expectSame(
      await readBytes(file, from, to - from),
      CONTENT.subarray(from, to),
      `${stage}: ${String(from)} to ${String(to)}`,
    );
  const inside = ranges.filter(([, to]) => to <= END);
  const results = await file.readVectored(
    inside.map(([from, to]) => ({ offsetBytes: from, lengthBytes: to - from })),
  );
  for (const [index, [from, to]] of inside.entries()) {
    const result = results[index];
    if (result?.ok !== true) expect.fail(`${stage}: ${String(from)} to ${String(to)} failed`);
    expectSame(
      result.bytes,
      CONTENT.subarray(from, to),
      `${stage}, vectored: ${String(from)} to ${String(to)}`,
    );
  }
  using whole = await file.readAll();
  expectSame(whole.unsafeView(), CONTENT, `${stage}: everything`);
}

// Aim: no stage of a segment shows in what is read. Method: one append over two segments and a half; the second segment is taken
// through its stages, and each time every range between borders of regions is read, with all three kinds of reads.
test.each(probed === null ? (["buffered"] as const) : (["direct-rw", "buffered"] as const))(
  "all regions can be read at every stage of a segment (%s)",
  { timeout: 60_000 },
  async (ioMode) => {
    await using world = diskWorld({ alignment: ALIGNMENT, ioMode });
    const flush = new FlushProbe();
    for (const stage of ["started", "written", "confirmed"] as const)
      flush.hold(stage, ({ index }) => index === 1);
    const half: Act = (make, bytes) => make(bytes.subarray(0, bytes.length / 2));
    const writing = stop(half);
    world.engine.plan("write", pass, writing.act);
    await using file = await EphemeralFile.create(world.directory, world.environment, {
      capacity: CAPACITY,
      probe: flush,
    });
    expect(file.isDirect).toBe(ioMode === "direct-rw");
    expect(await file.append(CONTENT)).toBe(0);

    await checkReads(file, "not started");
    expectSame(world.onDisk(file), CONTENT.subarray(0, CAPACITY), "on the disk");

    flush.release(1, "started");
    await writing.arrived;
    await checkReads(file, "half written");
    expectSame(world.onDisk(file), CONTENT.subarray(0, 1.5 * CAPACITY), "on the disk");

    writing.release();
    await writing.ended;
    await checkReads(file, "written");
    flush.release(1, "written");
    await flush.reached("written", 1);
    await checkReads(file, "written and seen");
    expectSame(world.onDisk(file), CONTENT.subarray(0, 2 * CAPACITY), "on the disk");

    flush.release(1);
    await flush.reached("confirmed", 1);
    await checkReads(file, "confirmed");
  },
);

// Aim: a buffer that is filled again does not change a read in progress. Method: the file's part of a read is held while its
// segment is confirmed and the segment's memory gets new bytes.
test("a segment that is recycled leaves reads under way alone", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const flush = new FlushProbe();
  flush.hold("started", ({ index }) => index === 1);
  await using file = await EphemeralFile.create(world.directory, world.environment, { probe: flush });
  await file.append(CONTENT);
  const reading = stop();
  world.engine.plan("read", reading.act);
  const target = Buffer.alloc(END - 10);
  const read = file.read(5, target);
  await reading.arrived;
  flush.release(1);
  await flush.reached("confirmed", 1);
  await file.append(noise(2 * CAPACITY, 2));
  await flush.reached("confirmed", 3);
  reading.release();
  expect(await read).toBe(END - 10);
  expectSame(target, CONTENT.subarray(5, END - 5), "read under way");
});

// Aim: what an append has not acknowledged is not there, and holds nobody up. Method: an append that waits for a held segment.
test("an append that waits is invisible, and reads do not wait for it", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const flush = new FlushProbe();
  flush.hold("started", ({ index }) => index >= 1);
  await using file = await EphemeralFile.create(world.directory, world.environment, { probe: flush });
  await file.append(CONTENT);
  const more = noise(CAPACITY, 3);
  const hasReturned = latch();
  const appending = (async () => {
    const offset = await file.append(more);
    hasReturned.open();
    return offset;
  })();
  await flush.reached("submitted", 2);
  for (let index = 0; index < 100; index++) {
    const from = Math.floor((index * END) / 100);
    expectSame(await readBytes(file, from, CAPACITY), CONTENT.subarray(from, from + CAPACITY), "read");
  }
  expect(file.length).toBe(END);
  expect(await readBytes(file, END, 10)).toHaveLength(0);
  expect(file.tryRead(END - 1, new Uint8Array(9))).toBe(1);
  const [beyond] = await file.readVectored([{ offsetBytes: END - 1, lengthBytes: 2 }]);
  expect(beyond).toMatchObject({ ok: false, error: { code: "ERR_FILE_UNEXPECTED_EOF", gotBytes: 1 } });
  using before = await file.readAll();
  expect(before.length).toBe(END);
  flush.release(1);
  flush.release(2);
  await hasReturned.opened;
  expect([await appending, file.length]).toEqual([END, END + CAPACITY]);
  expectSame(
    await readBytes(file, END - 7, CAPACITY),
    Buffer.concat([CONTENT.subarray(-7), more.subarray(0, -7)]),
    "now",
  );
});
