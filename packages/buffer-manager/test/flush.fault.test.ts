/**
 * Writes that fail: with every method the page stays dirty, nothing is lost, and a later write puts it right.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { constants } from "node:os";
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { checkpoint } from "../src/checkpoint.js";
import { BUFFER_CHANNEL } from "../src/diagnostics.js";
import type { BufferEvent } from "../src/diagnostics.js";
import { METHODS } from "./data-directory.js";
import { TABLE, WriteWorld } from "./write-world.js";

const { EIO, ENOSPC } = constants.errno;
const BLOCKS = 6;

/** How a write fails: by an error of the kernel, or by being cut short in the first page or after it. */
const FAULTS = [
  ["EIO", { point: "instead", result: -EIO }],
  ["ENOSPC", { point: "instead", result: -ENOSPC }],
  ["a write that ends inside a page", { point: "afterwards", result: 4096 }],
  ["a write that ends after a page", { point: "afterwards", result: 8192 }],
] as const;

/** Events of this package while `body` runs. */
function eventsOf(body: () => void): BufferEvent[] {
  const events: BufferEvent[] = [];
  const listener = (event: unknown): void => void events.push(event as BufferEvent);
  subscribe(BUFFER_CHANNEL, listener);
  try {
    body();
  } finally {
    unsubscribe(BUFFER_CHANNEL, listener);
  }
  return events;
}

describe.each(METHODS)("method %s", (method) => {
  // Aim: a failure is the caller's, leaves every page as dirty as before, warns the second time, and is over when the fault
  // is. Method: a checkpoint whose one combined write fails twice and then does not.
  test.each(FAULTS)("%s loses no page, and the next checkpoint writes it", async (_, fault) => {
    await using world = new WriteWorld({ aio: { method, required: true, ioWorkers: 1 } });
    world.create(TABLE, BLOCKS);
    const buffers = Array.from({ length: BLOCKS }, (_, block) => world.dirty(TABLE, block, block + 1));
    const attempt = (): unknown => world.context.waiter.run(checkpoint(world.parts, { isImmediate: true }));
    const armed = world.pool.aio.faults.arm({ ...fault, operation: "writev" });
    for (let time = 0; time < 2; time++) {
      let error: unknown;
      const events = eventsOf(() => {
        try {
          attempt();
        } catch (thrown) {
          error = thrown;
        }
      });
      expect(error).toMatchObject({ code: "ERR_BUFFER_WRITE" });
      expect((error as Error).message).toMatch(/^could not write blocks 0\.\.5 of ".*\/base\/5\/16384": /u);
      expect(events.map(({ type }) => type)).toEqual(time === 0 ? [] : ["write-failed-again"]);
      for (const buffer of buffers)
        expect(world.has(buffer, STATE.dirty | STATE.ioError | STATE.valid)).toBe(true);
    }
    expect(armed.hits).toBe(2);
    armed[Symbol.dispose]();
    attempt();
    for (const [block, buffer] of buffers.entries()) {
      expect(world.storedValue(TABLE, block)).toBe(block + 1);
      expect(world.state(buffer) & (STATE.dirty | STATE.ioError | STATE.checkpointNeeded)).toBe(0);
    }
  });

  // Aim: one failing write among several in flight fails the checkpoint, and all others have been written. Method: blocks
  // that are no neighbours; the third write fails.
  test("of several writes in flight one may fail, and the others count", async () => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, BLOCKS * 2);
    const buffers = Array.from({ length: BLOCKS }, (_, block) => world.dirty(TABLE, block * 2, block + 1));
    const armed = world.pool.aio.faults.arm({
      point: "instead",
      operation: "writev",
      skip: 2,
      times: 1,
      result: -EIO,
    });
    const attempt = (): unknown => world.context.waiter.run(checkpoint(world.parts, { isImmediate: true }));
    expect(attempt).toThrow(expect.objectContaining({ code: "ERR_BUFFER_WRITE" }));
    armed[Symbol.dispose]();
    const dirty = buffers.filter((buffer) => world.has(buffer, STATE.dirty));
    // Method sync notices at once and writes no further.
    expect(dirty.length).toBeGreaterThanOrEqual(1);
    expect(dirty.filter((buffer) => world.has(buffer, STATE.ioError))).toHaveLength(1);
    attempt();
    for (const [block] of buffers.entries()) expect(world.storedValue(TABLE, block * 2)).toBe(block + 1);
  });
});
