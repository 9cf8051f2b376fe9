/** The gate: who gets in, who is waited for, and that the count is right whatever the guards do. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Gate, GateClosedError } from "../src/index.js";
import type { GateGuard } from "../src/index.js";
import { isPending, settle } from "./pending.js";

// Aim: an unused gate closes at once and stays closed. Method: close, then enter.
test("a gate without guards closes at once and admits nobody", async () => {
  const gate = new Gate();
  expect([gate.closing, gate.closed, gate.holders]).toEqual([false, false, 0]);
  await gate.close();
  expect([gate.closing, gate.closed]).toEqual([true, true]);
  expect(() => gate.enter()).toThrow(GateClosedError);
  expect(() => gate.enter()).toThrow(expect.objectContaining({ code: "ERR_GATE_CLOSED" }));
});

// Aim: closing begins at the call. Method: enter and clone while the close waits for one guard.
test("a close that waits admits nobody and ends with the last guard", async () => {
  const gate = new Gate();
  const guard = gate.enter();
  const close = gate.close();
  expect(() => gate.enter()).toThrow(GateClosedError);
  expect(() => guard.clone()).toThrow(GateClosedError);
  expect(await isPending(close)).toBe(true);
  expect([gate.closing, gate.closed, gate.holders]).toEqual([true, false, 1]);
  guard.release();
  await close;
  expect([gate.closed, gate.holders]).toEqual([true, 0]);
});

// Aim: a clone counts for itself, a double release does not. Method: release the first guard twice.
test("a guard and its clone are waited for separately", async () => {
  const gate = new Gate();
  const guard = gate.enter();
  const clone = guard.clone();
  const close = gate.close();
  guard.release();
  guard.release();
  guard[Symbol.dispose]();
  expect(gate.holders).toBe(1);
  expect(await isPending(close)).toBe(true);
  clone[Symbol.dispose]();
  await close;
});

// Aim: a released guard is no way in. Method: clone it while the gate is open.
test("a released guard cannot be cloned", () => {
  const gate = new Gate();
  const guard = gate.enter();
  guard.release();
  expect(() => guard.clone()).toThrow(
    expect.objectContaining({ name: "DuplexError", code: "ERR_GATE_RELEASED" }),
  );
  expect(gate.holders).toBe(0);
});

// Aim: everybody may wait for the end. Method: three closes around the release.
test("concurrent closes end together", async () => {
  const gate = new Gate();
  const guard = gate.enter();
  const closes = [gate.close(), gate.close()];
  guard.release();
  await Promise.all([...closes, gate.close()]);
  expect(gate.closed).toBe(true);
});

// Aim: the count is right. Method: random enters, clones and releases against a set of live guards, then a close.
test("the gate closes exactly when every guard is released", async () => {
  const steps = fc.array(fc.tuple(fc.constantFrom("enter", "clone", "release"), fc.nat()), {
    maxLength: 60,
    size: "max",
  });
  await fc.assert(
    fc.asyncProperty(steps, async (choices) => {
      const gate = new Gate();
      const guards: GateGuard[] = [];
      const live = new Set<GateGuard>();
      const hold = (guard: GateGuard): void => {
        guards.push(guard);
        live.add(guard);
      };
      for (const [what, choice] of choices) {
        const guard = guards[choice % guards.length];
        if (what === "enter") hold(gate.enter());
        else if (guard === undefined) continue;
        else if (what === "release") {
          guard.release();
          live.delete(guard);
        } else if (live.has(guard)) hold(guard.clone());
        else expect(() => guard.clone()).toThrow("released");
        expect(gate.holders).toBe(live.size);
      }
      let ended = false;
      void gate.close().then(() => {
        ended = true;
      });
      for (const guard of live) {
        await settle();
        expect([ended, gate.closed]).toEqual([false, false]);
        guard.release();
      }
      await settle();
      expect([ended, gate.closed]).toEqual([true, true]);
    }),
    { numRuns: 50 },
  );
});
