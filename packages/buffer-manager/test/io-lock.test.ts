/**
 * The I/O lock: one reads or writes, the others wait and then know whether there is anything left to do.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { packState, refcountOf, STATE, usageOf } from "../src/buffer-state.js";
import { handOverToIo, IO_LOCK, IoLocks, terminateIo } from "../src/io-lock.js";
import { BACKEND, DESCRIPTOR } from "../src/layout.js";
import { createWords } from "./words.js";
import type { Words } from "./words.js";

const BUFFER = 3;

function setState(world: Words, state: number): void {
  world.words[world.headersOf(0).at(BUFFER) + DESCRIPTOR.state] = state;
}

function createLocks(): { world: Words; one: IoLocks; two: IoLocks; flags: () => number } {
  const world = createWords(16);
  setState(world, packState(2, 1, STATE.tagValid));
  const headers = world.headersOf(0);
  const locks = (backend: number): IoLocks => new IoLocks(world.headersOf(backend), backend);
  return { world, one: locks(0), two: locks(1), flags: () => headers.state(BUFFER) };
}

function ownerOf(world: Words): number {
  return world.words[world.headersOf(0).at(BUFFER) + DESCRIPTOR.ioOwner] as number;
}

describe("the I/O lock", () => {
  test("is one backend's, and is refused to it and to others until it gives it back", () => {
    const { world, one, two } = createLocks();
    expect(one.tryStart(BUFFER, true)).toBe(IO_LOCK.started);
    expect(ownerOf(world)).toBe(1);
    expect(one.tryStart(BUFFER, true)).toBe(IO_LOCK.busy);
    expect(two.tryStart(BUFFER, true)).toBe(IO_LOCK.busy);
    terminateIo(world.headersOf(0), BUFFER, false, 0, false);
    expect(ownerOf(world)).toBe(0);
    expect(two.tryStart(BUFFER, true)).toBe(IO_LOCK.started);
    expect(ownerOf(world)).toBe(2);
    expect(world.words[world.layout.backendsAt + BACKEND.headerIntent], "no intent is left").toBe(0);
  });

  test("is not given for a page that needs no reading, or no writing", () => {
    const { world, one } = createLocks();
    setState(world, packState(1, 1, STATE.tagValid | STATE.valid));
    expect(one.tryStart(BUFFER, true)).toBe(IO_LOCK.done);
    expect(one.tryStart(BUFFER, false)).toBe(IO_LOCK.done);
    setState(world, packState(1, 1, STATE.tagValid | STATE.valid | STATE.dirty));
    expect(one.tryStart(BUFFER, false)).toBe(IO_LOCK.started);
  });

  // Aim: who waits learns whether the work is done. Method: the waiting flow is stepped by hand around the end of the I/O.
  test.each([
    ["a read that did not come off is tried again by whoever waited for it", 0, true],
    ["a read that came off leaves nothing to do for whoever waited for it", STATE.valid, false],
  ])("%s", (_, setFlags, isMine) => {
    const { world, one, two } = createLocks();
    one.tryStart(BUFFER, true);
    const flow = two.start(BUFFER, true);
    const step = flow.next();
    const at = world.layout.ioSequenceAt + BUFFER;
    const value = world.words[at];
    expect(step).toEqual({ done: false, value: { kind: "word", at, value, event: "BufferIo" } });
    terminateIo(world.headersOf(0), BUFFER, false, setFlags, false);
    expect(world.words[at], "the sleeper wakes").not.toBe(value);
    expect(flow.next()).toEqual({ done: true, value: isMine });
  });

  test("whose I/O carries a reference is waited for by that", () => {
    const { world, one, two, flags } = createLocks();
    const headers = world.headersOf(0);
    const ref = { handle: 7, generation: 2 ** 33 + 5 };
    expect(one.tryStart(BUFFER, true, true)).toBe(IO_LOCK.started);
    const early = two.start(BUFFER, true);
    early.next();
    const at = world.layout.ioSequenceAt + BUFFER;
    const asleepOn = world.words[at];
    handOverToIo(headers, BUFFER, ref);
    expect(ownerOf(world)).toBe(0);
    expect(world.words[at], "who sleeps for the lock turns to the I/O").not.toBe(asleepOn);
    expect(early.next().value).toEqual({ kind: "io", ref });
    expect([refcountOf(flags()), usageOf(flags())], "the I/O's pin does not count as use").toEqual([3, 1]);
    terminateIo(headers, BUFFER, false, STATE.valid, true);
    expect(early.next()).toEqual({ done: true, value: false });
    expect([refcountOf(flags()), flags() & STATE.ioInProgress]).toEqual([2, 0]);
    expect(headers.io(BUFFER)).toBeUndefined();
  });

  test("that is given back while nobody sleeps wakes nobody", () => {
    const { world, one } = createLocks();
    const at = world.layout.ioSequenceAt + BUFFER;
    one.tryStart(BUFFER, true);
    terminateIo(world.headersOf(0), BUFFER, false, 0, false);
    expect(world.words[at]).toBe(0);
  });
});

describe("the end of an I/O", () => {
  test("of a write cleans the page, unless it was dirtied meanwhile", () => {
    for (const more of [0, STATE.justDirtied]) {
      const { world, one, flags } = createLocks();
      const dirty = STATE.dirty | STATE.checkpointNeeded | STATE.valid | STATE.tagValid | STATE.permanent;
      setState(world, packState(1, 1, dirty | more));
      one.tryStart(BUFFER, false);
      terminateIo(world.headersOf(0), BUFFER, true, 0, false);
      const expected = more === 0 ? dirty & ~(STATE.dirty | STATE.checkpointNeeded) : dirty | more;
      expect(flags()).toBe(packState(1, 1, expected));
    }
  });

  test("that failed is noted, told a second time, and forgotten by one that succeeds", () => {
    const { world, one, flags } = createLocks();
    one.tryStart(BUFFER, true);
    expect(one.abort(BUFFER)).toBe(false);
    expect(flags() & STATE.ioError).toBe(STATE.ioError);
    one.tryStart(BUFFER, true, true);
    expect(one.abort(BUFFER, true), "the second failure in a row").toBe(true);
    expect(refcountOf(flags())).toBe(2);
    one.tryStart(BUFFER, true);
    terminateIo(world.headersOf(0), BUFFER, false, STATE.valid, false);
    expect(flags() & (STATE.ioError | STATE.valid)).toBe(STATE.valid);
  });

  test("wakes the backend that waits for the only pin, when the I/O's pin was the last other one", () => {
    const { world, one, flags } = createLocks();
    setState(world, packState(1, 1, STATE.tagValid | STATE.pinCountWaiter));
    const headers = world.headersOf(0);
    world.words[headers.at(BUFFER) + DESCRIPTOR.pinWaiter] = 2;
    one.tryStart(BUFFER, true, true);
    terminateIo(headers, BUFFER, false, STATE.valid, true);
    const wakeAt = world.layout.backendsAt + world.layout.backendWords + BACKEND.wake;
    expect(world.words[wakeAt]).toBe(1);
    expect(flags() & STATE.pinCountWaiter).toBe(0);
  });

  // Aim: only what an I/O is about changes. Method: every mix of the other flags and counts goes through a start and an end.
  test("leaves every other flag and the counts as they were", () => {
    const others = [STATE.tagValid, STATE.checkpointNeeded, STATE.permanent, STATE.justDirtied];
    const mixes = fc.record({
      refcount: fc.integer({ min: 1, max: 1000 }),
      usage: fc.integer({ min: 0, max: 5 }),
      set: fc.subarray(others),
      forIo: fc.boolean(),
    });
    fc.assert(
      fc.property(mixes, ({ refcount, usage, set, forIo }) => {
        const { world, one, flags } = createLocks();
        const state = packState(
          refcount,
          usage,
          set.reduce((sum, flag) => sum | flag, 0),
        );
        setState(world, state);
        expect(one.tryStart(BUFFER, true, forIo)).toBe(IO_LOCK.started);
        expect(flags()).toBe((state | STATE.ioInProgress) + (forIo ? 1 : 0));
        terminateIo(world.headersOf(0), BUFFER, false, 0, forIo);
        expect(flags()).toBe(state);
      }),
    );
  });
});
