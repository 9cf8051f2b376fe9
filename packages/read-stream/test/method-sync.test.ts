/**
 * Method sync, where only advice makes reads overlap: which blocks PostgreSQL 18.6 advises the kernel of, and when it
 * leaves the kernel's own read-ahead alone.
 */
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { blocksFrom, calls, FULL_SCAN, observe, run } from "./calls.js";
import { ModelPool } from "./model-pool.js";

const blocks40 = blocksFrom(0, 40);
const perBuffer = (): object => ({});

describe("method sync", () => {
  const model = { method: "sync", effectiveConcurrency: 4 } as const;
  const all = (made: ReturnType<typeof run>): string =>
    made
      .flatMap(({ events }) => events.split(" "))
      .filter((event) => event !== "")
      .join(" ");

  test("far blocks are advised ahead of their reads, but not before anything is pinned", () => {
    const made = run(blocksFrom(0, 210, 10), { flags: STREAM_FLAG.default, perBuffer }, model);
    const pairs = blocksFrom(80, 210, 10).map((block) => `R${block - 40}+1 A${block}+1`);
    expect(all(made)).toBe(
      "R0+1 R10+1 A30+1 A40+1 R20+1 A50+1 A60+1 " +
        `R30+1 A70+1 ${pairs.join(" ")} R170+1 R180+1 R190+1 R200+1`,
    );
  });

  test("one jump is not worth advice", () => {
    const made = run([0, ...blocksFrom(100, 140)], { flags: STREAM_FLAG.default }, model);
    expect(all(made)).toBe("R0+1 R100+2 R102+4 R106+8 R114+16 R130+10");
  });

  test("a jump seen from within a run is advised", () => {
    const blocks = [0, 50, ...blocksFrom(100, 140), ...blocksFrom(300, 311)];
    expect(all(run(blocks, { flags: STREAM_FLAG.default }, model))).toBe(
      "R0+1 R50+1 R100+4 R104+8 R112+16 A300+11 R128+12 R300+11",
    );
  });

  test("a sequential scan is not advised", () => {
    expect(all(run(blocks40, {}, { method: "sync" }))).toBe("R0+1 R1+2 R3+4 R7+8 R15+16 R31+9");
    expect(all(run(blocks40, { flags: FULL_SCAN }, { method: "sync" }))).toBe("R0+16 R16+16 R32+8");
  });

  test("without fadvise the reads are the same, and the stream says why there is no advice", () => {
    const far = blocksFrom(0, 210, 10);
    const options = { flags: STREAM_FLAG.default, perBuffer };
    const withAdvice = observe(far, options, model);
    expect(withAdvice.stream.info.adviceEnabled).toBe(true);
    for (const change of [{ canAdvise: false }, { isDirect: true }]) {
      const without = observe(far, options, { ...model, ...change });
      expect(without.stream.info.adviceEnabled).toBe(false);
      expect(all(calls(without))).toBe(all(run(far, options, model)).replaceAll(/A\d+\+1 /g, ""));
    }
    expect(observe(far, options, { ...model, effectiveConcurrency: 0 }).stream.info.adviceEnabled).toBe(
      false,
    );
    expect(observe(far, options, { ...model, method: "worker" }).stream.info.adviceEnabled).toBe(false);
  });

  test("on the fast path advice is always asked for", () => {
    const pool = new ModelPool({ method: "sync", isCached: (block) => block < 5 });
    calls(observe(blocksFrom(0, 6), { flags: STREAM_FLAG.default }, pool));
    // Look-ahead pins blocks 0 and 1, each at a time when nothing else is pinned; from block 2 on it is the fast path.
    expect(pool.starts.map(({ flags }) => flags)).toEqual([0, 0, 2, 2, 2, 2]);
  });
});
