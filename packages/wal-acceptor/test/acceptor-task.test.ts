import { channel, CLOSED } from "@millrace/duplex";
import type { Lsn } from "@millrace/lsn";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { AcceptorMessage, AppendRequest, AppendResponse, ProposerMessage } from "@millrace/wal-protocol";
import { expect, test } from "vitest";

import {
  COALESCED_BYTES_MAX,
  COALESCED_REQUESTS_MAX,
  runAcceptorTask,
  UNFLUSHED_BYTES_MAX,
} from "../src/acceptor-task.js";
import type { FlushPolicy, PushTarget } from "../src/acceptor-task.js";
import { ComputeRegistry } from "../src/compute-registry.js";
import type { ComputeConnectionGuard } from "../src/compute-registry.js";
import { AcceptorError } from "../src/errors.js";
import type { FeedbackMarker } from "../src/network-writer.js";
import { AcceptorMeasures } from "../src/measures.js";
import { ProposerQueue } from "../src/proposer-queue.js";
import { FakeClock } from "./fake-clock.js";
import { codeOf } from "./fixtures.js";

const LSN0 = 0n as Lsn;

/** A timeline that only keeps positions; what it is asked to do is written down. */
class RecordingTarget implements PushTarget {
  readonly calls: string[] = [];
  readonly registry = new ComputeRegistry();
  readonly cancel = new AbortController();
  term = 1n;
  writeLsn = LSN0;
  flushLsn = LSN0;
  transactionEnd = false;
  flushes = 0;
  /** Runs inside every call; may throw or change things. */
  onCall: (call: string) => Promise<void> | void = () => undefined;

  get cancelSignal(): AbortSignal {
    return this.cancel.signal;
  }

  async process(
    message: ProposerMessage | { readonly type: "flush-wal" },
  ): Promise<AcceptorMessage | undefined> {
    await this.#call(message.type);
    if (message.type === "elected") return undefined;
    if (message.type !== "flush-wal")
      return { type: "greeting", nodeId: 1n, configuration: NO_CONFIGURATION, term: 1n };
    this.flushes += 1;
    this.flushLsn = this.writeLsn;
    return this.#response();
  }

  async appendBatch(requests: readonly AppendRequest[]): Promise<AppendResponse | undefined> {
    await this.#call(`append ${requests.map(({ beginLsn, endLsn }) => `${beginLsn}-${endLsn}`).join(" ")}`);
    const last = requests.at(-1);
    if (last === undefined || last.term < this.term) return { ...this.#response(), flushLsn: LSN0 };
    this.writeLsn = last.endLsn;
    return undefined;
  }

  takeTransactionEnd(): boolean {
    const taken = this.transactionEnd;
    this.transactionEnd = false;
    return taken;
  }

  registerReceiver(connectionId: number | undefined): ComputeConnectionGuard {
    return this.registry.register(connectionId);
  }

  async #call(call: string): Promise<void> {
    this.calls.push(call);
    await this.onCall(call);
  }

  #response(): AppendResponse {
    return {
      type: "append-response",
      generation: 0,
      term: this.term,
      flushLsn: this.flushLsn,
      commitLsn: LSN0,
      hotStandby: NO_HOT_STANDBY_FEEDBACK,
    };
  }
}

const NO_CONFIGURATION = { generation: 0, members: [], newMembers: [] };

function append(begin: number, end: number, change: Partial<AppendRequest> = {}): AppendRequest {
  return {
    type: "append-request",
    generation: 0,
    term: 1n,
    beginLsn: BigInt(begin) as Lsn,
    endLsn: BigInt(end) as Lsn,
    commitLsn: LSN0,
    truncateLsn: LSN0,
    walData: new Uint8Array(end - begin),
    ...change,
  };
}

function setUp(flush: FlushPolicy = { flushOnCommit: true, minFlushGapMs: 0.5 }, replyCapacity = 16) {
  const target = new RecordingTarget();
  const queue = new ProposerQueue(10_000, 2 ** 40);
  const [repliesIn, replies] = channel<AcceptorMessage | FeedbackMarker>(replyCapacity);
  const clock = new FakeClock();
  const measures = new AcceptorMeasures(clock);
  const run = (): Promise<void> =>
    runAcceptorTask({ target, queue, replies: repliesIn, connectionId: 7, clock, flush, measures });
  const taken = (): AppendResponse[] => {
    const list: AppendResponse[] = [];
    for (let reply = replies.tryRecv(); reply !== undefined && reply !== CLOSED; reply = replies.tryRecv()) {
      if (reply !== "feedback" && reply.type === "append-response") list.push(reply);
    }
    return list;
  };
  return { target, queue, replies, clock, measures, run, taken };
}

// Aim: a batch costs one sync, and its reply covers all of it. Method: 1000 appends lie in the queue before the task
// starts.
test("appends queued at once are written together and synced once", async () => {
  const { target, queue, measures, run, taken } = setUp();
  for (let index = 0; index < 1000; index += 1) queue.trySend(append(index * 8, index * 8 + 8));
  queue.close();
  await run();
  expect(target.flushes).toBe(1);
  expect(target.flushLsn).toBe(8000n);
  expect(target.calls).toHaveLength(Math.ceil(1000 / COALESCED_REQUESTS_MAX) + 1);
  expect(measures.appendBatchSize.snapshot()).toMatchObject({ count: target.calls.length - 1, sum: 1000 });
  expect(measures.commitToAckSeconds.snapshot().count).toBe(0); // no transaction ended
  expect(taken()).toEqual([]); // closed: synced, and nobody waits for the reply
});

// Aim: a queue that runs empty is answered at once. Method: the task is left waiting; its replies are awaited.
test("an empty queue leads to a sync and a reply", async () => {
  const { target, queue, replies, run } = setUp();
  const running = run();
  queue.trySend(append(0, 8));
  queue.trySend(append(8, 16));
  expect(await replies.recv()).toMatchObject({ type: "append-response", flushLsn: 16n });
  queue.trySend(append(16, 16)); // a heartbeat is answered too
  expect(await replies.recv()).toMatchObject({ type: "append-response", flushLsn: 16n });
  expect(target.flushes).toBe(2);
  queue.close();
  await running;
  expect(target.flushes).toBe(2); // nothing dirty: no sync at the end
});

// Aim: a proposer that never pauses hears something each second. Method: every write refills the queue and moves the
// clock by 100 ms, so that the queue is never empty for five seconds.
test("a stream without gaps is answered at least each second", async () => {
  const { target, queue, replies, clock, run } = setUp({ flushOnCommit: false, minFlushGapMs: 0 });
  const repliedAt: number[] = [];
  let position = 8;
  target.onCall = (call) => {
    if (call === "flush-wal") repliedAt.push(clock.monotonicMs());
    clock.advance(100);
    if (clock.monotonicMs() >= 5000) queue.close();
    queue.trySend(append(position, position + 8));
    position += 8;
  };
  queue.trySend(append(0, 8));
  const running = run();
  while ((await replies.recv()) !== CLOSED);
  await running;
  const gaps = repliedAt.map((at, index) => at - (repliedAt[index - 1] ?? 0));
  expect(Math.max(...gaps)).toBeLessThanOrEqual(1100);
  expect(repliedAt.length).toBeGreaterThanOrEqual(4);
  expect(repliedAt.length).toBeLessThanOrEqual(7); // and no more often than that
});

// Aim: a waiting commit is synced without an empty queue, unless the node is catching up or has just synced. Method:
// the queue always holds the next append; the flag says that a transaction ended.
test.each([
  { name: "a transaction's end is synced at once", flushOnCommit: true, commit: 0n, gapMs: 1, flushes: 3 },
  { name: "not when it is switched off", flushOnCommit: false, commit: 0n, gapMs: 1, flushes: 0 },
  { name: "not while catching up", flushOnCommit: true, commit: 10_000n, gapMs: 1, flushes: 0 },
  { name: "not twice within the least gap", flushOnCommit: true, commit: 0n, gapMs: 0.2, flushes: 1 },
])("$name", async ({ flushOnCommit, commit, gapMs, flushes }) => {
  const { target, queue, clock, run } = setUp({ flushOnCommit, minFlushGapMs: 0.5 });
  let position = 8;
  const flushed: string[] = [];
  target.onCall = (call) => {
    if (call === "flush-wal") {
      flushed.push(call);
      return;
    }
    clock.advance(gapMs);
    target.transactionEnd = true;
    if (position < 24) queue.trySend(append(position, position + 8, { commitLsn: commit as Lsn }));
    else queue.trySend({ type: "vote-request", generation: 0, term: 1n });
    position += 8;
    if (position > 32) queue.close();
  };
  queue.trySend(append(0, 8, { commitLsn: commit as Lsn }));
  await run();
  // The last sync is that of the end of the stream, or of the queue running empty; it is not what is counted here.
  const beforeEnd = target.calls
    .slice(0, target.calls.indexOf("vote-request"))
    .filter((call) => call === "flush-wal");
  expect(beforeEnd).toHaveLength(flushes);
});

// Aim: the unsynced amount is bounded whatever comes. Method: large appends without a pause.
test("16 MiB of unsynced WAL lead to a sync", async () => {
  const { target, queue, run } = setUp({ flushOnCommit: false, minFlushGapMs: 0 });
  const piece = 128 * 1024;
  const count = (2 * UNFLUSHED_BYTES_MAX) / piece;
  for (let index = 0; index < count; index += 1) queue.trySend(append(index * piece, (index + 1) * piece));
  queue.close();
  await run();
  expect(target.flushes).toBe(2);
  const perWrite = COALESCED_BYTES_MAX / piece;
  expect(target.calls.filter((call) => call.startsWith("append"))).toHaveLength(count / perWrite);
});

// Aim: order is kept around what is not an append. Method: a vote between appends; calls are compared.
test("other messages are handled alone and in their place", async () => {
  const { target, queue, run } = setUp();
  queue.trySend(append(0, 8));
  queue.trySend(append(8, 16));
  queue.trySend({ type: "vote-request", generation: 0, term: 1n });
  queue.trySend(append(16, 24));
  queue.close();
  await run();
  expect(target.calls).toEqual(["append 0-8 8-16", "vote-request", "append 16-24", "flush-wal"]);
});

// Aim: an outdated proposer gets its one reply and costs no sync. Method: an append of a lower term.
test("a reply that only names a higher term is no reason to sync", async () => {
  const { target, queue, replies, run } = setUp();
  target.term = 5n;
  const running = run();
  queue.trySend(append(0, 8));
  expect(await replies.recv()).toMatchObject({ term: 5n, flushLsn: 0n });
  queue.close();
  await running;
  expect(target.flushes).toBe(0);
});

// Aim: what was written is synced on every way out but cancellation. Method: the four ways out, with a dirty log.
test("the end of the stream, closed replies and a refusal sync first, a cancellation does not", async () => {
  const ended = setUp();
  ended.queue.trySend(append(0, 8));
  ended.queue.close();
  await ended.run();
  expect(ended.target.calls).toEqual(["append 0-8", "flush-wal"]);

  const unread = setUp();
  unread.replies.close();
  unread.queue.trySend(append(0, 8));
  unread.queue.trySend({ type: "vote-request", generation: 0, term: 1n });
  unread.queue.trySend(append(8, 16));
  await unread.run();
  expect(unread.target.calls).toEqual(["append 0-8", "vote-request", "flush-wal"]);

  const refused = setUp();
  refused.target.onCall = (call) => {
    if (call === "append 99-100") throw new AcceptorError("ERR_ACCEPTOR_GAP", "gap");
  };
  refused.queue.trySend(append(0, 8));
  refused.queue.trySend({ type: "vote-request", generation: 0, term: 1n });
  refused.queue.trySend(append(99, 100));
  expect(await codeOf(refused.run())).toBe("ERR_ACCEPTOR_GAP");
  expect(refused.target.calls.at(-1)).toBe("flush-wal");
  expect(refused.queue.trySend(append(0, 8))).toBe("closed");
  expect(refused.replies.closed || refused.replies.size > 0).toBe(true);

  const cancelled = setUp();
  cancelled.target.onCall = () => cancelled.target.cancel.abort();
  cancelled.queue.trySend(append(0, 8));
  cancelled.queue.trySend(append(8, 16));
  await cancelled.run();
  expect(cancelled.target.calls).toEqual(["append 0-8 8-16"]);
  for (const { target } of [ended, unread, refused, cancelled]) expect(target.registry.size).toBe(0);
});

// Aim: a full reply queue stops the task, and only that. Method: one slot; the queue of messages keeps its rest.
test("a reply queue that nobody empties stops the task until it is closed", async () => {
  const { target, queue, replies, run } = setUp({ flushOnCommit: false, minFlushGapMs: 0 }, 1);
  const second = new Promise<void>((resolve) => {
    target.onCall = () => {
      if (target.calls.length === 2) resolve();
    };
  });
  for (let index = 0; index < 5; index += 1) queue.trySend({ type: "vote-request", generation: 0, term: 1n });
  const running = run();
  await second;
  await new Promise(setImmediate); // a third call, if there were one, would have been made by now
  expect(target.calls).toHaveLength(2); // one reply in the queue, one waiting to get in
  expect(queue.size).toBe(3);
  replies.close();
  await running;
  expect(target.registry.size).toBe(0);
});

// Aim: a receiver counts as streaming from the election on. Method: its phase is read inside the calls.
test("a receiver is voting until its proposer is elected", async () => {
  const { target, queue, run } = setUp();
  const phases: string[] = [];
  target.onCall = () => void phases.push(target.registry.list()[0]?.phase ?? "none");
  queue.trySend({ type: "vote-request", generation: 0, term: 1n });
  queue.trySend({ type: "elected", generation: 0, term: 1n, startStreamingAt: LSN0, history: [] });
  queue.trySend(append(0, 8));
  queue.close();
  await run();
  expect(phases).toEqual(["voting", "streaming", "streaming", "streaming"]);
});
