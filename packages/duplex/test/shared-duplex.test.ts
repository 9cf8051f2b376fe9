/** A shared duplex with both ends in this thread: order, waiting, closing, aborting, errors, and what is kept alive. */
import { getEventListeners } from "node:events";
import { expect, test, vi } from "vitest";
import {
  abandonSharedDuplex,
  attachSharedDuplex,
  bytesCodec,
  ChannelClosedError,
  CLOSED,
  createSharedDuplex,
  SHARED_BYTES_MAX,
  SHARED_SLOTS_MAX,
} from "../src/index.js";
import type { AttachOptions, Codec, SharedDuplexEnd } from "../src/index.js";
import { settle } from "./pending.js";
import { numberCodec, numbers, texts } from "./shared-codecs.js";

type Ends<T> = readonly [SharedDuplexEnd<T, T>, SharedDuplexEnd<T, T>];

function pair<T>(slots: number, slotBytes: number, options: AttachOptions<T, T>): Ends<T> {
  const handle = createSharedDuplex({ slots, slotBytes });
  return [attachSharedDuplex(handle, 0, options), attachSharedDuplex(handle, 1, options)];
}

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

// Aim: sizes that cannot be served are refused. Method: values around the legal ranges.
test.each([
  { slots: 1, slotBytes: 8 },
  { slots: 3, slotBytes: 8 },
  { slots: 2 * SHARED_SLOTS_MAX, slotBytes: 8 },
  { slots: Number.NaN, slotBytes: 8 },
  { slots: 2, slotBytes: 0 },
  { slots: 2, slotBytes: 1.5 },
  { slots: 2, slotBytes: SHARED_BYTES_MAX },
  { slots: 2, slotBytes: 8, initialCounter: 2 ** 31 },
])("%o is refused", (options) => {
  expect(() => createSharedDuplex(options)).toThrow(RangeError);
});

// Aim: what is no duplex is not attached. Method: other memory, other objects.
test("only the handle of a duplex can be attached", () => {
  for (const memory of [
    new SharedArrayBuffer(0),
    new SharedArrayBuffer(4096),
    new ArrayBuffer(4096),
    undefined,
  ])
    expect(() => attachSharedDuplex({ memory } as never, 0, { codecs: numbers })).toThrow(TypeError);
  expect(() => abandonSharedDuplex({} as never, 0)).toThrow(TypeError);
});

// Aim: a ring has one sender and one receiver. Method: a second attach of the same side.
test("a side can be attached once", () => {
  const handle = createSharedDuplex({ slots: 2, slotBytes: 8 });
  attachSharedDuplex(handle, 0, { codecs: numbers }).close();
  expect(() => attachSharedDuplex(handle, 0, { codecs: numbers })).toThrow(
    expect.objectContaining({ code: "ERR_CHANNEL_ATTACHED" }),
  );
  attachSharedDuplex(handle, 1, { codecs: numbers });
});

// Aim: back-pressure, its order and its end. Method: five sends into two slots.
test("a send waits for room and nothing overtakes it", async () => {
  const [a, b] = pair(2, 8, { codecs: numbers });
  await a.send(1);
  expect(a.trySend(2)).toBe("sent");
  const settled: number[] = [];
  for (const value of [3, 4]) void a.send(value).then(() => settled.push(value));
  await settle();
  expect(settled).toEqual([]);
  expect(a.trySend(9)).toBe("full");
  expect(b.rx.size).toBe(2);
  expect(await b.recv()).toBe(1);
  expect(a.trySend(9), "the free slot belongs to the line").toBe("full");
  await settle();
  expect(settled).toEqual([3]);
  expect([await b.recv(), await b.recv(), await b.recv()]).toEqual([2, 3, 4]);
  expect(b.rx.tryRecv()).toBeUndefined();
  expect(b.trySend(5), "the directions are independent").toBe("sent");
  expect(a.rx.tryRecv()).toBe(5);
});

// Aim: receives are served in order and tryRecv takes nothing from them. Method: three waits, then sends.
test("waiting receives are served in the order of the calls", async () => {
  const [a, b] = pair(4, 16, { codecs: texts });
  const received = [b.recv(), b.recv(), b.recv()];
  expect(a.trySendMany(["", "two", "three", "four"])).toBe(4);
  expect(b.rx.tryRecv()).toBe("four");
  expect(await Promise.all(received)).toEqual(["", "two", "three"]);
});

// Aim: what was sent before closing is received after it, and CLOSED stays. Method: half-close, then the other half.
test("a half-close lets through what was sent, and the other direction", async () => {
  const [a, b] = pair(2, 8, { codecs: numbers });
  await a.send(7);
  await a.send(8);
  const waiting = a.send(9);
  a.tx.close();
  expect(a.tx.closed).toBe(true);
  expect(a.trySend(1)).toBe("closed");
  expect([await b.recv(), await b.recv(), await b.recv(), await b.recv()]).toEqual([7, 8, 9, CLOSED]);
  await waiting;
  expect(b.rx.tryRecv()).toBe(CLOSED);
  expect(b.recvSync()).toBe(CLOSED);
  expect([a.closeReason, b.closeReason]).toEqual(["open", "open"]);
  await b.send(5);
  expect(await a.recv()).toBe(5);
  const receiving = a.recv();
  b.tx.close();
  expect(await receiving).toBe(CLOSED);
  expect(a.closeReason).toBe("open");
  b.close();
  expect([a.closeReason, b.closeReason]).toEqual(["peer-closed", "self"]);
});

// Aim: a receiver that closes fails those who wait to send, with their values. Method: close while sends wait.
test("closing the receiver drops what is inside and fails waiting sends", async () => {
  const [a, b] = pair(2, 16, { codecs: texts });
  expect(a.trySendMany(["1", "2"])).toBe(2);
  const waiting = a.send("mine");
  const own = b.recv();
  expect(await own).toBe("1");
  await waiting;
  const second = a.send("again").catch((error: unknown) => error);
  b.close();
  const error = await second;
  expect(error).toBeInstanceOf(ChannelClosedError);
  expect(error).toMatchObject({ code: "ERR_CHANNEL_CLOSED", value: "again" });
  expect([b.rx.size, b.rx.tryRecv(), a.trySend("x"), a.trySendMany(["x"])]).toEqual([0, CLOSED, "closed", 0]);
  expect(a.sendSync("x")).toBe("closed");
  await expect(a.send("y")).rejects.toMatchObject({ value: "y" });
  b[Symbol.dispose]();
  a.close();
  expect(a.closeReason).toBe("peer-closed");
});

// Aim: closing ends own waits. Method: a receive that waits, then close of the same end.
test("closing an end gives its waiting receives CLOSED", async () => {
  const [a] = pair(2, 8, { codecs: numbers });
  const waiting = [a.recv(), a.recv()];
  a.close();
  expect(await Promise.all(waiting)).toEqual([CLOSED, CLOSED]);
});

// Aim: an abort neither loses nor doubles a value. Method: abort waits on both sides, then use the channel.
test("aborted calls neither deliver nor take", async () => {
  const [a, b] = pair(2, 8, { codecs: numbers });
  const reason = new Error("enough");
  const aborting = new AbortController();
  const receiving = b.recv({ signal: aborting.signal });
  expect(getEventListeners(aborting.signal, "abort")).toHaveLength(1);
  aborting.abort(reason);
  await expect(receiving).rejects.toBe(reason);
  await expect(b.recv({ signal: aborting.signal })).rejects.toBe(reason);
  expect(getEventListeners(aborting.signal, "abort")).toHaveLength(0);
  expect(a.trySendMany([1, 2])).toBe(2);
  const second = new AbortController();
  const sending = a.send(3, { signal: second.signal });
  const behind = a.send(4);
  second.abort(reason);
  await expect(sending).rejects.toBe(reason);
  await expect(a.send(5, { signal: second.signal })).rejects.toBe(reason);
  expect([await b.recv(), await b.recv(), await b.recv()]).toEqual([1, 2, 4]);
  await behind;
});

// Aim: the wait that an abort leaves behind serves the next one. Method: three aborts, then a receive, many times; count how
// often the runtime is asked to wait.
test("an outstanding wait outlives aborts and is used again", async () => {
  const [a, b] = pair(2, 8, { codecs: numbers });
  const waits = vi.spyOn(Atomics as unknown as { waitAsync(): unknown }, "waitAsync");
  using _ = { [Symbol.dispose]: () => waits.mockRestore() };
  for (let round = 1; round <= 50; round++) {
    for (let abort = 0; abort < 3; abort++) {
      const aborting = new AbortController();
      const receiving = b.recv({ signal: aborting.signal });
      aborting.abort(round);
      await expect(receiving).rejects.toBe(round);
    }
    const receiving = b.recv();
    if (round % 2 === 0) await settle();
    expect(waits).toHaveBeenCalledTimes(round);
    expect(a.trySend(round)).toBe("sent");
    expect(await receiving).toBe(round);
  }
});

// Aim: a frame that is too long changes nothing. Method: one byte above the slot, alone, waiting, and in a batch.
test("a frame longer than a slot is refused", async () => {
  const [a, b] = pair(4, 4, { codecs: texts });
  const tooLarge = expect.objectContaining({ code: "ERR_MESSAGE_TOO_LARGE", lengthBytes: 5, slotBytes: 4 });
  expect(() => a.trySend("12345")).toThrow(tooLarge);
  expect(() => a.sendSync("12345")).toThrow(tooLarge);
  await expect(a.send("12345")).rejects.toEqual(tooLarge);
  const batch = ["1234", "abc", "12345", "d"];
  expect(a.trySendMany(batch)).toBe(2);
  expect(() => a.trySendMany(batch, 2)).toThrow(tooLarge);
  expect(a.trySendMany(batch, 3)).toBe(1);
  expect(a.trySend("")).toBe("sent");
  const [waiting, behind] = [a.send("12345"), a.send("last")];
  const failure = waiting.catch((error: unknown) => error);
  const received: string[] = [];
  expect(b.tryRecvMany(10, (value) => received.push(value))).toBe(4);
  expect(received).toEqual(["1234", "abc", "d", ""]);
  expect(await failure).toEqual(tooLarge);
  await behind;
  expect(await b.recv()).toBe("last");
});

// Aim: what a codec throws reaches the caller, and the next frame is next. Method: a decoder that refuses odd numbers.
test("a frame that cannot be decoded is gone and the next one is next", async () => {
  const evenOnly: Codec<number> = {
    ...numberCodec,
    decode(source, length) {
      const value = numberCodec.decode(source, length);
      if (value % 2 === 1) throw new Error(`odd: ${String(value)}`);
      return value;
    },
  };
  const handle = createSharedDuplex({ slots: 8, slotBytes: 8 });
  const a = attachSharedDuplex(handle, 0, { codecs: numbers });
  const b = attachSharedDuplex(handle, 1, { codecs: { tx: numberCodec, rx: evenOnly } });
  const waiting = b.recv();
  expect(a.trySendMany([1, 2, 3, 4, 5, 6])).toBe(6);
  await expect(waiting).rejects.toThrow("odd: 1");
  expect(b.rx.tryRecv()).toBe(2);
  await expect(b.recv()).rejects.toThrow("odd: 3");
  const seen: number[] = [];
  expect(b.tryRecvMany(1, (value) => seen.push(value))).toBe(1);
  expect(() => b.tryRecvMany(9, (value) => seen.push(value))).toThrow("odd: 5");
  expect(b.tryRecvMany(9, (value) => seen.push(value))).toBe(1);
  expect(seen).toEqual([4, 6]);
});

// Aim: a batch stays within what is there, and the visitor may use the channel. Method: receive and close from inside.
test("a visitor may receive from, and close, what it visits", () => {
  const [a, b] = pair(256, 8, { codecs: numbers });
  const values = Array.from({ length: 300 }, (_, index) => index);
  expect(a.trySendMany(values)).toBe(256);
  const seen: (number | symbol | undefined)[] = [];
  b.tryRecvMany(3, (value) => seen.push(value, b.rx.tryRecv()));
  expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  expect(b.tryRecvMany(200, (value) => seen.push(value))).toBe(200);
  expect(seen).toEqual(values.slice(0, 206));
  expect(a.trySendMany(values, 300)).toBe(0);
  const last: number[] = [];
  const visit = (value: number): void => {
    last.push(value);
    b.close();
  };
  expect(b.tryRecvMany(200, visit)).toBe(1);
  expect(last).toEqual([206]);
});

// Aim: a thread that must not sleep is told so only if it would. Method: the main thread's default, and the opposite.
test("blocking calls are refused where they would sleep", () => {
  const [a, b] = pair(2, 8, { codecs: numbers, mayBlock: false });
  const refused = expect.objectContaining({ code: "ERR_CHANNEL_WOULD_BLOCK" });
  expect(() => b.recvSync()).toThrow(refused);
  expect(b.recvSync(0)).toBe("timeout");
  expect([a.sendSync(1), a.sendSync(2), a.sendSync(3, 0)]).toEqual(["sent", "sent", "timeout"]);
  expect(() => a.sendSync(3)).toThrow(refused);
  expect([b.recvSync(), b.recvSync(1)]).toEqual([1, 2]);
  b.close();
  expect([a.sendSync(4), b.recvSync()]).toEqual(["closed", CLOSED]);
});

// Aim: a blocking call gives up in time, and the ring is as before. Method: nobody is there to make room.
test("blocking calls time out", () => {
  const [a, b] = pair(2, 8, { codecs: numbers, mayBlock: true });
  expect(b.recvSync(5)).toBe("timeout");
  expect(a.trySendMany([1, 2, 3])).toBe(2);
  expect(a.sendSync(3, 5)).toBe("timeout");
  expect(b.rx.tryRecv()).toBe(1);
  expect(a.sendSync(3, 5)).toBe("sent");
  expect([b.recvSync(5), b.recvSync(5)]).toEqual([2, 3]);
});

// Aim: the death of a thread closes, after what it had sent. Method: a third party reports it, in both roles.
test("an abandoned side closes the other end with the reason", async () => {
  const handle = createSharedDuplex({ slots: 2, slotBytes: 8 });
  const a = attachSharedDuplex(handle, 0, { codecs: numbers });
  const b = attachSharedDuplex(handle, 1, { codecs: numbers });
  expect([b.trySend(1), a.trySendMany([1, 2])]).toEqual(["sent", 2]);
  const sending = a.send(3).catch((error: unknown) => error);
  abandonSharedDuplex(handle, 1);
  expect(await sending).toMatchObject({ code: "ERR_CHANNEL_CLOSED", value: 3 });
  expect([await a.recv(), await a.recv()]).toEqual([1, CLOSED]);
  expect([a.closeReason, a.trySend(4)]).toEqual(["peer-died", "closed"]);
  a.close();
  expect(a.closeReason).toBe("peer-died");
});

// Aim: nothing holds the event loop but a wait. Method: count the timers that do, through waits, aborts and ends.
test("only a wait keeps the thread alive", async () => {
  const before = timers();
  const [a, b] = pair(2, 8, { codecs: numbers });
  expect(timers()).toBe(before);
  const aborting = new AbortController();
  const [receiving, other] = [b.recv({ signal: aborting.signal }), b.recv()];
  expect(timers()).toBe(before + 1);
  aborting.abort("enough");
  await expect(receiving).rejects.toBe("enough");
  expect(timers()).toBe(before + 1);
  a.trySend(1);
  await other;
  expect(timers()).toBe(before);
  a.trySendMany([1, 2]);
  const sending = a.send(3);
  expect(timers()).toBe(before + 1);
  b.close();
  await expect(sending).rejects.toThrow(ChannelClosedError);
  expect(timers()).toBe(before);
});

// Aim: iteration ends with the sender, and leaving it closes nothing. Method: break after the first of three.
test("iteration receives until CLOSED and may be left", async () => {
  const [a, b] = pair(4, 8, { codecs: numbers });
  a.trySendMany([1, 2, 3]);
  for await (const value of b) {
    expect(value).toBe(1);
    break;
  }
  a.tx.close();
  const rest: number[] = [];
  for await (const value of b.rx) rest.push(value);
  expect(rest).toEqual([2, 3]);
});

// Aim: bytes arrive as a copy. Method: overwrite what was sent, and let the slot be used again.
test("the codec for bytes copies in and out", () => {
  const [a, b] = pair(2, 8, { codecs: { tx: bytesCodec, rx: bytesCodec } });
  const source = Uint8Array.of(1, 2, 3);
  a.trySend(source);
  source.fill(9);
  const first = b.rx.tryRecv();
  for (const value of [7, 8, 9]) {
    a.trySend(new Uint8Array(8).fill(value));
    b.rx.tryRecv();
  }
  expect(first).toEqual(Uint8Array.of(1, 2, 3));
  a.trySend(new Uint8Array(0));
  expect(b.rx.tryRecv()).toEqual(new Uint8Array(0));
  expect(() => a.trySend(new Uint8Array(9))).toThrow(expect.objectContaining({ lengthBytes: 9 }));
});
