/**
 * `channel`: values between two async functions of one thread (goal G15).
 *
 * Four ways to use the same channel of @millrace/duplex, from no promise at all to one await on each side of each value,
 * against the platform's own TransformStream and MessageChannel. Every contestant moves the numbers 1 to n in order and
 * adds up what arrives; all sums must agree. Only the processor takes part, so best rounds are judged.
 */
import { MessageChannel } from "node:worker_threads";

import { channel, CLOSED } from "@millrace/duplex";

import type { Contestant, RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import type { BenchContext, Suite } from "../suite.js";
import { runContest } from "../suite.js";

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
  ];
}

async function run(context: BenchContext): ReturnType<Suite["run"]> {
  const { quick } = context;
  const rows = await runContest(
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
    ],
    rowSpecs(),
  );
  const { timed } = quick ? QUICK_SLICES : FULL_SLICES;
  return {
    method: [
      `numbers 1 to n through one channel in one thread, a checksum of what arrives; fastest of ${timed} slices a run`,
    ],
    rows,
  };
}

export const channelSuite: Suite = {
  name: "channel",
  question: "How many values a second pass between two async functions of one thread?",
  run,
};
