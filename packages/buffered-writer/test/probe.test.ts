/** Control over the background: stages, holds, releases. */
import { expect, test } from "vitest";
import { isPending, setUp, settle } from "./fake-file.js";

// Aim: one segment can be held among others. Method: three buffers in one write; the third is held.
test("a hold is for the segments it matches", async () => {
  const { file, probe, write, writer } = setUp();
  probe.hold("started", ({ index }) => index === 2);
  const writing = write("abcdefghijkl");
  expect(await probe.reached("submitted", 2)).toEqual({ index: 2, offset: 8, length: 4 });
  await probe.reached("confirmed", 1);
  expect(await writing).toBe(0);
  expect([file.ops, writer.confirmed]).toEqual([['W(0,"abcd")', 'W(4,"efgh")'], 8]);
  const started = probe.reached("started", 2);
  expect(await isPending(started)).toBe(true);
  probe.release(2);
  expect(await started).toMatchObject({ index: 2 });
  await writer[Symbol.asyncDispose]();
});

// Aim: each stage is what it says. Method: the same segment is held at all three and let go one by one.
test("a segment is started, written and confirmed", async () => {
  const { file, probe, write, writer } = setUp();
  for (const stage of ["started", "written", "confirmed"] as const) probe.hold(stage);
  await write("abcd");
  await settle();
  const seen: [number, number][] = [];
  const look = async (): Promise<void> => {
    await settle();
    seen.push([file.ops.length, writer.confirmed]);
  };
  await look();
  probe.release(0, "started");
  await look();
  probe.release(0, "written");
  await look();
  probe.release(0, "confirmed");
  await look();
  expect(seen).toEqual([
    [0, 0],
    [1, 0],
    [1, 0],
    [1, 4],
  ]);
  probe.release(1);
  await write("efgh");
  expect(await probe.reached("confirmed", 1), "released before it came").toMatchObject({ offset: 4 });
  await writer[Symbol.asyncDispose]();
});
