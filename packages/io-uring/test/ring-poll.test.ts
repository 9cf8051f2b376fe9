import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { addressOf, errno, OPCODE, Ring } from "@millrace/io-uring";
import { Files, prepareNop, reap, whyNoUring } from "./fixtures.js";

async function outputOf(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const code = await new Promise((resolve) => child.on("close", resolve));
  return `${text}exit ${String(code)}`;
}

describe.skipIf(whyNoUring !== undefined)(`a poll ${whyNoUring ?? ""}`, () => {
  test("wakes the event loop when a request in flight completes", async () => {
    using files = new Files();
    using ring = Ring.create({ entries: 2 });
    const { fd } = files.fifo();
    const target = new Uint8Array(new SharedArrayBuffer(8));
    ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 8, 0, 0, 5, 0);
    ring.submit();
    const woken = new Promise((resolve) => {
      const poll = ring.onReadable(() => {
        resolve(reap(ring));
        poll.stop();
      });
    });
    writeSync(fd, "x");
    expect(await woken).toEqual([{ user: 5, result: 1 }]);
  });

  // Aim: what another thread has reaped is no reason to call. Method: two rings become readable in one turn of the
  // loop; whichever callback is first empties both, so the other one must not come.
  test("does not call for an empty queue", async () => {
    using one = Ring.create({ entries: 2 });
    using two = Ring.create({ entries: 2 });
    let calls = 0;
    const called = new Promise<void>((resolve) => {
      for (const ring of [one, two]) {
        ring.onReadable(() => {
          calls += 1;
          reap(one);
          reap(two);
          setImmediate(resolve);
        });
        prepareNop(ring, 1);
        ring.submit();
      }
    });
    await called;
    expect(calls).toBe(1);
  });

  test("calls again while something is left, and what the callback queues runs before the next call", async () => {
    using ring = Ring.create({ entries: 4 });
    for (let user = 1; user <= 3; user++) prepareNop(ring, user);
    ring.submit();
    const events: string[] = [];
    await new Promise<void>((resolve) => {
      ring.onReadable(() => {
        const [first] = reap(ring, 1);
        events.push(`call ${first?.user}`);
        void Promise.resolve().then(() => events.push("microtask"));
        if (first?.user === 3) resolve();
      });
    });
    expect(events).toEqual(["call 1", "microtask", "call 2", "microtask", "call 3", "microtask"]);
  });

  // Aim: completions that the kernel keeps back are a reason to call. Method: the callback empties the queue of two
  // to the last entry, and the other eighteen are not in it then.
  test("calls for completions that have overflowed", async () => {
    using ring = Ring.create({ entries: 1 });
    for (let user = 0; user < 20; user++) {
      prepareNop(ring, user);
      ring.submit();
    }
    const users: number[] = [];
    await new Promise<void>((resolve) => {
      ring.onReadable(() => {
        users.push(...reap(ring, 2).map(({ user }) => user));
        if (users.length === 20) resolve();
      });
    });
    expect(users).toEqual(Array.from({ length: 20 }, (_, user) => user));
  });

  test("one poll a ring, stopped as often as one likes, ended by close", () => {
    const ring = Ring.create({ entries: 2 });
    const poll = ring.onReadable(() => undefined);
    expect(() => ring.onReadable(() => undefined)).toThrow(
      expect.objectContaining({ code: "ERR_URING_POLL", errno: errno("EBUSY") }) as Error,
    );
    poll.stop();
    poll.stop();
    poll.ref().unref();
    const second = ring.onReadable(() => undefined);
    ring.close();
    second.unref();
    second.stop();
  });

  test("a ring may be closed inside its own callback", async () => {
    const ring = Ring.create({ entries: 2 });
    await new Promise<void>((resolve) => {
      ring.onReadable(() => {
        ring.close();
        resolve();
      });
      prepareNop(ring, 1);
      ring.submit();
    });
    expect(ring.isClosed).toBe(true);
  });

  // Aim: ref and unref decide whether a process lives on. Method: the child's last hope is an unreferenced timer, which
  // fires only if something else keeps the loop alive; it lets the request in flight complete.
  test("a referenced poll keeps its process alive, an unreferenced one does not", async () => {
    using files = new Files();
    const { path } = files.fifo();
    const child = fileURLToPath(new URL("poll-child.mjs", import.meta.url));
    expect(await outputOf(child, "ref", path)).toBe("woken\nexit 0");
    expect(await outputOf(child, "unref", path)).toBe("exit 0");
    expect(await outputOf(child, "ref-again", path)).toBe("woken\nexit 0");
  });

  test("an error thrown in the callback is an uncaught exception of the process", async () => {
    const child = fileURLToPath(new URL("poll-child.mjs", import.meta.url));
    expect(await outputOf(child, "throw", "")).toBe("caught: from the callback\nexit 0");
  });
});
