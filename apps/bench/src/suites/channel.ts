/**
 * `channel`: values between two async functions of one thread (goal G15), and between two threads (goal G16).
 *
 * Ways to use the channels of @millrace/duplex, from no promise at all to one await on each side of each value, against
 * what the platform has: TransformStream, MessageChannel, EventEmitter. Every contestant moves the numbers 1 to n in order
 * and adds up what arrives; slices must agree. Only the processor takes part, so best rounds are judged.
 */
import { EventEmitter, on } from "node:events";
import { MessageChannel } from "node:worker_threads";

import { channel, CLOSED, duplex } from "@millrace/duplex";
import type { DuplexEnd } from "@millrace/duplex";

import type { Contestant, RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { runGroups } from "../available.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";
import { betweenThreads, thereAndBack } from "./channel-shared.js";

const CAPACITY = 128;
/** Messages that a MessageChannel gets before the sender waits for the receiver, so that its queue stays bounded. */
const PORT_BATCH = 128;
/** Values in the only slice of a smoke test. */
const QUICK_VALUES = 1000;
/** TransformStream changed a lot between these majors. */
const NODE_MAJOR_FAST_STREAMS = 22;

/** Depends on every value and on their order; cheap enough not to be what is measured. */
const mix = (sum: number, value: number): number => (Math.imul(sum, 31) + value) | 0;

/** trySend until it is full, tryRecv until it is empty; no promise anywhere. */
function moveSync(count: number): Promise<number> {
  const [sender, receiver] = channel<number>(CAPACITY);
  let [next, sum] = [1, 0];
  while (next <= count) {
    while (next <= count && sender.trySend(next) === "sent") next += 1;
    for (let value = receiver.tryRecv(); typeof value === "number"; value = receiver.tryRecv()) {
      sum = mix(sum, value);
    }
  }
  return Promise.resolve(sum);
}

/** Two async functions that wait only when the channel is full or empty. */
async function moveHybrid(count: number): Promise<number> {
  const [sender, receiver] = channel<number>(CAPACITY);
  async function send(): Promise<void> {
    for (let next = 1; next <= count; next += 1) {
      if (sender.trySend(next) !== "sent") await sender.send(next);
    }
    sender.close();
  }
  async function receive(): Promise<number> {
    for (let sum = 0; ;) {
      const value = receiver.tryRecv() ?? (await receiver.recv());
      if (value === CLOSED) return sum;
      sum = mix(sum, value);
    }
  }
  const [, sum] = await Promise.all([send(), receive()]);
  return sum;
}

/** Both ends of a duplex send and receive at once, half of the values each way, and wait only when they must. */
async function moveDuplex(count: number): Promise<number> {
  const ends = duplex<number>(CAPACITY);
  const half = count / 2;
  async function send(end: DuplexEnd<number, number>): Promise<void> {
    for (let next = 1; next <= half; next += 1) if (end.trySend(next) !== "sent") await end.send(next);
  }
  async function receive({ rx }: DuplexEnd<number, number>): Promise<number> {
    let sum = 0;
    for (let got = 0; got < half; got += 1) {
      const value = rx.tryRecv() ?? (await rx.recv());
      if (value !== CLOSED) sum = mix(sum, value);
    }
    return sum;
  }
  const [, , one, other] = await Promise.all([...ends.map(send), ...ends.map(receive)]);
  return mix(one ?? 0, other ?? 0);
}

/** The platform's iterator of events, which has no bound: the sender waits for each batch to arrive. */
async function moveEvents(count: number): Promise<number> {
  const emitter = new EventEmitter();
  const values = on(emitter, "value");
  let hasArrived: () => void = () => undefined;
  async function send(): Promise<void> {
    for (let next = 1; next <= count; next += 1) {
      emitter.emit("value", next);
      if (next % CAPACITY === 0) await new Promise<void>((resolve) => (hasArrived = resolve));
    }
  }
  async function receive(): Promise<number> {
    let sum = 0;
    for await (const [value] of values as AsyncIterable<[number]>) {
      sum = mix(sum, value);
      if (value === count) break;
      if (value % CAPACITY === 0) hasArrived();
    }
    return sum;
  }
  const receiving = receive();
  await Promise.race([send(), receiving]);
  return await receiving;
}

/** Two async functions that await every single call. */
async function moveAwaiting(count: number): Promise<number> {
  const [sender, receiver] = channel<number>(CAPACITY);
  async function send(): Promise<void> {
    for (let next = 1; next <= count; next += 1) await sender.send(next);
    sender.close();
  }
  async function receive(): Promise<number> {
    for (let sum = 0; ;) {
      const value = await receiver.recv();
      if (value === CLOSED) return sum;
      sum = mix(sum, value);
    }
  }
  const [, sum] = await Promise.all([send(), receive()]);
  return sum;
}

/** The platform's pipe with the same bound; both sides await, as its interface asks. */
async function moveTransformStream(count: number): Promise<number> {
  const strategy = new CountQueuingStrategy({ highWaterMark: CAPACITY });
  const { readable, writable } = new TransformStream<number, number>({}, strategy, strategy);
  async function send(): Promise<void> {
    const writer = writable.getWriter();
    for (let next = 1; next <= count; next += 1) {
      await writer.ready;
      void writer.write(next);
    }
    await writer.close();
  }
  async function receive(): Promise<number> {
    const reader = readable.getReader();
    for (let sum = 0; ;) {
      const { done, value } = await reader.read();
      if (done) return sum;
      sum = mix(sum, value);
    }
  }
  const [, sum] = await Promise.all([send(), receive()]);
  return sum;
}

/** Both ports in this thread; the sender waits for each batch to arrive. */
async function moveMessageChannel(count: number): Promise<number> {
  const { port1, port2 } = new MessageChannel();
  let [sum, next] = [0, 1];
  function sendBatch(): void {
    for (const end = Math.min(count, next + PORT_BATCH - 1); next <= end; next += 1) port1.postMessage(next);
  }
  await new Promise<void>((resolve) => {
    port2.on("message", (value: number) => {
      sum = mix(sum, value);
      if (value === count) resolve();
      else if (value === next - 1) sendBatch();
    });
    sendBatch();
  });
  port1.close();
  return sum;
}

function contestant(
  quick: boolean,
  name: string,
  command: string,
  count: number,
  move: (count: number) => Promise<number>,
): Contestant {
  const [slices, values] = quick ? [QUICK_SLICES, QUICK_VALUES] : [FULL_SLICES, count];
  return {
    name,
    command,
    async run(): Promise<readonly Sample[]> {
      const sample = await fastestSlice(slices, values, () => move(values));
      return [{ ...sample, rate: sample.rate / 1e6 }];
    },
  };
}

/** Rows within a thread. */
function rowSpecs(): RowSpec[] {
  const shared = {
    id: "G15",
    unit: "M values/s",
    judge: "best",
    cache: "in the processor's caches",
  } as const;
  const streams = { ...shared, reference: "TransformStream" };
  const nodeMajor = Number.parseInt(process.versions.node, 10);
  return [
    {
      ...streams,
      name: "trySend and tryRecv",
      question: "What does a channel cost when nobody ever has to wait?",
      candidate: "sync",
      gate: { rate: 10 },
      goal: { rate: 50 },
    },
    {
      ...streams,
      name: "await only when full or empty",
      question: "What do two async functions reach that wait only when they must?",
      candidate: "hybrid",
      gate: { rate: 20 },
      goal: { rate: 50 },
    },
    {
      ...streams,
      name: "always await",
      question: "What do two async functions reach that await every call?",
      candidate: "always await",
      gate: { ratio: 5 },
      goal: { ratio: nodeMajor < NODE_MAJOR_FAST_STREAMS ? 15 : 7, rate: 8 },
    },
    {
      ...shared,
      name: "always await, compared with MessageChannel",
      question: "What do two async functions reach, compared with a MessageChannel in the same thread?",
      reference: "MessageChannel",
      candidate: "always await",
    },
    {
      ...shared,
      name: "always await, compared with events.on",
      question: "What do two async functions reach, compared with the iterator of an EventEmitter?",
      reference: "events.on",
      candidate: "always await",
    },
    {
      ...shared,
      name: "a duplex, both ways at once",
      question: "What does a duplex reach that is used in both directions, compared with an EventEmitter?",
      reference: "events.on",
      candidate: "duplex",
      gate: { rate: 20 },
      goal: { rate: 50 },
    },
  ];
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { quick } = context;
  const within = await runContest(
    context,
    [
      contestant(
        quick,
        "TransformStream",
        `new TransformStream, both highWaterMarks ${CAPACITY}, write when ready, await read`,
        20_000,
        moveTransformStream,
      ),
      contestant(
        quick,
        "MessageChannel",
        `MessageChannel within one thread, ${PORT_BATCH} messages in flight`,
        50_000,
        moveMessageChannel,
      ),
      contestant(
        quick,
        "events.on",
        `for await of events.on(emitter), ${CAPACITY} events in flight`,
        50_000,
        moveEvents,
      ),
      contestant(quick, "sync", `channel(${CAPACITY}): trySend, tryRecv`, 2_000_000, moveSync),
      contestant(
        quick,
        "hybrid",
        `channel(${CAPACITY}): trySend else await send, tryRecv else await recv`,
        1_000_000,
        moveHybrid,
      ),
      contestant(
        quick,
        "always await",
        `channel(${CAPACITY}): await send, await recv`,
        200_000,
        moveAwaiting,
      ),
      contestant(
        quick,
        "duplex",
        `duplex(${CAPACITY}), both ways: trySend else await send, tryRecv else await recv`,
        1_000_000,
        moveDuplex,
      ),
    ],
    rowSpecs(),
  );
  const between = await runGroups(context, [betweenThreads(quick), thereAndBack(quick)]);
  const { timed } = quick ? QUICK_SLICES : FULL_SLICES;
  return {
    method: [
      `numbers 1 to n through one channel, a checksum of what arrives; fastest of ${timed} slices a run`,
    ],
    rows: [...within, ...between.rows],
  };
}

export const channelSuite: Suite = {
  name: "channel",
  question:
    "How many values a second pass between two async functions of one thread, and between two threads?",
  run,
};
