/**
 * What the callback of a batching stream may do while I/O is staged: wait for somebody who may be waiting for that I/O
 * only after it has submitted it.
 */
import { expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { blocksFrom, calls, observe } from "./calls.js";
import { ModelPool } from "./model-pool.js";

const STAGED_MAX_MS = 1000;

/** Another backend that needs `block` before it lets go of what the callback wants, with a clock of the test's own. */
class OtherBackend {
  readonly reports: string[] = [];
  readonly #pool: ModelPool;
  readonly #block: number;
  #nowMs = 0;

  constructor(pool: ModelPool, block: number) {
    this.#pool = pool;
    this.#block = block;
  }

  /** Waits for it. @returns whether that came to an end; if not, a watchdog has noticed */
  wait(): boolean {
    const io = this.#pool.inFlight.get(this.#block);
    if (io === undefined || io.state !== "staged") return true;
    // Nothing can happen any more but that time passes.
    this.#nowMs += STAGED_MAX_MS + 1;
    this.reports.push(`I/O for block ${io.block} has been staged for ${this.#nowMs} ms`);
    return false;
  }
}

test.each([true, false])("with submitStaged before the wait: %s", (submits) => {
  const pool = new ModelPool();
  const other = new OtherBackend(pool, 20);
  const blocks = blocksFrom(0, 200, 10);
  let at = 0;
  let isOver: boolean | undefined;
  const observed = observe(
    [],
    {
      flags: STREAM_FLAG.useBatching,
      next: () => {
        const block = blocks[at++] ?? -1;
        if (block === 40) {
          expect(pool.stagedCount).toBeGreaterThan(0);
          if (submits) pool.submitStaged();
          isOver = other.wait();
        }
        return block;
      },
    },
    pool,
  );
  expect(calls(observed).map(({ block }) => block)).toEqual(blocks);
  expect(isOver).toBe(submits);
  expect(other.reports).toEqual(submits ? [] : ["I/O for block 20 has been staged for 1001 ms"]);
});

test("without batching every read is submitted before the callback runs again", () => {
  const pool = new ModelPool();
  const blocks = blocksFrom(0, 200, 10);
  let at = 0;
  const observed = observe(
    [],
    {
      flags: STREAM_FLAG.default,
      next: () => {
        expect(pool.stagedCount).toBe(0);
        return blocks[at++] ?? -1;
      },
    },
    pool,
  );
  expect(calls(observed)).toHaveLength(blocks.length);
});
