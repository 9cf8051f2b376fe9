/** Buffers against plain arrays: contents, reference counts and what is live, over random lives. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { AlignedArena } from "../src/index.js";
import type { IoBuffer, IoBufferMut } from "../src/index.js";
import { noise } from "./noise.js";

const CAPACITY = 40;

interface Step {
  readonly do: "append" | "fill" | "truncate" | "clear" | "move" | "lend";
  /** For the first three. */
  readonly count: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom("append", "append", "fill", "truncate", "clear", "move", "lend"),
  count: fc.nat(CAPACITY),
});

/** One step on both; what must throw leaves both as they were. */
function apply(buffer: IoBufferMut, model: number[], step: Step, seed: number): IoBufferMut {
  if (step.do === "append" || step.do === "fill") {
    const more =
      step.do === "append" ? [...noise(step.count, seed)] : Array.from({ length: step.count }, () => 9);
    const write = (): void => {
      if (step.do === "append") buffer.append(Uint8Array.from(more));
      else buffer.fill(9, step.count);
    };
    if (model.length + step.count > CAPACITY) {
      expect(write).toThrow(expect.objectContaining({ code: "ERR_BUFFER_CAPACITY" }));
    } else {
      write();
      model.push(...more);
    }
    return buffer;
  }
  if (step.do === "move") return buffer.move();
  if (step.do === "lend") return buffer.lend().takeBack();
  if (step.do === "clear") buffer.clear();
  else buffer.truncate(step.count);
  model.length = Math.min(model.length, step.do === "clear" ? 0 : step.count);
  return buffer;
}

// Aim: contents are those of a bounded array. Method: random steps on both, with a neighbour that must not change.
test("a buffer agrees with a bounded array", () => {
  const arena = new AlignedArena({ bytes: 4096, alignment: 512 });
  using neighbour = arena.copyFrom(noise(512, 3));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      let buffer = arena.alloc(CAPACITY);
      const model: number[] = [];
      for (const [index, step] of steps.entries()) {
        buffer = apply(buffer, model, step, index + 1);
        expect([...buffer.view()]).toEqual(model);
        expect([buffer.length, buffer.spare]).toEqual([model.length, CAPACITY - model.length]);
      }
      const frozen = buffer.freeze();
      expect(frozen.equals(Uint8Array.from(model))).toBe(true);
      frozen[Symbol.dispose]();
      expect(arena.stats.liveBuffers).toBe(1);
    }),
  );
  expect(Buffer.compare(neighbour.view(), noise(512, 3))).toBe(0);
});

// Aim: the memory comes back with the last handle, not before and not twice. Method: random shares, slices and ends,
// counted in an array; the buffer becomes mutable exactly when one is left.
test("references are counted", () => {
  const arena = new AlignedArena({ bytes: 4096, alignment: 512 });
  const steps = fc.array(fc.tuple(fc.constantFrom("clone", "slice", "dispose", "intoMut"), fc.nat()), {
    maxLength: 60,
    size: "max",
  });
  fc.assert(
    fc.property(steps, (steps) => {
      const handles: IoBuffer[] = [arena.copyFrom(noise(100)).freeze()];
      for (const [what, pick] of steps) {
        const index = pick % handles.length;
        const handle = handles[index];
        if (handle === undefined) break;
        if (what === "clone") handles.push(handle.clone());
        else if (what === "slice") handles.push(handle.slice(0, handle.length >> 1));
        else if (what === "dispose") {
          handles.splice(index, 1);
          handle[Symbol.dispose]();
          handle[Symbol.dispose]();
        } else {
          const result = handle.tryIntoMut();
          expect(result.ok).toBe(handles.length === 1);
          if (result.ok) handles[0] = result.buffer.freeze();
        }
        for (const { refs } of handles) expect(refs).toBe(handles.length);
        expect(arena.stats.liveBuffers).toBe(handles.length === 0 ? 0 : 1);
      }
      for (const handle of handles) handle[Symbol.dispose]();
      expect(arena.stats.inUse).toBe(0);
    }),
  );
});
