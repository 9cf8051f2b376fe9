/**
 * One direction and its two sides: order, waiting, closing, aborting, and what a wait leaves behind.
 */
import { getEventListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { channel, CHANNEL_CAPACITY_MAX, ChannelClosedError, CLOSED, DuplexError } from "../src/index.js";
import type { Receiver } from "../src/index.js";
import { isPending, settle } from "./pending.js";

// Aim: a capacity that is no bound is refused. Method: values around and far from the legal range.
test.each([0, -1, 1.5, Number.NaN, Infinity, CHANNEL_CAPACITY_MAX + 1])(
  "capacity %d is refused",
  (capacity) => {
    expect(() => channel(capacity)).toThrow(RangeError);
  },
);

// Aim: back-pressure starts at the capacity and ends with a receive. Method: three sends into two places.
test("a send waits for room and trySend does not overtake it", async () => {
  const [tx, rx] = channel<number>(2);
  await tx.send(1);
  await tx.send(2);
  const third = tx.send(3);
  expect(await isPending(third)).toBe(true);
  expect(tx.trySend(4)).toBe("full");
  expect(await rx.recv()).toBe(1);
  await third;
  expect([await rx.recv(), await rx.recv()]).toEqual([2, 3]);
});

// Aim: calls are served in their order. Method: three sends at once into one place, with the order of settling noted.
test("waiting sends are served in the order of the calls", async () => {
  const [tx, rx] = channel<number>(1);
  const settled: number[] = [];
  for (const value of [1, 2, 3]) void tx.send(value).then(() => settled.push(value));
  expect([await rx.recv(), await rx.recv(), await rx.recv()]).toEqual([1, 2, 3]);
  await settle();
  expect(settled).toEqual([1, 2, 3]);
});

// Aim: a freed slot belongs to the line. Method: trySend right after a receive that let a waiter in.
test("a slot that becomes free goes to the waiting send at once", async () => {
  const [tx, rx] = channel<number>(1);
  await tx.send(1);
  const second = tx.send(2);
  expect(rx.tryRecv()).toBe(1);
  expect(tx.trySend(9)).toBe("full");
  await second;
  expect(rx.tryRecv()).toBe(2);
  expect(rx.tryRecv()).toBeUndefined();
});

// Aim: waiting receives are served in order and tryRecv takes nothing from them. Method: two waits, then sends.
test("waiting receives are served in the order of the calls", async () => {
  const [tx, rx] = channel<string>(1);
  const first = rx.recv();
  const second = rx.recv();
  expect(tx.trySend("a")).toBe("sent");
  expect(rx.tryRecv()).toBeUndefined();
  expect(rx.size).toBe(0);
  expect(tx.trySend("b")).toBe("sent");
  expect(tx.trySend("c")).toBe("sent");
  expect([await first, await second, rx.tryRecv()]).toEqual(["a", "b", "c"]);
});

// Aim: nothing sent is lost by closing, and the end is sticky. Method: send, close, receive on and on.
test("values survive the sender's close and CLOSED stays", async () => {
  const [tx, rx] = channel<number>(1);
  await tx.send(7);
  tx.close();
  expect(tx.closed).toBe(true);
  expect(rx.closed).toBe(false);
  expect(await rx.recv()).toBe(7);
  expect(rx.closed).toBe(true);
  expect([await rx.recv(), await rx.recv(), rx.tryRecv(), rx.tryRecv()]).toEqual([
    CLOSED,
    CLOSED,
    CLOSED,
    CLOSED,
  ]);
});

// Aim: a send that waits when its side closes was asked for before, so it happens. Method: close behind two waiters.
test("sends that wait when the sender closes are still served", async () => {
  const [tx, rx] = channel<number>(1);
  const sends = [tx.send(1), tx.send(2), tx.send(3)];
  tx.close();
  await expect(tx.send(4)).rejects.toMatchObject({ code: "ERR_CHANNEL_CLOSED", value: 4 });
  expect([await rx.recv(), await rx.recv(), await rx.recv(), await rx.recv()]).toEqual([1, 2, 3, CLOSED]);
  await Promise.all(sends);
});

// Aim: a value that was not sent comes back. Method: identity of the object in the error, waiting and not waiting.
test("a rejected send carries its value", async () => {
  const [tx, rx] = channel<object>(1);
  await tx.send({});
  const value = {};
  const waiting = tx.send(value);
  rx.close();
  const error: unknown = await waiting.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(ChannelClosedError);
  expect(error).toBeInstanceOf(DuplexError);
  expect(error).toMatchObject({ name: "ChannelClosedError", code: "ERR_CHANNEL_CLOSED" });
  expect((error as ChannelClosedError<object>).value).toBe(value);
  expect(tx.trySend(value)).toBe("closed");
  expect(tx.closed).toBe(true);
  await expect(tx.send(value)).rejects.toThrow(ChannelClosedError);
});

// Aim: the receiver's close leaves nothing to take. Method: close with a value inside.
test("the receiver's close drops what is inside", async () => {
  const [tx, rx] = channel<number>(3);
  expect(tx.trySend(1)).toBe("sent");
  rx.close();
  expect(rx.size).toBe(0);
  expect(rx.tryRecv()).toBe(CLOSED);
  expect(await rx.recv()).toBe(CLOSED);
  expect(tx.trySend(2)).toBe("closed");
});

// Aim: no receive waits for ever. Method: both closes, each with two waits.
test.each(["sender", "receiver"])("waiting receives get CLOSED when the %s closes", async (who) => {
  const [tx, rx] = channel(1);
  const waits = [rx.recv(), rx.recv()];
  (who === "sender" ? tx : rx).close();
  expect(await Promise.all(waits)).toEqual([CLOSED, CLOSED]);
});

// Aim: closing and disposing can be repeated. Method: every order of the two, with a value left inside.
test("a second close or dispose does nothing", () => {
  const [tx, rx] = channel<number>(1);
  tx.trySend(1);
  tx.close();
  tx.close();
  tx[Symbol.dispose]();
  expect(rx.tryRecv()).toBe(1);
  rx[Symbol.dispose]();
  rx.close();
  expect([tx.closed, rx.closed]).toEqual([true, true]);
});

// Aim: a loop ends with the stream and leaves it alone when left. Method: one loop to the end, one with break.
test("for await ends on close, and leaving it closes nothing", async () => {
  const [tx, rx] = channel<number>(3);
  for (const value of [1, 2, 3]) tx.trySend(value);
  for await (const value of rx) {
    expect(value).toBe(1);
    break;
  }
  expect(rx.closed).toBe(false);
  expect(tx.closed).toBe(false);
  expect(await rx.recv()).toBe(2);
  tx.trySend(4);
  tx.close();
  const rest: number[] = [];
  for await (const value of rx) rest.push(value);
  expect(rest).toEqual([3, 4]);
});

// Aim: an aborted receive takes nothing. Method: abort while waiting, and a signal that is aborted beforehand.
test("an aborted receive rejects with the reason and consumes nothing", async () => {
  const [tx, rx] = channel<number>(1);
  const abort = new AbortController();
  const reason = new Error("enough");
  const aborted = rx.recv({ signal: abort.signal });
  const next = rx.recv();
  abort.abort(reason);
  await expect(aborted).rejects.toBe(reason);
  tx.trySend(1);
  expect(await next).toBe(1);
  tx.trySend(2);
  await expect(rx.recv({ signal: abort.signal })).rejects.toBe(reason);
  expect(rx.tryRecv()).toBe(2);
});

// Aim: an aborted send is never delivered and frees its place. Method: abort the middle one of three waiters.
test("an aborted send is never delivered", async () => {
  const [tx, rx] = channel<number>(1);
  const abort = new AbortController();
  const reason = { why: "not an error" };
  await tx.send(1);
  const second = tx.send(2);
  const aborted = tx.send(3, { signal: abort.signal });
  const fourth = tx.send(4);
  abort.abort(reason);
  await expect(aborted).rejects.toBe(reason);
  expect([await rx.recv(), await rx.recv(), await rx.recv()]).toEqual([1, 2, 4]);
  await Promise.all([second, fourth]);
  await expect(tx.send(5, { signal: abort.signal })).rejects.toBe(reason);
  expect(rx.tryRecv()).toBeUndefined();
});

// Aim: first, last and only waiter leave the line as cleanly as one in the middle. Method: abort each position in turn.
test.each([0, 1, 2])("the line stays whole when waiter %i of three is aborted", async (position) => {
  const [tx, rx] = channel<string>(1);
  await tx.send("inside");
  const aborts = [new AbortController(), new AbortController(), new AbortController()];
  const sends = aborts.map((abort, index) => tx.send(`waiter ${String(index)}`, { signal: abort.signal }));
  const outcomes = Promise.allSettled(sends);
  aborts[position]?.abort();
  tx.close();
  const received: unknown[] = [];
  for await (const value of rx) received.push(value);
  const waiters = ["waiter 0", "waiter 1", "waiter 2"].filter((_, index) => index !== position);
  expect(received).toEqual(["inside", ...waiters]);
  const states = (await outcomes).map((outcome) => outcome.status);
  expect(states).toEqual([0, 1, 2].map((index) => (index === position ? "rejected" : "fulfilled")));
});

// Aim: a signal for the whole process collects no listeners. Method: count them during and after every kind of end.
test("no listener stays on the signal after a wait", async () => {
  const { signal } = new AbortController();
  const listeners = (): number => getEventListeners(signal, "abort").length;
  const [tx, rx] = channel<number>(1);
  await tx.send(1, { signal });
  expect(listeners()).toBe(0);
  const send = tx.send(2, { signal });
  expect(listeners()).toBe(1);
  await rx.recv({ signal });
  await send;
  expect(listeners()).toBe(0);
  await rx.recv();
  const receives = [rx.recv({ signal }), rx.recv({ signal })];
  expect(listeners()).toBe(2);
  tx.trySend(3);
  tx.close();
  expect(await Promise.all(receives)).toEqual([3, CLOSED]);
  expect(listeners()).toBe(0);
  const abort = new AbortController();
  const aborted = channel(1)[1].recv({ signal: abort.signal });
  abort.abort();
  await expect(aborted).rejects.toMatchObject({ name: "AbortError" });
  expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
});

// Aim: an abort after the call was served changes nothing. Method: abort in the same turn as the delivery.
test("an abort after delivery is too late", async () => {
  const abort = new AbortController();
  const [tx, rx] = channel<number>(1);
  const received = rx.recv({ signal: abort.signal });
  tx.trySend(1);
  abort.abort();
  expect(await received).toBe(1);
});

// Aim: every value is a payload. Method: the values that code likes to confuse with "nothing".
test("falsy payloads arrive unchanged", async () => {
  const payloads = [undefined, null, 0, false, "", Number.NaN];
  const [tx, rx] = channel<unknown>(2);
  for (const payload of payloads) {
    await tx.send(payload);
    expect(rx.size).toBe(1);
    expect(Object.is(rx.tryRecv(), payload)).toBe(true);
    await tx.send(payload);
    expect(Object.is(await rx.recv(), payload)).toBe(true);
    const waiting = rx.recv();
    await tx.send(payload);
    expect(Object.is(await waiting, payload)).toBe(true);
  }
});

// Aim: a send without a wait costs no promise. Method: identity of the results, also across channels.
test("sends that need no wait share one promise", async () => {
  const [tx, rx] = channel<number>(2);
  const first = tx.send(1);
  expect(tx.send(2)).toBe(first);
  const waiting = tx.send(3);
  expect(waiting).not.toBe(first);
  rx.close();
  await expect(waiting).rejects.toThrow(ChannelClosedError);
  const [other] = channel<number>(1);
  expect(other.send(1)).toBe(first);
  expect(rx.recv()).toBe(rx.recv());
});

// Aim: what was received can be collected while the channel lives. Method: a forced collection and weak references.
test("the channel forgets what was received", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const [tx, rx] = channel<object>(8);
  const references = passObjects(8, (value) => tx.trySend(value), rx);
  await settle();
  collect();
  expect(references.filter((reference) => reference.deref() !== undefined)).toEqual([]);
  expect(tx.trySend({})).toBe("sent");
});

function passObjects(
  count: number,
  send: (value: object) => unknown,
  rx: Receiver<object>,
): WeakRef<object>[] {
  const references: WeakRef<object>[] = [];
  for (let index = 0; index < count; index++) {
    const value = { index };
    references.push(new WeakRef(value));
    send(value);
  }
  while (rx.size > 0) rx.tryRecv();
  return references;
}
