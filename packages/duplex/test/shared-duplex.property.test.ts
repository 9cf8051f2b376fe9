/**
 * A shared duplex against two arrays: random calls on both ends in one thread, with counters that wrap on the way.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { attachSharedDuplex, CLOSED, createSharedDuplex } from "../src/index.js";
import type { SharedDuplexEnd } from "../src/index.js";
import { texts } from "./shared-codecs.js";

const SLOTS = 8;
const SLOT_BYTES = 5;

/** What a direction should hold. */
interface Model {
  readonly queue: string[];
  isSendingOver: boolean;
  isReceivingOver: boolean;
}

type End = SharedDuplexEnd<string, string>;
type Step = (sender: End, receiver: End, model: Model) => void;

const value = fc.string({ maxLength: SLOT_BYTES, unit: "binary-ascii" });

function room({ queue, isSendingOver, isReceivingOver }: Model): number | undefined {
  return isSendingOver || isReceivingOver ? undefined : SLOTS - queue.length;
}

/** What `tryRecv` should say. */
function next(model: Model): string | typeof CLOSED | undefined {
  if (model.isReceivingOver) return CLOSED;
  return model.queue.shift() ?? (model.isSendingOver ? CLOSED : undefined);
}

const send = value.map((text): Step => (sender, _receiver, model) => {
  const free = room(model);
  expect(sender.trySend(text)).toBe(free === undefined ? "closed" : free === 0 ? "full" : "sent");
  if (free !== undefined && free > 0) model.queue.push(text);
});

const sendMany = fc
  .record({ batch: fc.array(value, { maxLength: 20, size: "max" }), from: fc.nat(3) })
  .map(({ batch, from }): Step => (sender, _receiver, model) => {
    const sent = Math.min(Math.max(0, batch.length - from), room(model) ?? 0);
    expect(sender.trySendMany(batch, from)).toBe(sent);
    model.queue.push(...batch.slice(from, from + sent));
  });

const receive = fc.constantFrom<Step>(
  (_sender, receiver, model) => expect(receiver.rx.tryRecv()).toBe(next(model)),
  (_sender, receiver, model) => expect(receiver.recvSync(0)).toBe(next(model) ?? "timeout"),
);

const receiveMany = fc.nat(10).map((max): Step => (_sender, receiver, model) => {
  const expected = model.isReceivingOver ? [] : model.queue.splice(0, max);
  const seen: string[] = [];
  expect(receiver.tryRecvMany(max, (text) => seen.push(text))).toBe(expected.length);
  expect(seen).toEqual(expected);
});

const closing = fc.constantFrom<Step>(
  (sender, _receiver, model) => {
    sender.tx.close();
    model.isSendingOver = true;
  },
  (_sender, receiver, model) => {
    receiver.rx.close();
    model.isReceivingOver = true;
    model.queue.length = 0;
  },
);

const step = fc.oneof(
  { weight: 40, arbitrary: send },
  { weight: 20, arbitrary: sendMany },
  { weight: 30, arbitrary: receive },
  { weight: 20, arbitrary: receiveMany },
  { weight: 1, arbitrary: closing },
);

const counters = fc.oneof(
  fc.nat(3 * SLOTS).map((below) => 2 ** 31 - 1 - below),
  fc.nat(3 * SLOTS).map((below) => -1 - below),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);

// Aim: each direction is a bounded queue, whatever the counters are. Method: the same calls on the duplex and on two arrays.
test("a shared duplex agrees with two bounded arrays across the counters' wrap", () => {
  const steps = fc.array(fc.tuple(step, fc.boolean()), { maxLength: 200, size: "max" });
  const property = fc.property(counters, steps, (initialCounter, calls) => {
    const handle = createSharedDuplex({ slots: SLOTS, slotBytes: SLOT_BYTES, initialCounter });
    const ends = [
      attachSharedDuplex(handle, 0, { codecs: texts }),
      attachSharedDuplex(handle, 1, { codecs: texts }),
    ] as const;
    const models = [0, 1].map((): Model => ({ queue: [], isSendingOver: false, isReceivingOver: false }));
    for (const [call, isForward] of calls) {
      const [sender, receiver] = isForward ? ends : [ends[1], ends[0]];
      const model = models[isForward ? 0 : 1] as Model;
      call(sender, receiver, model);
      expect(receiver.rx.size).toBe(model.queue.length);
      expect(sender.tx.closed).toBe(room(model) === undefined);
      expect(receiver.rx.closed).toBe(
        model.isReceivingOver || (model.isSendingOver && model.queue.length === 0),
      );
    }
  });
  fc.assert(property, { numRuns: 100 });
});
