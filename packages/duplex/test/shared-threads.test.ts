/** A shared duplex between real threads: streams, full rings, both directions at once, and threads that end. */
import { execFile } from "node:child_process";
import { on, once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { attachSharedDuplex, CLOSED, createSharedDuplex } from "../src/index.js";
import type { SharedDuplexEnd, SharedDuplexHandle } from "../src/index.js";
import { numbers } from "./shared-codecs.js";

const run = promisify(execFile);

interface Thread extends AsyncDisposable {
  readonly worker: Worker;
  readonly end: SharedDuplexEnd<number, number>;
  readonly told: () => Promise<unknown>;
  readonly exited: Promise<unknown>;
}

interface Task {
  readonly slots: number;
  readonly mode: string;
  readonly count?: number;
  readonly batch?: number;
  readonly initialCounter?: number;
  readonly mayBlock?: boolean;
}

function spawn(handle: SharedDuplexHandle, side: 0 | 1, { mode, count, batch }: Task): Worker {
  const workerData = { handle, side, mode, count, batch };
  return new Worker(new URL("shared-thread.mjs", import.meta.url), { workerData, execArgv: [] });
}

function start(task: Task): Thread {
  const { slots, initialCounter = 0, mayBlock = false } = task;
  const handle = createSharedDuplex({ slots, slotBytes: 8, initialCounter });
  const worker = spawn(handle, 1, task);
  const messages = on(worker, "message");
  return {
    worker,
    end: attachSharedDuplex(handle, 0, { codecs: numbers, peer: worker, mayBlock }),
    told: async () => ((await messages.next()).value as [unknown])[0],
    exited: once(worker, "exit"),
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  };
}

// Aim: a stream arrives whole and in order, across the counters' wrap. Method: a worker that blocks sends, this thread awaits.
test.each([0, 2 ** 31 - 3, -3])(
  "a worker's stream arrives in order (counters from %d)",
  async (initialCounter) => {
    await using thread = start({ slots: 8, mode: "send", count: 10_000, initialCounter });
    let expected = 0;
    for await (const value of thread.end) {
      if (value !== expected) expect(value).toBe(expected);
      expected += 1;
    }
    expect(expected).toBe(10_000);
    expect(await thread.end.recv()).toBe(CLOSED);
    await thread.exited;
    expect(thread.end.closeReason).toBe("peer-closed");
  },
);

// Aim: a full ring times a blocking sender out, and a receive lets it in. Method: four slots, this thread takes when told.
test("a sender in another thread times out on a full ring and is woken by a receive", async () => {
  await using thread = start({ slots: 4, mode: "fill", count: 4 });
  expect(await thread.told()).toEqual(["sent", "sent", "sent", "sent", "timeout"]);
  expect(await thread.end.recv()).toBe(0);
  expect(await thread.told()).toBe("sent");
  const rest = [await thread.end.recv(), await thread.end.recv(), await thread.end.recv()];
  expect(rest).toEqual([1, 2, 3]);
  expect([await thread.end.recv(), await thread.end.recv()]).toEqual([4, 5]);
  expect(await thread.told()).toBe("sent");
});

// Aim: the directions do not wait for each other. Method: 2000 values each way at once, awaited on both sides.
test("both directions can be busy at once", async () => {
  await using thread = start({ slots: 4, mode: "exchange", count: 2000 });
  const sending = (async () => {
    for (let value = 0; value < 2000; value++) await thread.end.send(value);
    thread.end.tx.close();
  })();
  let expected = 0;
  for await (const value of thread.end) expect(value).toBe(expected++);
  await sending;
  expect(expected).toBe(2000);
  expect(await thread.told()).toBe(2000);
});

// Aim: no wake-up is lost between awaited and blocking calls. Method: ping-pong, where a lost one would hang.
test("a ping-pong between an awaiting and a blocking thread goes on", async () => {
  await using thread = start({ slots: 2, mode: "echo" });
  for (let value = 0; value < 3000; value++) {
    await thread.end.send(value);
    expect(await thread.end.recv()).toBe(value);
  }
  thread.end.tx.close();
  expect(await thread.end.recv()).toBe(CLOSED);
});

// Aim: batches keep order and lose nothing. Method: this thread sends, and then receives, more than fits, in both roles.
test("batches between threads keep the order", async () => {
  const count = 50_000;
  const values = Array.from({ length: count }, (_, index) => index);
  await using receiver = start({ slots: 256, mode: "receive", batch: 100, mayBlock: true });
  for (let next = 0; next < count; next += receiver.end.trySendMany(values, next)) {
    expect(receiver.end.sendSync(next)).toBe("sent");
    next += 1;
  }
  receiver.end.tx.close();
  expect(await receiver.end.recv()).toBe(count);

  await using sender = start({ slots: 256, mode: "sendBatches", count, batch: 1000 });
  let expected = 0;
  const visit = (value: number): void => {
    if (value !== expected) expect(value).toBe(expected);
    expected += 1;
  };
  for await (const value of sender.end) {
    visit(value);
    sender.end.tryRecvMany(64, visit);
  }
  expect(expected).toBe(count);
  sender.end.trySend(7);
  expect(await sender.told()).toBe(7);
});

// Aim: a dead thread closes the ring, with what it had sent. Method: terminate it while this thread waits in both directions.
test("the death of the other thread ends waits with the reason", async () => {
  await using thread = start({ slots: 2, mode: "hang" });
  expect(await thread.end.recv()).toBe(1);
  await thread.end.send(0);
  // The first one lets the thread go on; it hangs no more, but has not closed either.
  await thread.exited;
  expect(await thread.end.recv()).toBe(CLOSED);
  expect(thread.end.closeReason).toBe("peer-died");
  expect(thread.end.trySend(1)).toBe("closed");

  await using hanging = start({ slots: 2, mode: "hang" });
  expect(await hanging.end.recv()).toBe(1);
  const receiving = hanging.end.recv();
  await hanging.worker.terminate();
  expect(hanging.end.closeReason, "no later than the runtime says so").toBe("peer-died");
  expect(await receiving).toBe(CLOSED);
});

// Aim: a worker that has ended before is noticed, too. Method: attach after its end.
test("attaching with a worker that has ended closes at once", async () => {
  const handle = createSharedDuplex({ slots: 2, slotBytes: 8 });
  const worker = spawn(handle, 1, { slots: 2, mode: "send", count: 0 });
  await once(worker, "exit");
  const other = createSharedDuplex({ slots: 2, slotBytes: 8 });
  const end = attachSharedDuplex(other, 0, { codecs: numbers, peer: worker });
  expect([await end.recv(), end.closeReason, end.trySend(1)]).toEqual([CLOSED, "peer-died", "closed"]);
});

// Aim: a wait keeps the process alive and nothing else does. Method: a process whose only activity is a wait for an
// unreferenced worker that answers late, and one that has given its wait up; both say how far they got.
test.each([
  ["answered", "received 42\n"],
  ["aborted", "aborted\n"],
])("a process lives exactly as long as its wait (%s)", async (mode, output) => {
  const script = fileURLToPath(new URL("shared-lifetime.mjs", import.meta.url));
  const { stdout } = await run(process.execPath, [script, mode]);
  expect(stdout).toBe(output);
});

// Aim: no wake-up is lost when both sides sleep and close at any moment. Method: many short lives of a ring of two slots, with
// a worker each that echoes, and closes from here after every number of values.
test("short lives end without a lost wake-up", async () => {
  for (let life = 0; life < 20; life++) {
    await using thread = start({ slots: 2, mode: "echo", initialCounter: 2 ** 31 - 1 - life });
    const sending = (async () => {
      for (let value = 0; value < life; value++) await thread.end.send(value);
      thread.end.tx.close();
    })();
    let expected = 0;
    for await (const value of thread.end) expect(value).toBe(expected++);
    await sending;
    expect(expected).toBe(life);
    await thread.exited;
  }
});
