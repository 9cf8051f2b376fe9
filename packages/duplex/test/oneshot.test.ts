/** One value, two sides, either of which may go away first. */
import { expect, test } from "vitest";
import { CLOSED, oneshot } from "../src/index.js";
import { isPending } from "./pending.js";

// Aim: the value arrives whichever side comes first. Method: send before and after the receive.
test("the value is given once, before or after it is asked for", async () => {
  const [tx, rx] = oneshot<string>();
  expect(rx.tryRecv()).toBeUndefined();
  expect(tx.send("reply")).toBe("sent");
  expect([rx.size, rx.closed, tx.closed]).toEqual([1, false, true]);
  expect(await rx.recv()).toBe("reply");
  expect([await rx.recv(), rx.tryRecv(), rx.closed]).toEqual([CLOSED, CLOSED, true]);
  const [tx2, rx2] = oneshot<undefined>();
  const wait = rx2.recv();
  expect(await isPending(wait)).toBe(true);
  tx2.send(undefined);
  expect(await wait).toBeUndefined();
  expect(await rx2.recv()).toBe(CLOSED);
});

// Aim: there is no second value. Method: send twice, with the first value taken or not.
test("a second send is refused", () => {
  const [tx, rx] = oneshot<number>();
  expect(tx.send(1)).toBe("sent");
  expect(tx.send(2)).toBe("closed");
  expect(rx.tryRecv()).toBe(1);
  expect(tx.send(3)).toBe("closed");
  expect(rx.tryRecv()).toBe(CLOSED);
});

// Aim: a sender that goes away is noticed. Method: close and dispose without a value, and dispose after one.
test("a sender that closes without sending gives CLOSED", async () => {
  const [tx, rx] = oneshot();
  const wait = rx.recv();
  tx.close();
  expect(await wait).toBe(CLOSED);
  const [tx2, rx2] = oneshot<number>();
  tx2.send(1);
  tx2[Symbol.dispose]();
  tx2.close();
  expect(rx2.tryRecv()).toBe(1);
});

// Aim: a receiver that goes away is noticed and drops the value. Method: close before and after the send.
test("a receiver that closes refuses the value", async () => {
  const [tx, rx] = oneshot<number>();
  rx.close();
  expect(tx.closed).toBe(true);
  expect(tx.send(1)).toBe("closed");
  const [tx2, rx2] = oneshot<number>();
  tx2.send(1);
  rx2[Symbol.dispose]();
  expect([await rx2.recv(), rx2.size]).toEqual([CLOSED, 0]);
});

// Aim: giving up a wait keeps the value. Method: abort, then send and receive.
test("an aborted receive does not take the value", async () => {
  const [tx, rx] = oneshot<number>();
  const abort = new AbortController();
  const aborted = rx.recv({ signal: abort.signal });
  abort.abort("enough");
  await expect(aborted).rejects.toBe("enough");
  expect(tx.send(1)).toBe("sent");
  expect(await rx.recv()).toBe(1);
});
