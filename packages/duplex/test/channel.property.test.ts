/**
 * The channel against the dumbest correct thing: three arrays, one for what is inside and one for each line.
 * Steps follow each other in one turn of the event loop unless a step lets promises settle, so that races between
 * a delivery and an abort or a close are among what is tried.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { channel, ChannelClosedError, CLOSED } from "../src/index.js";
import type { CallOptions, Receiver, Sender } from "../src/index.js";
import { Ring } from "../src/ring.js";
import { settle } from "./pending.js";

interface Model {
  readonly capacity: number;
  inside: number[];
  /** Ids of waiting sends, which are also their values, and of waiting receives. */
  senders: number[];
  receivers: number[];
  sendingEnded: boolean;
  receivingEnded: boolean;
  calls: number;
  readonly outcomes: Map<number, unknown>;
}

interface Real {
  readonly tx: Sender<number>;
  readonly rx: Receiver<number>;
  readonly aborts: Map<number, AbortController>;
  readonly outcomes: Map<number, unknown>;
}

type Step = fc.AsyncCommand<Model, Real>;

/** What a settled promise comes to, in values that compare well. */
function note(real: Real, id: number, promise: Promise<unknown>): void {
  promise.then(
    (value) => real.outcomes.set(id, value),
    (error: unknown) => {
      real.outcomes.set(id, error instanceof ChannelClosedError ? `not sent ${String(error.value)}` : error);
    },
  );
}

function optionsFor(real: Real, id: number): CallOptions {
  const abort = new AbortController();
  real.aborts.set(id, abort);
  return { signal: abort.signal };
}

function modelSend(model: Model, value: number): "sent" | "full" | "closed" {
  if (model.sendingEnded || model.receivingEnded) return "closed";
  const receiver = model.receivers.shift();
  if (receiver !== undefined) {
    model.outcomes.set(receiver, value);
    return "sent";
  }
  if (model.inside.length === model.capacity) return "full";
  model.inside.push(value);
  return "sent";
}

function modelTake(model: Model): number | typeof CLOSED | undefined {
  const value = model.inside.shift();
  if (value === undefined) return model.sendingEnded || model.receivingEnded ? CLOSED : undefined;
  const sender = model.senders.shift();
  if (sender !== undefined) {
    model.inside.push(sender);
    model.outcomes.set(sender, undefined);
  }
  return value;
}

function releaseReceivers(model: Model): void {
  for (const receiver of model.receivers) model.outcomes.set(receiver, CLOSED);
  model.receivers = [];
}

function step(
  name: string,
  check: (model: Model) => boolean,
  run: (model: Model, real: Real) => void | Promise<void>,
): Step {
  return {
    check,
    toString: () => name,
    run: async (model, real) => {
      await run(model, real);
      expect(real.rx.size).toBe(model.inside.length);
      expect(real.tx.closed).toBe(model.sendingEnded || model.receivingEnded);
      expect(real.rx.closed).toBe((model.sendingEnded || model.receivingEnded) && model.inside.length === 0);
    },
  };
}

const always = (): boolean => true;

const send = step("send", always, (model, real) => {
  const id = (model.calls += 1);
  const expected = modelSend(model, id);
  if (expected === "sent") model.outcomes.set(id, undefined);
  else if (expected === "closed") model.outcomes.set(id, `not sent ${String(id)}`);
  else model.senders.push(id);
  note(real, id, real.tx.send(id, optionsFor(real, id)));
});

const trySend = step("trySend", always, (model, real) => {
  const id = (model.calls += 1);
  const expected = modelSend(model, id);
  expect(real.tx.trySend(id)).toBe(expected);
});

const recv = step("recv", always, (model, real) => {
  const id = (model.calls += 1);
  const value = modelTake(model);
  if (value === undefined) model.receivers.push(id);
  else model.outcomes.set(id, value);
  note(real, id, real.rx.recv(optionsFor(real, id)));
});

const tryRecv = step("tryRecv", always, (model, real) => {
  expect(real.rx.tryRecv()).toBe(modelTake(model));
});

const closeSender = step("close sender", always, (model, real) => {
  model.sendingEnded = true;
  releaseReceivers(model);
  real.tx.close();
});

const closeReceiver = step("close receiver", always, (model, real) => {
  model.receivingEnded = true;
  model.inside = [];
  releaseReceivers(model);
  for (const sender of model.senders) model.outcomes.set(sender, `not sent ${String(sender)}`);
  model.senders = [];
  real.rx.close();
});

const settled = step("settle", always, async (model, real) => {
  await settle();
  expect(real.outcomes).toEqual(model.outcomes);
});

function abort(line: "senders" | "receivers", position: number): Step {
  return step(
    `abort ${line} ${String(position)}`,
    (model) => model[line].length > 0,
    (model, real) => {
      const [id] = model[line].splice(position % model[line].length, 1);
      if (id === undefined) throw new Error("the line is not empty");
      model.outcomes.set(id, `aborted ${String(id)}`);
      real.aborts.get(id)?.abort(`aborted ${String(id)}`);
    },
  );
}

// Aim: every rule of order and closing at once. Method: random steps on the channel and on arrays, until they differ.
test("a channel agrees with three arrays", async () => {
  const rarely = (arbitrary: fc.Arbitrary<Step>, rest: Step): fc.Arbitrary<Step> =>
    fc.oneof({ weight: 1, arbitrary }, { weight: 24, arbitrary: fc.constant(rest) });
  const steps = fc.commands(
    [
      fc.constantFrom(send, trySend),
      fc.constantFrom(recv, tryRecv),
      fc.constant(send),
      fc.constant(recv),
      fc.nat(7).map((position) => abort("senders", position)),
      fc.nat(7).map((position) => abort("receivers", position)),
      fc.constant(settled),
      rarely(fc.constantFrom(closeSender, closeReceiver), send),
    ],
    { maxCommands: 120, size: "max" },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 8 }), steps, async (capacity, commands) => {
      const [tx, rx] = channel<number>(capacity);
      const real: Real = { tx, rx, aborts: new Map(), outcomes: new Map() };
      const model: Model = {
        capacity,
        inside: [],
        senders: [],
        receivers: [],
        sendingEnded: false,
        receivingEnded: false,
        calls: 0,
        outcomes: new Map(),
      };
      await fc.asyncModelRun(() => ({ model, real }), commands);
      await settled.run(model, real);
      await closeReceiver.run(model, real);
      await settled.run(model, real);
    }),
    { numRuns: 300 },
  );
});

// Aim: the circular array keeps order while it wraps and grows. Method: random pushes and shifts against an array.
test("the ring agrees with an array and has at most twice the slots it needed", () => {
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(20)), { maxLength: 60, size: "max" });
  fc.assert(
    fc.property(steps, (bursts) => {
      const ring = new Ring<number>();
      const model: number[] = [];
      let longest = 0;
      let next = 0;
      for (const [push, count] of bursts) {
        for (let index = 0; index < count; index++) {
          if (push) {
            ring.push(next);
            model.push(next);
            next += 1;
          } else if (model.length > 0) expect(ring.shift()).toBe(model.shift());
        }
        longest = Math.max(longest, model.length);
        expect(ring.size).toBe(model.length);
        expect(ring.slotCount).toBeLessThanOrEqual(Math.max(4, 2 * longest));
      }
      while (model.length > 0) expect(ring.shift()).toBe(model.shift());
      expect(() => ring.shift()).toThrow("empty queue");
    }),
  );
});
