/**
 * The rows of `channel` between two threads: a shared duplex against a MessagePort (goal G16).
 */
import type { Group, MaybeContestant } from "../available.js";
import { connectThreads, IN_FLIGHT } from "../channel-threads.js";
import type { ChannelKind } from "../channel-threads.js";
import type { RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";

const QUICK_VALUES = 256;

function contestant(
  quick: boolean,
  name: string,
  command: string,
  kind: ChannelKind,
  count: number,
): MaybeContestant {
  const [slices, values] = quick ? [QUICK_SLICES, QUICK_VALUES] : [FULL_SLICES, count];
  return {
    name,
    command,
    missing: undefined,
    async run(): Promise<readonly Sample[]> {
      await using threads = await connectThreads(kind);
      const sample = await fastestSlice(slices, values, () => threads.move(values));
      return [{ ...sample, rate: sample.rate / 1e6, details: { ns: 1e9 / sample.rate } }];
    },
  };
}

function row(
  spec: Pick<RowSpec, "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return {
    id: "G16",
    unit: "M values/s",
    judge: "best",
    cache: "in the processor's caches",
    ...spec,
  };
}

/** From one thread to another, as many as go. */
export function betweenThreads(quick: boolean): Group {
  const names = {
    port: "MessagePort",
    batches: "SharedDuplex, batches",
    single: "SharedDuplex, one by one",
    loop: "SharedDuplex, event loops",
  };
  const shared = `shared duplex of ${IN_FLIGHT} slots`;
  return {
    contestants: [
      contestant(
        quick,
        names.port,
        `MessagePort between threads, ${IN_FLIGHT} messages in flight`,
        "port",
        50_000,
      ),
      contestant(quick, names.batches, `${shared}: trySendMany, tryRecvMany`, "batches", 1_000_000),
      contestant(quick, names.single, `${shared}: sendSync, recvSync`, "single", 400_000),
      contestant(
        quick,
        names.loop,
        `${shared}: trySend else await send, tryRecv else await recv`,
        "event loop",
        200_000,
      ),
    ],
    rows: [
      row({
        name: "between threads, in batches",
        question: "How many values a second reach another thread that sends and receives several in a call?",
        reference: names.port,
        candidate: names.batches,
        gate: { ratio: 5 },
        goal: { ratio: 20, rate: 20 },
      }),
      row({
        name: "between threads, one by one",
        question: "How many values a second reach another thread with a call for each on both sides?",
        reference: names.port,
        candidate: names.single,
        gate: { ratio: 5 },
      }),
      row({
        name: "between threads, on both event loops",
        question: "How many values a second reach another thread if neither thread ever sleeps in a call?",
        reference: names.port,
        candidate: names.loop,
        gate: { ratio: 1 },
      }),
    ],
  };
}

/** There and back, one at a time. */
export function thereAndBack(quick: boolean): Group {
  const [port, shared] = ["MessagePort, round trip", "SharedDuplex, round trip"];
  return {
    contestants: [
      contestant(quick, port, "MessagePort between threads, one message at a time", "echo port", 5000),
      contestant(quick, shared, "shared duplex: sendSync, recvSync, one value at a time", "echo", 20_000),
    ],
    rows: [
      row({
        name: "there and back",
        question: "How many round trips a second, one value at a time?",
        unit: "M round trips/s",
        reference: port,
        candidate: shared,
        gate: { ratio: 1 },
      }),
    ],
  };
}
