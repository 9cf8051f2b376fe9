import { CLOSED } from "@millrace/duplex";
import type { Lsn } from "@millrace/lsn";
import type { AppendRequest } from "@millrace/wal-protocol";
import fc from "fast-check";
import { expect, test } from "vitest";

import { ProposerQueue } from "../src/proposer-queue.js";

function append(bytes: number, position = 0): AppendRequest {
  const beginLsn = BigInt(position) as Lsn;
  return {
    type: "append-request",
    generation: 0,
    term: 1n,
    beginLsn,
    endLsn: (beginLsn + BigInt(bytes)) as Lsn,
    commitLsn: 0n as Lsn,
    truncateLsn: 0n as Lsn,
    walData: new Uint8Array(bytes),
  };
}

// Aim: the message bound holds. Method: fill to the brim, take one, one more fits.
test("a queue takes as many messages as it has slots", () => {
  const queue = new ProposerQueue(4);
  for (let index = 0; index < 4; index += 1) expect(queue.trySend(append(0))).toBe("sent");
  expect(queue.trySend(append(0))).toBe("full");
  queue.tryTake();
  expect(queue.trySend(append(0))).toBe("sent");
});

// Aim: the byte bound holds, also against one message larger than all of it. Method: sizes around the bound.
test("bytes are bounded and a message above the bound passes alone", async () => {
  const queue = new ProposerQueue(100, 10_000);
  expect(queue.trySend(append(6000))).toBe("sent");
  expect(queue.trySend(append(6000))).toBe("full");
  const waiting = queue.send(append(50_000));
  queue.tryTake(); // in the consumer's hands: still counted
  expect(queue.trySend(append(6000))).toBe("full");
  expect(queue.tryTake()).toBeUndefined(); // given back
  expect(await waiting).toBe(true);
  expect(queue.trySend(append(0))).toBe("full");
  expect(await queue.take()).toMatchObject({ walData: { byteLength: 50_000 } });
});

// Aim: a producer that waits for bytes and a consumer that waits for messages cannot wait for each other. Method: the
// consumer goes straight to `take` while the producer is waiting.
test("a consumer that waits gives its bytes back first", async () => {
  const queue = new ProposerQueue(100, 1000);
  queue.trySend(append(900));
  await queue.take();
  const sending = queue.send(append(900));
  const taking = queue.take();
  expect(await sending).toBe(true);
  expect(await taking).toMatchObject({ type: "append-request" });
});

// Aim: the end travels both ways. Method: close drains and then gives CLOSED; abandon turns a waiting producer away.
test("closing lets the consumer drain, abandoning turns the producer away", async () => {
  const closing = new ProposerQueue(4);
  closing.trySend(append(1));
  closing.close();
  expect(closing.trySend(append(1))).toBe("closed");
  expect(closing.tryTake()).toMatchObject({ type: "append-request" });
  expect(closing.tryTake()).toBe(CLOSED);
  expect(await closing.take()).toBe(CLOSED);

  const abandoned = new ProposerQueue(1);
  abandoned.trySend(append(1));
  const waiting = abandoned.send(append(1));
  abandoned.abandon();
  expect(await waiting).toBe(false);
  expect(abandoned.trySend(append(1))).toBe("closed");
});

// Aim: whatever the interleaving, everything sent is taken once, in order, within both bounds. Method: a producer and
// a consumer that yield at random; at each step the bounds are checked.
test("a producer and a consumer at any pace move every message in order and within the bounds", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ bytes: fc.nat(600), pause: fc.nat(2), rest: fc.nat(2) }), {
        maxLength: 200,
        size: "max",
      }),
      fc.integer({ min: 1, max: 8 }),
      async (steps, capacity) => {
        const bytesMax = 2000;
        const queue = new ProposerQueue(capacity, bytesMax);
        const producer = async (): Promise<void> => {
          for (const [index, { bytes, pause }] of steps.entries()) {
            for (let turn = 0; turn < pause; turn += 1) await Promise.resolve();
            const message = append(bytes, index);
            if (queue.trySend(message) === "full") expect(await queue.send(message)).toBe(true);
            expect(queue.size).toBeLessThanOrEqual(capacity);
            expect(queue.bytes).toBeLessThanOrEqual(bytesMax);
          }
          queue.close();
        };
        const taken: bigint[] = [];
        const consumer = async (): Promise<void> => {
          for (let step = 0; ; step += 1) {
            const message = queue.tryTake() ?? (await queue.take());
            if (message === CLOSED) return;
            if (message.type === "append-request") taken.push(message.beginLsn);
            const rest = steps[step % steps.length]?.rest ?? 0;
            for (let turn = 0; turn < rest; turn += 1) await Promise.resolve();
          }
        };
        await Promise.all([producer(), consumer()]);
        expect(taken).toEqual(steps.map((_, index) => BigInt(index)));
        expect(queue.bytes).toBe(0);
      },
    ),
  );
});
