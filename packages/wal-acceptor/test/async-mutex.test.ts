import fc from "fast-check";
import { expect, test } from "vitest";

import { AsyncMutex } from "../src/async-mutex.js";

// Aim: holders never overlap and come in the order of asking. Method: random numbers of turns inside each body, some
// of which throw, and newcomers that ask while others hold.
test("bodies run one at a time, in order, also past those that throw", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ turns: fc.nat(3), fails: fc.boolean(), nested: fc.boolean() }), {
        minLength: 1,
        maxLength: 200,
        size: "max",
      }),
      async (bodies) => {
        const mutex = new AsyncMutex();
        const order: number[] = [];
        let inside = 0;
        let asked = 0;
        const late: Promise<unknown>[] = [];
        const enter = async (body: (typeof bodies)[number]): Promise<void> => {
          const ticket = asked;
          asked += 1;
          await mutex.run(async () => {
            inside += 1;
            expect(inside).toBe(1);
            order.push(ticket);
            if (body.nested) late.push(enter({ ...body, nested: false }).catch(() => undefined));
            for (let turn = 0; turn < body.turns; turn += 1) await Promise.resolve();
            inside -= 1;
            if (body.fails) throw new Error("on purpose");
          });
        };
        const results = await Promise.allSettled(bodies.map(enter));
        await Promise.all(late);
        expect(order).toEqual(order.map((_, index) => index));
        expect(results.map((result) => result.status === "rejected")).toEqual(
          bodies.map((body) => body.fails),
        );
        expect(mutex.held).toBe(false);
        expect(mutex.waiting).toBe(0);
      },
    ),
  );
});

// Aim: a free mutex costs no turn of the event loop. Method: the body's effect is there when `run` has returned.
test("a free mutex runs its body at once and gives its result", async () => {
  const mutex = new AsyncMutex();
  let ran = false;
  const running = mutex.run(() => {
    ran = true;
    return 7;
  });
  expect(ran).toBe(true);
  expect(await running).toBe(7);
});
