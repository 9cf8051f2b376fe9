/**
 * Numbers from one thread to another: what the other thread does, and how this one is served by it.
 *
 * The other thread runs this program again, told by its data to do this instead. It waits until it is asked for numbers, sends them in
 * order, and waits again; or it sends back what it gets. This thread adds up what arrives. Whatever the way, no more than
 * `IN_FLIGHT` numbers are on it, so that all of them have the same bound.
 */
import { once } from "node:events";
import { MessageChannel, Worker } from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";

import { attachSharedDuplex, CLOSED, createSharedDuplex } from "@millrace/duplex";
import type { Codec, SharedDuplexEnd, SharedDuplexHandle } from "@millrace/duplex";

import { BenchError } from "./errors.js";
import { benchProgram } from "./repository.js";

/** Numbers on their way, at most. */
export const IN_FLIGHT = 1024;
/** Numbers that are sent by one call, where a call can send several. */
const BATCH = 256;

/**
 * `batches`: `trySendMany`, `tryRecvMany`. `single`: `sendSync`, `recvSync`. `event loop`: `trySend` else `await send`, `tryRecv` else
 * `await recv`. `port`: a MessagePort. `echo`: one number there and back.
 */
export type ChannelKind = "batches" | "single" | "event loop" | "port" | "echo" | "echo port";

/** What the other thread is told. */
interface ChannelOrder {
  readonly task: "channel";
  readonly kind: ChannelKind;
  readonly handle: SharedDuplexHandle;
  readonly port: MessagePort;
}

/** Whether this thread was made to do this. */
export function isChannelOrder(data: unknown): data is ChannelOrder {
  return typeof data === "object" && data !== null && (data as Partial<ChannelOrder>).task === "channel";
}

type End = SharedDuplexEnd<number, number>;

const numberCodec: Codec<number> = {
  encode(value, target) {
    target.setInt32(0, value, true);
    return Int32Array.BYTES_PER_ELEMENT;
  },
  decode: (source) => source.getInt32(0, true),
};

/** Depends on every value and on their order. */
const mix = (sum: number, value: number): number => (Math.imul(sum, 31) + value) | 0;

function attach(handle: SharedDuplexHandle, side: 0 | 1, peer?: Worker): End {
  const codecs = { tx: numberCodec, rx: numberCodec };
  return attachSharedDuplex(handle, side, {
    codecs,
    mayBlock: true,
    ...(peer === undefined ? {} : { peer }),
  });
}

/** The other thread's way of sending 1 to `count`. */
const SEND: Readonly<Record<"batches" | "single" | "event loop", (end: End, count: number) => unknown>> = {
  batches(end, count) {
    const values: number[] = [];
    for (let next = 1; next <= count;) {
      values.length = 0;
      for (; values.length < BATCH && next <= count; next += 1) values.push(next);
      for (let sent = end.trySendMany(values); sent < values.length;) {
        end.sendSync(values[sent] as number);
        sent += 1;
        sent += end.trySendMany(values, sent);
      }
    }
  },
  single(end, count) {
    for (let next = 1; next <= count; next += 1) end.sendSync(next);
  },
  async "event loop"(end, count) {
    for (let next = 1; next <= count; next += 1) if (end.trySend(next) !== "sent") await end.send(next);
  },
};

async function serve(kind: "batches" | "single" | "event loop", end: End): Promise<void> {
  for (let count = await end.recv(); count !== CLOSED; count = await end.recv()) await SEND[kind](end, count);
  end.close();
}

function echo(end: End): void {
  for (let value = end.recvSync(); typeof value === "number"; value = end.recvSync()) end.sendSync(value);
  end.close();
}

/** Sends what it is asked for, half of what may be in flight each time it hears that as much has arrived: 0. */
function servePort(port: MessagePort): void {
  let [next, count] = [1, 0];
  port.on("message", (asked: number) => {
    if (asked > 0) [next, count] = [1, asked];
    const end = Math.min(count, next + (asked > 0 ? IN_FLIGHT : IN_FLIGHT / 2) - 1);
    for (; next <= end; next += 1) port.postMessage(next);
  });
}

/** The other thread's work. */
export async function doChannel({ kind, handle, port }: ChannelOrder): Promise<void> {
  if (kind === "port") servePort(port);
  else if (kind === "echo port") port.on("message", (value: number) => port.postMessage(value));
  else {
    port.close();
    const end = attach(handle, 1);
    if (kind === "echo") echo(end);
    else await serve(kind, end);
  }
}

/** This thread's way of receiving `count` numbers. @returns their checksum */
const RECEIVE: Readonly<
  Record<"batches" | "single" | "event loop" | "echo", (end: End, count: number) => number | Promise<number>>
> = {
  batches(end, count) {
    let sum = 0;
    const visit = (value: number): void => {
      sum = mix(sum, value);
    };
    for (let got = 0; got < count;) {
      visit(numberOf(end.recvSync()));
      got += 1;
      got += end.tryRecvMany(count - got, visit);
    }
    return sum;
  },
  single(end, count) {
    let sum = 0;
    for (let got = 0; got < count; got += 1) sum = mix(sum, numberOf(end.recvSync()));
    return sum;
  },
  async "event loop"(end, count) {
    let sum = 0;
    for (let got = 0; got < count; got += 1) sum = mix(sum, numberOf(end.rx.tryRecv() ?? (await end.recv())));
    return sum;
  },
  echo(end, count) {
    let sum = 0;
    for (let value = 1; value <= count; value += 1) {
      end.sendSync(value);
      sum = mix(sum, numberOf(end.recvSync()));
    }
    return sum;
  },
};

function numberOf(value: number | typeof CLOSED | "timeout"): number {
  if (typeof value !== "number") throw new BenchError("ERR_BENCH_PROGRAM", "the other thread has ended");
  return value;
}

/** Receives from a port until the last number has come. */
async function receiveFromPort(port: MessagePort, kind: ChannelKind, count: number): Promise<number> {
  let [sum, got] = [0, 0];
  await new Promise<void>((resolve) => {
    const onMessage = (value: number): void => {
      sum = mix(sum, value);
      got += 1;
      if (got === count) {
        port.off("message", onMessage);
        resolve();
      } else if (kind === "echo port") port.postMessage(got + 1);
      else if (got % (IN_FLIGHT / 2) === 0) port.postMessage(0);
    };
    port.on("message", onMessage);
    port.postMessage(kind === "echo port" ? 1 : count);
  });
  return sum;
}

/** Two threads that are connected. Disposing ends the other one. */
export interface ThreadPair extends AsyncDisposable {
  /** Moves the numbers 1 to `count`. @returns their checksum */
  move(count: number): number | Promise<number>;
}

/** Starts the other thread. */
export async function connectThreads(kind: ChannelKind): Promise<ThreadPair> {
  const handle = createSharedDuplex({ slots: IN_FLIGHT, slotBytes: Int32Array.BYTES_PER_ELEMENT });
  const { port1, port2 } = new MessageChannel();
  const workerData: ChannelOrder = { task: "channel", kind, handle, port: port2 };
  // What was built runs in a thread, whatever runs here: none of its flags are inherited.
  const worker = new Worker(benchProgram(), { workerData, transferList: [port2], execArgv: [] });
  await once(worker, "online");
  const end = attach(handle, 0, worker);
  return {
    move(count) {
      if (kind === "port" || kind === "echo port") return receiveFromPort(port1, kind, count);
      if (kind !== "echo") end.sendSync(count);
      return RECEIVE[kind](end, count);
    },
    async [Symbol.asyncDispose]() {
      end.close();
      port1.close();
      await worker.terminate();
    },
  };
}
