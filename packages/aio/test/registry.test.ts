/** Callbacks and targets by number: what may be registered, and the hash that must agree among threads. */
import { describe, expect, test } from "vitest";

import { createFileRegistry, fileCallbacks, fileTarget } from "../src/file-registry.js";
import { AioRegistry } from "../src/registry.js";
import type { Callbacks } from "../src/registry.js";

const complete: Callbacks = { name: "upper", completeShared: (_io, prior) => prior };

function hashOf(change: (registry: AioRegistry) => AioRegistry): number {
  return change(new AioRegistry()).freeze();
}

describe("registration", () => {
  test("takes ids 1 to 63 for callbacks and 1 to 15 for targets, each once", () => {
    const registry = new AioRegistry().callback(1, complete).callback(63, complete).target(15, fileTarget);
    for (const id of [0, -1, 64, 1.5]) expect(() => registry.callback(id, complete)).toThrow(RangeError);
    for (const id of [0, -1, 16, 1.5]) expect(() => registry.target(id, fileTarget)).toThrow(RangeError);
    expect(() => registry.callback(1, complete)).toThrow("callback id 1 is taken");
    expect(() => registry.target(15, fileTarget)).toThrow("target id 15 is taken");
    expect(registry.callbacksOf(63)).toBe(complete);
    expect(registry.targetOf(15)).toBe(fileTarget);
    expect([registry.callbacksOf(2), registry.targetOf(1)]).toEqual([undefined, undefined]);
  });

  test("refuses callbacks that complete nothing", () => {
    const report: Callbacks = { name: "report only", stage: () => undefined, report: () => undefined };
    expect(() => new AioRegistry().callback(1, report)).toThrow(
      expect.objectContaining({ code: "ERR_AIO_BAD_CALLBACK" }),
    );
    const local: Callbacks = { name: "local only", completeLocal: (_io, prior) => prior };
    expect(new AioRegistry().callback(1, local).callbacksOf(1)).toBe(local);
  });

  test("ends with the hash", () => {
    const registry = createFileRegistry();
    const hash = registry.freeze();
    const frozen = expect.objectContaining({ code: "ERR_AIO_BAD_STATE" }) as Error;
    expect(() => registry.callback(9, complete)).toThrow(frozen);
    expect(() => registry.target(9, fileTarget)).toThrow(frozen);
    expect(registry.freeze()).toBe(hash);
  });
});

describe("the hash", () => {
  // Aim: threads that mean the same things agree, in whatever order they registered and with functions of their own.
  test("is the same for the same names, ids and phases", () => {
    const twin: Callbacks = { name: "upper", completeShared: (_io, prior) => ({ ...prior }) };
    const one = hashOf((registry) => registry.callback(1, complete).callback(2, fileCallbacks));
    const other = hashOf((registry) => registry.callback(2, { ...fileCallbacks }).callback(1, twin));
    expect(other).toBe(one);
    expect(createFileRegistry().freeze()).toBe(createFileRegistry().freeze());
    expect(one).toBe(one | 0);
  });

  // Aim: whatever another thread could misunderstand changes the hash. Method: one difference at a time, all distinct.
  test("differs with a name, an id, a phase, a target, a target's reopening", () => {
    const hashes = [
      hashOf((registry) => registry),
      hashOf((registry) => registry.callback(1, complete)),
      hashOf((registry) => registry.callback(2, complete)),
      hashOf((registry) => registry.callback(1, { ...complete, name: "lower" })),
      hashOf((registry) => registry.callback(1, { ...complete, stage: () => undefined })),
      hashOf((registry) => registry.callback(1, { ...complete, report: () => undefined })),
      hashOf((registry) => registry.callback(1, { ...complete, completeLocal: (_io, prior) => prior })),
      hashOf((registry) => registry.callback(1, complete).target(1, fileTarget)),
      hashOf((registry) => registry.callback(1, complete).target(2, fileTarget)),
      hashOf((registry) => registry.callback(1, complete).target(1, { ...fileTarget, name: "wal" })),
      hashOf((registry) => registry.callback(1, complete).target(1, { name: "file", describe: () => "" })),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  // Aim: callbacks may be methods of a class, whose functions are on the prototype.
  test("sees phases that are inherited", () => {
    class Upper implements Callbacks {
      readonly name = "upper";
      completeShared: NonNullable<Callbacks["completeShared"]> = (_io, prior) => prior;
      stage(): void {}
    }
    const plain = { ...complete, stage: () => undefined };
    expect(hashOf((registry) => registry.callback(1, new Upper()))).toBe(
      hashOf((registry) => registry.callback(1, plain)),
    );
  });
});
