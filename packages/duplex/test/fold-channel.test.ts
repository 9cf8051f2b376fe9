/** The merging channel: when it folds, when it refuses, and that nothing is lost, doubled or reordered by either. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ChannelClosedError, CLOSED, foldChannel } from "../src/index.js";
import type { FoldResult } from "../src/index.js";
import { isPending, settle } from "./pending.js";

const add = (acc: number, next: number): FoldResult<number> => ({ folded: true, acc: acc + next });
const refuse = (): FoldResult<number> => ({ folded: false });

// Aim: merging happens only in an occupied slot. Method: count the calls of the fold function.
test("values are merged into the one that was not received yet", async () => {
  let calls = 0;
  const [tx, rx] = foldChannel<number>((acc, next) => {
    calls += 1;
    return add(acc, next);
  });
  await tx.send(1);
  expect(calls).toBe(0);
  await tx.send(2);
  expect([calls, rx.size]).toEqual([1, 1]);
  expect(await rx.recv()).toBe(3);
  expect(rx.size).toBe(0);
  await tx.send(4);
  expect(calls).toBe(1);
  expect(rx.tryRecv()).toBe(4);
});

// Aim: a refused value waits for the slot and is not overtaken. Method: refuse always, three sends.
test("a refused send waits until the slot is taken", async () => {
  const [tx, rx] = foldChannel<number>(refuse);
  await tx.send(1);
  const second = tx.send(2);
  const third = tx.send(3);
  expect(await isPending(second)).toBe(true);
  expect(tx.trySend(9)).toBe("full");
  expect(await rx.recv()).toBe(1);
  await second;
  expect(await isPending(third)).toBe(true);
  expect([await rx.recv(), await rx.recv()]).toEqual([2, 3]);
  await third;
});

// Aim: the line is folded too when it moves up. Method: refuse the first value only.
test("waiting values are merged with each other when the slot is taken", async () => {
  const [tx, rx] = foldChannel<number>((acc, next) => (acc === 1 ? { folded: false } : add(acc, next)));
  const sends = [tx.send(1), tx.send(2), tx.send(3)];
  expect(rx.tryRecv()).toBe(1);
  expect(rx.tryRecv()).toBe(5);
  await Promise.all(sends);
});

// Aim: a receiver that waits gets the batch, not its first part. Method: two sends in one turn.
test("values sent before a waiting receiver runs are merged", async () => {
  const [tx, rx] = foldChannel(add);
  const received = rx.recv();
  const later = rx.recv();
  expect(tx.trySend(1)).toBe("sent");
  expect(rx.tryRecv()).toBeUndefined();
  expect(tx.trySend(2)).toBe("sent");
  expect(await received).toBe(3);
  expect(await isPending(later)).toBe(true);
  tx.trySend(4);
  expect(await later).toBe(4);
});

// Aim: an aborted receive leaves the value, also between its arrival and the delivery. Method: abort in the same turn.
test("an abort before delivery leaves the value for the next receive", async () => {
  const [tx, rx] = foldChannel(add);
  const abort = new AbortController();
  const aborted = rx.recv({ signal: abort.signal });
  tx.trySend(1);
  abort.abort("enough");
  await expect(aborted).rejects.toBe("enough");
  expect(await rx.recv()).toBe(1);
});

// Aim: the sender's close loses nothing. Method: close with a value in the slot, with and without a waiting receiver.
test("data survives the sender's close", async () => {
  const [tx, rx] = foldChannel(add);
  await tx.send(1);
  tx.close();
  expect([await rx.recv(), await rx.recv(), rx.tryRecv()]).toEqual([1, CLOSED, CLOSED]);
  const [tx2, rx2] = foldChannel(add);
  const waits = [rx2.recv(), rx2.recv()];
  tx2.trySend(2);
  tx2.close();
  expect(tx2.trySend(3)).toBe("closed");
  expect(await Promise.all(waits)).toEqual([2, CLOSED]);
  const [tx3, rx3] = foldChannel(add);
  const wait = rx3.recv();
  tx3[Symbol.dispose]();
  expect(await wait).toBe(CLOSED);
});

// Aim: a waiting sender hears that the receiver has gone and gets its value back. Method: identity in the error.
test("the receiver's close fails waiting sends with their values", async () => {
  const [tx, rx] = foldChannel<object>(() => ({ folded: false }));
  const value = {};
  await tx.send({});
  const waiting = tx.send(value);
  rx.close();
  const error: unknown = await waiting.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(ChannelClosedError);
  expect((error as ChannelClosedError<object>).value).toBe(value);
  expect([tx.trySend(value), rx.tryRecv(), rx.size, tx.closed, rx.closed]).toEqual([
    "closed",
    CLOSED,
    0,
    true,
    true,
  ]);
  rx[Symbol.dispose]();
});

// Aim: a failing fold function hurts its own send only. Method: throw for one value, directly and from the line.
test("what the fold function throws is the outcome of that send", async () => {
  const failure = new Error("cannot merge");
  const [tx, rx] = foldChannel<number>((acc, next) => {
    if (next === 13) throw failure;
    return acc === 1 ? { folded: false } : add(acc, next);
  });
  await tx.send(1);
  await expect(tx.send(13)).rejects.toBe(failure);
  expect(() => tx.trySend(13)).toThrow(failure);
  const line = [tx.send(2), tx.send(13), tx.send(3)];
  const outcomes = Promise.allSettled(line);
  expect(rx.tryRecv()).toBe(1);
  expect(rx.tryRecv()).toBe(5);
  expect((await outcomes).map((outcome) => outcome.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

// Aim: no value is lost, doubled or reordered. Method: random steps with lists as values and a limit on their length;
// what was received, put end to end, must be what was accepted, in the order of the sends.
test("what is received is what was accepted, in order", async () => {
  const steps = fc.array(
    fc.constantFrom(
      "send",
      "send",
      "send",
      "trySend",
      "recv",
      "recv",
      "tryRecv",
      "abort send",
      "abort recv",
      "settle",
    ),
    {
      maxLength: 80,
      size: "max",
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (limit, names) => {
      const [tx, rx] = foldChannel<number[]>((acc, next) =>
        acc.length + next.length > limit ? { folded: false } : { folded: true, acc: [...acc, ...next] },
      );
      // Values differ in length, so that a short one could slip past a long one that waits.
      const valueOf = (call: number): number[] => Array<number>(1 + (call % limit)).fill(call);
      const accepted = new Set<number>();
      const received = new Map<number, number[]>();
      const aborts = { send: [] as AbortController[], recv: [] as AbortController[] };
      const newAbort = (kind: "send" | "recv"): { signal: AbortSignal } => {
        const abort = new AbortController();
        aborts[kind].push(abort);
        return { signal: abort.signal };
      };
      const keep = (call: number, value: number[] | typeof CLOSED | undefined): void => {
        if (value !== undefined && value !== CLOSED) received.set(call, value);
      };
      const run = async (call: number, name: string): Promise<void> => {
        if (name === "send")
          tx.send(valueOf(call), newAbort("send")).then(
            () => accepted.add(call),
            () => {},
          );
        else if (name === "trySend") {
          if (tx.trySend(valueOf(call)) === "sent") accepted.add(call);
        } else if (name === "recv")
          rx.recv(newAbort("recv")).then(
            (value) => keep(call, value),
            () => {},
          );
        else if (name === "tryRecv") keep(call, rx.tryRecv());
        else if (name === "abort send") aborts.send.pop()?.abort();
        else if (name === "abort recv") aborts.recv.shift()?.abort();
        else await settle();
        expect(rx.size).toBeLessThanOrEqual(1);
      };
      for (const [call, name] of names.entries()) await run(call, name);
      tx.close();
      await settle();
      for (let call = names.length; ; call++) {
        const value = await rx.recv();
        if (value === CLOSED) break;
        keep(call, value);
      }
      await settle();
      const inOrder = [...received].sort(([a], [b]) => a - b).flatMap(([, values]) => values);
      expect(inOrder).toEqual([...accepted].sort((a, b) => a - b).flatMap(valueOf));
      for (const values of received.values()) expect(values.length).toBeLessThanOrEqual(limit);
    }),
    { numRuns: 300 },
  );
});
