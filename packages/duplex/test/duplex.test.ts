/** Two ends: wiring, independence of the directions, half-close, and a long exchange within the bound. */
import { expect, test } from "vitest";
import { CLOSED, duplex } from "../src/index.js";
import type { DuplexEnd } from "../src/index.js";

// Aim: what one end sends the other receives. Method: one value each way, then one direction full.
test("the ends are wired crosswise and do not block each other", async () => {
  const [a, b] = duplex<number, string>(1);
  await a.send(1);
  expect(await b.recv()).toBe(1);
  await b.send("x");
  expect(await a.recv()).toBe("x");
  expect(a.trySend(2)).toBe("sent");
  expect(a.trySend(3)).toBe("full");
  expect(b.trySend("y")).toBe("sent");
  expect(a.rx.tryRecv()).toBe("y");
});

// Aim: bad capacities are refused for both directions alike. Method: the same list as for one direction.
test.each([0, -1, 1.5, Number.NaN])("capacity %d is refused", (capacity) => {
  expect(() => duplex(capacity)).toThrow(RangeError);
});

// Aim: an end can finish sending and go on receiving. Method: close one half, use the other.
test("half-close ends one direction only", async () => {
  const [a, b] = duplex<number, number>(1);
  a.tx.close();
  expect(await b.recv()).toBe(CLOSED);
  await b.send(5);
  expect(await a.recv()).toBe(5);
});

// Aim: closing an end closes both its halves, once. Method: close and dispose in both orders, seen from both ends.
test("close and dispose close both halves and can be repeated", async () => {
  for (const close of [
    (end: DuplexEnd<number, number>) => end.close(),
    (end: DuplexEnd<number, number>) => end[Symbol.dispose](),
  ]) {
    const [a, b] = duplex<number>(2);
    await a.send(1);
    await b.send(2);
    close(a);
    a.close();
    a[Symbol.dispose]();
    expect([a.tx.closed, a.rx.closed, b.tx.closed]).toEqual([true, true, true]);
    expect(await b.recv()).toBe(1);
    expect(await b.recv()).toBe(CLOSED);
    expect(await a.recv()).toBe(CLOSED);
    await expect(b.send(3)).rejects.toMatchObject({ code: "ERR_CHANNEL_CLOSED", value: 3 });
  }
});

// Aim: iterating an end receives. Method: a loop until the other end's half-close, then a reply.
test("an end can be iterated", async () => {
  const [a, b] = duplex<number, number>(3);
  for (const value of [1, 2, 3]) a.trySend(value);
  a.tx.close();
  let sum = 0;
  for await (const value of b) sum += value;
  await b.send(sum);
  expect(await a.recv()).toBe(6);
});

// Aim: options reach the halves. Method: abort a receive and a send made through the end.
test("waits made through an end can be aborted", async () => {
  const [a] = duplex<number>(1);
  const abort = new AbortController();
  const receive = a.recv({ signal: abort.signal });
  a.trySend(1);
  const send = a.send(2, { signal: abort.signal });
  abort.abort("enough");
  await expect(receive).rejects.toBe("enough");
  await expect(send).rejects.toBe("enough");
});

// Aim: the bound holds over a long exchange. Method: ten thousand round trips with the fill level watched.
test("ten thousand round trips stay within the capacity", async () => {
  const [a, b] = duplex<number>(1);
  let largest = 0;
  const echo = (async () => {
    for await (const value of b) {
      largest = Math.max(largest, a.rx.size, b.rx.size);
      await b.send(value + 1);
    }
    b.tx.close();
  })();
  let value = 0;
  while (value < 10_000) {
    await a.send(value);
    largest = Math.max(largest, a.rx.size, b.rx.size);
    const answer = await a.recv();
    expect(answer).toBe(value + 1);
    value += 1;
  }
  a.tx.close();
  await echo;
  expect(largest).toBeLessThanOrEqual(1);
  expect(await a.recv()).toBe(CLOSED);
});
