/**
 * What streams read, wait for and return, call by call, as PostgreSQL 18.6 does it under the same settings: the ramp,
 * splits by hits, and blocks that are asked for again.
 */
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { READ_FLAG } from "../src/pool.js";
import { blocksFrom, cached, calls, everyCall, FULL_SCAN, line, observe, reads, run } from "./calls.js";

const { useBatching } = STREAM_FLAG;
const blocks100 = blocksFrom(0, 100);
const blocks40 = blocksFrom(0, 40);
const perBuffer = (): object => ({});

describe("the ramp", () => {
  test("a cold scan doubles its reads up to full size, then keeps several in flight", () => {
    const made = run(blocks100);
    expect(line(made)).toBe(
      "R0+1 W0+1 R1+2 | W1+2 | R3+4 | W3+4 | R7+8 | W7+8 | R15+16 | W15+16 R31+16 | R47+16 | " +
        "W31+16 R63+16 R79+16 | R95+5 | W47+16 | W63+16 | W79+16 | W95+5",
    );
    expect(made.map(({ block }) => block)).toEqual(blocks100);
  });

  test("300 blocks take 22 reads", () => {
    const wide = blocksFrom(15, 287, 16).map((block) => `${block}+16`);
    expect(reads(run(blocksFrom(0, 300)))).toBe(`0+1 1+2 3+4 7+8 ${wide.join(" ")} 287+13`);
    expect(wide).toHaveLength(17);
  });

  test("a full scan begins with full reads", () => {
    expect(line(run(blocks100, { flags: FULL_SCAN }))).toBe(
      "R0+16 W0+16 R16+16 | R32+16 | W16+16 R48+16 R64+16 | R80+16 | W32+16 R96+4 | W48+16 | W64+16 | W80+16 | W96+4",
    );
  });

  test("larger combine limits are used to the full, as far as pins allow", () => {
    const halfWide = blocksFrom(15, 191, 16).map((block) => `${block}+16`);
    expect(reads(run(blocksFrom(0, 200)))).toBe(`0+1 1+2 3+4 7+8 ${halfWide.join(" ")} 191+9`);
    const wide = blocksFrom(127, 895, 128).map((block) => `${block}+128`);
    expect(wide).toHaveLength(6);
    expect(reads(run(blocksFrom(0, 1000), {}, { combineLimit: 128, pinLimit: 188 }))).toBe(
      `0+1 1+2 3+4 7+8 15+16 31+32 63+64 ${wide.join(" ")} 895+105`,
    );
  });

  test("far blocks with records are read one by one, more and more of them ahead", () => {
    expect(line(run(blocksFrom(0, 210, 10), { perBuffer }))).toMatch(
      new RegExp(
        "^R0\\+1 W0\\+1 R10\\+1 \\| W10\\+1 R20\\+1 R30\\+1 R40\\+1 \\| W20\\+1 R50\\+1 R60\\+1 R70\\+1 R80\\+1 R90\\+1 \\| " +
          "W30\\+1 R100\\+1 R110\\+1 R120\\+1 R130\\+1 R140\\+1 R150\\+1 R160\\+1 R170\\+1 R180\\+1 \\| W40\\+1 R190\\+1 R200\\+1 \\| W50",
      ),
    );
    const distances = run(blocksFrom(0, 210, 10), { perBuffer }).map(({ info }) => info.distance);
    // After the sixth wait the end has been seen, which is distance 0.
    expect(distances.slice(0, 5)).toEqual([2, 4, 8, 16, 0]);
  });

  test("without concurrency there is one read at a time, run while it is started", () => {
    const observed = observe(blocks40, {}, { effectiveConcurrency: 0 });
    expect(observed.stream.info).toMatchObject({ maxIos: 1, maxPinned: 16 });
    const made = calls(observed);
    expect(reads(made)).toBe("0+1 1+2 3+4 7+8 15+16 31+9");
    expect(observed.pool.starts.every(({ flags }) => flags === READ_FLAG.synchronously)).toBe(true);
    expect(observed.pool.inProgressMax).toBe(1);
    expect(Math.max(...made.map(({ info }) => info.inProgress))).toBe(1);
  });

  test("without combining, concurrency is what limits", () => {
    const observed = observe(blocksFrom(0, 20), {}, { effectiveConcurrency: 4, combineLimit: 1 });
    expect(observed.stream.info).toMatchObject({ maxIos: 4, maxPinned: 5 });
    const made = calls(observed);
    expect(line(made.slice(0, 5))).toBe(
      "R0+1 W0+1 R1+1 R2+1 | W1+1 R3+1 R4+1 R5+1 | W2+1 R6+1 | W3+1 R7+1 | W4+1 R8+1",
    );
    expect(reads(made)).toBe(
      blocksFrom(0, 20)
        .map((block) => `${block}+1`)
        .join(" "),
    );
  });

  test("two I/Os at most, one start for each wait once there are two", () => {
    const observed = observe(
      blocksFrom(0, 100, 10),
      { perBuffer, flags: useBatching },
      { effectiveConcurrency: 2, combineLimit: 4 },
    );
    expect(observed.stream.info.maxPinned).toBe(12);
    expect(line(calls(observed))).toBe(
      "R0+1 W0+1 R10+1 | W10+1 R20+1 R30+1 | W20+1 R40+1 | W30+1 R50+1 | W40+1 R60+1 | W50+1 R70+1 | " +
        "W60+1 R80+1 | W70+1 R90+1 | W80+1 | W90+1",
    );
  });

  test("the callback is never more than one block ahead of what is queued", () => {
    const blocks = blocksFrom(0, 100, 10);
    let asked = 0;
    const observed = observe(
      blocks,
      { perBuffer, flags: useBatching, next: () => blocks[asked++] ?? -1 },
      { effectiveConcurrency: 2, combineLimit: 4 },
    );
    const { pool, stream } = observed;
    let returned = 0;
    for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
      returned += 1;
      const { pinned, pending } = stream.info;
      // One more may have been put back, or be the end.
      expect(asked).toBeLessThanOrEqual(returned + pinned + pending + 1);
      pool.release(buffer);
    }
    expect(returned).toBe(blocks.length);
  });

  test("one I/O at most, full reads of four", () => {
    const made = run(
      [0, 1, 2, 3, 10, 11, 12, 13, 20, 21],
      { flags: FULL_SCAN },
      { effectiveConcurrency: 1, combineLimit: 4 },
    );
    expect(everyCall(made)).toBe("R0+4 W0+4 R10+4||||W10+4 R20+2||||W20+2|");
  });
});

describe("hits", () => {
  test("cut a full scan's reads", () => {
    expect(line(run(blocks40, { flags: FULL_SCAN }, cached([5, 6, 20])))).toBe(
      "R0+5 W0+5 H5 H6 R7+13 | H20 | W7+13 R21+16 R37+3 | W21+16 | W37+3",
    );
  });

  test("cut a scan's reads and take from its distance", () => {
    expect(reads(run(blocks40, {}, cached([5, 6, 20])))).toBe("0+1 1+2 3+2 7+6 13+7 21+16 37+3");
  });

  test("at every other block leave single reads", () => {
    const odd = blocksFrom(1, 40, 2)
      .map((block) => `${block}+1`)
      .join(" ");
    const even = cached(blocksFrom(0, 40, 2));
    expect(reads(run(blocks40, {}, even))).toBe(odd);
    expect(reads(run(blocks40, { flags: FULL_SCAN }, even))).toBe(odd);
  });

  test("alone lead to the fast path after the first buffer", () => {
    const made = run(blocksFrom(0, 10), {}, { isCached: () => true });
    expect(everyCall(made)).toBe("H0 H1|H2|H3|H4|H5|H6|H7|H8|H9|");
    expect(made.map(({ info }) => info.distance)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    expect(made.map(({ info }) => info.fastPath)).toEqual([...Array.from({ length: 9 }, () => true), false]);
  });

  test("never lead there if there are records", () => {
    const made = run(blocksFrom(0, 10), { perBuffer }, { isCached: () => true });
    expect(everyCall(made)).toBe("H0 H1|H2|H3|H4|H5|H6|H7|H8|H9|");
    expect(made.every(({ info }) => !info.fastPath)).toBe(true);
    expect(made.slice(0, 9).every(({ info }) => info.distance === 1)).toBe(true);
  });

  test("after a few misses bring the distance down one by one, then to the fast path", () => {
    const made = run(blocksFrom(0, 41), {}, { isCached: (block) => block >= 4 });
    expect(everyCall(made.slice(0, 5))).toBe("R0+1 W0+1 R1+2|W1+2|R3+1|W3+1 H4|H5");
    expect(made.slice(0, 11).map(({ info }) => info.distance)).toEqual([2, 4, 4, 7, 6, 5, 4, 3, 2, 1, 1]);
    expect(made.findIndex(({ info }) => info.fastPath)).toBe(10);
  });

  test("between far misses are queued like them", () => {
    const made = run([10, 42, 43, 44, 60], { flags: FULL_SCAN }, cached([10]));
    expect(everyCall(made)).toBe("H10 R42+3 R60+1|W42+3|||W60+1");
    expect(made[0]?.info).toMatchObject({ pinned: 4, inProgress: 2 });
  });

  test("in the middle of a request are kept pinned for the next one", () => {
    const made = run(blocksFrom(0, 16), { flags: FULL_SCAN }, { ...cached([3, 4, 9]), combineLimit: 8 });
    expect(everyCall(made.slice(0, 6))).toBe("R0+3 W0+3 H3 H4 R5+4||H9|R10+6||W5+4");
    const rows = made.map(({ info: { distance, pinned, pending, forwarded } }) => [
      distance,
      pinned,
      pending,
      forwarded,
    ]);
    expect(rows.slice(0, 4)).toEqual([
      [14, 8, 6, 1],
      [14, 7, 7, 1],
      [0, 7, 6, 0],
      [0, 12, 0, 0],
    ]);
    expect(rows[5]).toEqual([0, 10, 0, 0]);
  });

  test("one of ten splits a full scan into two reads", () => {
    const made = run(blocksFrom(0, 10), { flags: FULL_SCAN }, cached([3]));
    expect(everyCall(made)).toBe("R0+3 W0+3 H3|R4+6|||W4+6|||||");
    expect(made[0]?.info).toMatchObject({ distance: 0, pinned: 3, pending: 6 });
  });

  test("in a long run are taken one for each call, and the read after them waits its turn", () => {
    const made = run(
      blocksFrom(0, 20),
      { flags: FULL_SCAN },
      { ...cached(blocksFrom(8, 16)), effectiveConcurrency: 4, combineLimit: 4 },
    );
    expect(everyCall(made.slice(0, 13))).toBe(
      "R0+4 W0+4 R4+4|||H8|W4+4 H9 H10 H11 H12||H13||H14||H15||R16+4",
    );
    expect(made.slice(0, 13).map(({ info }) => info.distance)).toEqual([
      8, 8, 8, 7, 10, 10, 9, 9, 8, 8, 7, 7, 7,
    ]);
  });

  test("a block asked for again is read once", () => {
    const duplicates = [5, 5, 5, 6, 5];
    const observed = observe(duplicates);
    const made = calls(observed);
    expect(everyCall(made)).toBe("R5+1 W5+1 H5|H5|R6+1|W6+1 H5|");
    expect(made[1]?.info.fastPath).toBe(true);
    const isFull = observe(duplicates, { flags: FULL_SCAN });
    // The second 5 meets the stream's own read, still staged in the batch: it is submitted, waited for, and is a hit.
    expect(line(calls(isFull))).toBe("R5+1 H5 H5 R6+1 H5 W5+1 | W6+1");
    expect(isFull.pool.blocksRead).toBe(2);
  });
});
