/** Faults on purpose: whom they strike, how often, and that the disarmed cost nothing and change nothing. */
import { describe, expect, test } from "vitest";

import { Faults } from "../src/faults.js";
import type { ArmedFault } from "../src/faults.js";
import { computeLayout, FAULTS_MAX } from "../src/layout.js";
import { OPERATION } from "../src/operations.js";

function createFaults(): [Faults, Faults] {
  const layout = computeLayout({ backends: 1, concurrency: 1, combine: 1, files: 1 });
  const words = new Int32Array(new SharedArrayBuffer(layout.words * 4));
  return [new Faults(words, layout), new Faults(words, layout)];
}

describe("an armed fault", () => {
  test("strikes in every thread until it is disarmed, and keeps its count", () => {
    const [here, there] = createFaults();
    const fault = here.arm({ point: "instead", result: -5 });
    expect([here.isArmed, there.isArmed]).toEqual([true, true]);
    expect(there.strike("instead", OPERATION.readv, 3)).toBe(-5);
    expect(here.strike("instead", OPERATION.fsync, 4)).toBe(-5);
    expect(fault.hits).toBe(2);
    fault[Symbol.dispose]();
    fault[Symbol.dispose]();
    expect([here.isArmed, there.isArmed]).toEqual([false, false]);
    expect(there.strike("instead", OPERATION.readv, 3)).toBeUndefined();
    expect(fault.hits).toBe(2);
  });

  test("strikes only its point, its operation and its descriptor", () => {
    const [faults] = createFaults();
    using fault = faults.arm({ point: "afterwards", operation: "writev", fd: 7, result: 17 });
    expect(faults.strike("instead", OPERATION.writev, 7)).toBeUndefined();
    expect(faults.strike("afterwards", OPERATION.readv, 7)).toBeUndefined();
    expect(faults.strike("afterwards", OPERATION.writev, 8)).toBeUndefined();
    expect(fault.hits).toBe(0);
    expect(faults.strike("afterwards", OPERATION.writev, 7)).toBe(17);
    expect(fault.hits).toBe(1);
  });

  test("lets some through, strikes as often as it was told, and counts them all", () => {
    const [faults] = createFaults();
    using fault = faults.arm({ point: "instead", skip: 2, times: 2, result: -5 });
    const struck = Array.from({ length: 6 }, () => faults.strike("instead", OPERATION.readv, 1));
    expect(struck).toEqual([undefined, undefined, -5, -5, undefined, undefined]);
    expect(fault.hits).toBe(6);
  });
});

test("sixteen faults can be armed at a time, and a place is free again once its fault is disarmed", () => {
  const [faults] = createFaults();
  const armed: ArmedFault[] = [];
  for (let index = 0; index < FAULTS_MAX; index++) armed.push(faults.arm({ point: "instead", fd: index }));
  const full = expect.objectContaining({ code: "ERR_AIO_LIMIT" }) as Error;
  expect(() => faults.arm({ point: "instead" })).toThrow(full);
  armed[5]?.[Symbol.dispose]();
  using again = faults.arm({ point: "instead", fd: 100, result: -9 });
  expect(faults.strike("instead", OPERATION.readv, 100)).toBe(-9);
  expect(again.hits).toBe(1);
  expect(faults.strike("instead", OPERATION.readv, 5)).toBeUndefined();
});
