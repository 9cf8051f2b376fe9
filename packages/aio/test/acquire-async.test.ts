/** Taking a handle on the event loop: several at a time, each in its turn. */
import { expect, test } from "vitest";

import type { WaitRef } from "../src/wait-ref.js";
import { METHODS, World } from "./fixture.js";

// Aim: many flows of one thread can share few handles. Method: more of them than handles, all waiting at once; each uses
// its handle one step after it got it, as `await` makes it.
test.each([...METHODS, "manual" as const])(
  "flows that wait for a handle get one in their order, with method %s",
  async (method) => {
    await using world = new World(method, { concurrency: 2 }, { mayBlock: false });
    const { backend } = world;
    using scope = backend.openScope();
    const order: number[] = [];
    const flow = async (block: number): Promise<void> => {
      const handle = await backend.acquireAsync(scope);
      order.push(block);
      const ref: WaitRef = handle.ref();
      world.read(handle, block, block);
      if (method === "manual") queueMicrotask(() => void world.controller.completeAll());
      await backend.waitAsync(ref);
    };
    const blocks = Array.from({ length: 12 }, (_, block) => block);
    await Promise.all(blocks.map(flow));
    expect(order).toEqual(blocks);
    expect(blocks.map((block) => world.words(block)[0])).toEqual(blocks);
  },
);

test("a flow whose turn it is gets the handle that another one releases", async () => {
  await using world = new World("manual", { concurrency: 1 }, { mayBlock: false });
  const { backend } = world;
  using scope = backend.openScope();
  const first = await backend.acquireAsync(scope);
  const second = backend.acquireAsync(scope);
  first.release();
  (await second).release();
  expect(backend.idleCount).toBe(1);
});

test("a flow that waits is refused when its scope ends, and does not block those behind it", async () => {
  await using world = new World("manual", { concurrency: 1 }, { mayBlock: false });
  const { backend } = world;
  using scope = backend.openScope();
  const busy = await backend.acquireAsync(scope);
  world.read(busy, 0, 0);
  const ended = backend.openScope();
  const refused = backend.acquireAsync(ended);
  const next = backend.acquireAsync(scope);
  ended.end();
  world.controller.completeAll();
  await expect(refused).rejects.toThrow(expect.objectContaining({ code: "ERR_AIO_CLOSED" }) as Error);
  (await next).release();
});
