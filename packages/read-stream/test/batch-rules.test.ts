/**
 * What the callback of a batching stream may do while I/O is staged: wait for somebody who may be waiting for that I/O
 * only after it has submitted it.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import { blocksFrom, calls, observe } from "./calls.js";
import { ModelPool } from "./model-pool.js";
import { METHODS, PoolWorld, TABLE } from "./pool-world.js";

const STAGED_MAX_MS = 1000;
/** How long a sleeping test waits before it is plain that nobody wakes it. */
const PATIENCE_MS = 10_000;
/** Words that a test shares with the other backend's thread. */
const WORD = { go: 0, sleeps: 1, done: 2 } as const;

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

// Aim: on the real pool too, somebody who needs a block that is only staged gets it as soon as the callback submits it, and not
// before. Method: another thread says that it goes to sleep for block 20; the stream's thread sleeps in the callback until it
// has it. With method sync nothing is ever staged.
describe.each(METHODS.filter((method) => method !== "sync"))("method %s", (method) => {
  test.each([true, false])("a thread that waits for staged I/O; with submitStaged: %s", async (submits) => {
    const block = 20;
    await using world = new PoolWorld(method, { blocks: 200 });
    const { shared, aio } = world.pool;
    const board = new Int32Array(new SharedArrayBuffer(12));
    const workerData = { shared, directory: world.directory, relation: TABLE, block, board, word: WORD };
    const other = new Worker(new URL("joining-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    const left = once(other, "exit");
    await once(other, "message");
    const say = (word: number): void => {
      Atomics.store(board, word, 1);
      Atomics.notify(board, word);
    };
    const waitFor = (word: number): void => {
      expect(Atomics.wait(board, word, 0, PATIENCE_MS), "what is waited for comes").not.toBe("timed-out");
    };
    const blocks = blocksFrom(0, 200, 10);
    let at = 0;
    let staged = 0;
    const stream = ReadStream.begin<object>(world.manager, {
      relation: TABLE,
      flags: STREAM_FLAG.useBatching,
      next: () => {
        const next = blocks[at++] ?? -1;
        if (next === 40) {
          say(WORD.go);
          waitFor(WORD.sleeps);
          if (submits) {
            world.manager.submitStaged();
            waitFor(WORD.done);
          }
          staged = aio.rows().filter(({ state }) => state === "STAGED").length;
        }
        return next;
      },
    });
    const seen: number[] = [];
    for (const { buffer } of stream) {
      seen.push(world.manager.tag(buffer).block);
      world.manager.release(buffer);
    }
    expect(seen).toEqual(blocks);
    await left;
    expect(board[WORD.done]).toBe(1);
    // Block 20 is staged; block 30 is not yet, since block 40 might have been its neighbour.
    expect(staged, "I/Os that were staged when the callback returned").toBe(submits ? 0 : 1);
  });
});
