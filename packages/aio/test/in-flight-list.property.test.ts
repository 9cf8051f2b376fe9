/** The list of I/O in flight against an array. */
import fc from "fast-check";
import { expect, test } from "vitest";

import { InFlightList } from "../src/in-flight-list.js";

const CAPACITY = 12;

/** Everything the list says, front to back. */
function contents(list: InFlightList): number[] {
  const positions: number[] = [];
  for (let at = list.oldest; at !== -1; at = list.after(at)) positions.push(at);
  return positions;
}

// Aim: order of submission survives removals anywhere. Method: random toggles of positions on list and array.
test("positions stay in the order of their submission, whichever leaves", () => {
  const steps = fc.array(fc.nat(CAPACITY - 1), { maxLength: 300, size: "max" });
  fc.assert(
    fc.property(steps, (steps) => {
      const list = new InFlightList(CAPACITY);
      const model: number[] = [];
      for (const position of steps) {
        const at = model.indexOf(position);
        if (at < 0) {
          model.push(position);
          list.push(position);
        } else {
          model.splice(at, 1);
          list.remove(position);
        }
        expect(contents(list)).toEqual(model);
        expect(list.size).toBe(model.length);
        expect(list.oldest).toBe(model[0] ?? -1);
      }
    }),
  );
});
