import { spawnSync } from "node:child_process";
import { closeSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { addressOf, armFault, disarmFaults, errno, ForeignRing, OPCODE, Ring } from "@millrace/io-uring";
import { Files, prepareNop, reap, run, whyNoUring } from "./fixtures.js";

const EIO = errno("EIO");
/** What a thread is doing, for the test that has to hit it in the middle of a wait. */
const hasTaskFiles = existsSync("/proc/self/syscall");

describe.skipIf(whyNoUring !== undefined)(`a ring whose kernel fails ${whyNoUring ?? ""}`, () => {
  afterEach(() => {
    disarmFaults();
  });

  test("interrupted waits and submits go on until they are done", () => {
    using ring = Ring.create({ entries: 4 });
    prepareNop(ring, 1);
    armFault({ operation: "enter", times: 3, result: errno("EINTR") });
    expect(ring.submitAndWait(1)).toBe(1);
    expect(reap(ring)).toEqual([{ user: 1, result: 0 }]);
    prepareNop(ring, 2);
    armFault({ operation: "enter", times: 3, result: errno("EINTR") });
    expect(ring.submit()).toBe(1);
    armFault({ operation: "enter", times: 3, result: errno("EINTR") });
    expect(ForeignRing.attach(ring.id).wait(1)).toBe(0);
  });

  // Aim: a wait that a signal ended after the kernel took the entry is not over; the kernel answers with the number of
  // entries then, not with EINTR. Method: a process of its own, as the signal has to hit the thread in the ring.
  test.skipIf(!hasTaskFiles)("a signal does not end a wait", () => {
    using files = new Files();
    const child = fileURLToPath(new URL("signal-child.mjs", import.meta.url));
    const done = spawnSync(process.execPath, [child, files.fifo().path], { encoding: "utf8" });
    expect(done).toMatchObject({ status: 0, stdout: "submitted 1, reaped 1\nsignal\n", stderr: "" });
  });

  test("a refused submit leaves the entries for the next one", () => {
    using ring = Ring.create({ entries: 4 });
    prepareNop(ring, 1);
    prepareNop(ring, 2);
    const again = errno("EAGAIN");
    armFault({ operation: "enter", result: again });
    expect(ring.submit()).toBe(again);
    expect(ring.pending).toBe(2);
    expect(run(ring)).toHaveLength(2);
    armFault({ operation: "enter", result: EIO });
    expect(ring.submitAndWait(0)).toBe(0); // nothing to do: the kernel is not entered
    expect(ForeignRing.attach(ring.id).wait(1)).toBe(EIO);
  });

  test("an entry that the kernel refuses stops the batch for the kernel, not for the caller", () => {
    using ring = Ring.create({ entries: 8 });
    prepareNop(ring, 1);
    ring.prepare(200, 0, -1, 0, 0, 0, 0, 0, 2, 0); // no such opcode
    prepareNop(ring, 3);
    expect(ring.submit()).toBe(3);
    expect(reap(ring)).toEqual([
      { user: 1, result: 0 },
      { user: 2, result: errno("EINVAL") },
      { user: 3, result: 0 },
    ]);
  });

  test("a descriptor closed under the ring is an errno, and the ring still closes", () => {
    const ring = Ring.create({ entries: 2 });
    closeSync(ring.fd);
    prepareNop(ring, 1);
    const bad = errno("EBADF");
    expect(ring.submit()).toBe(bad);
    expect(ring.submitAndWait(1)).toBe(bad);
    expect(ring.registerFiles([0])).toBe(bad);
    expect(ForeignRing.attach(ring.id).wait(1)).toBe(bad);
    expect(reap(ring)).toEqual([]);
    ring.close();
  });

  test("refused registrations change nothing", () => {
    using ring = Ring.create({ entries: 2 });
    const memory = new Uint8Array(new SharedArrayBuffer(4096));
    armFault({ operation: "register", result: errno("ENOMEM") });
    expect(ring.registerBuffers([memory])).toBe(errno("ENOMEM"));
    expect(ring.registeredBuffers).toBe(0);
    expect(ring.registerBuffers([memory])).toBe(0);
    armFault({ operation: "register", result: EIO });
    expect(ring.unregisterBuffers()).toBe(EIO);
    expect(ring.registeredBuffers).toBe(1);
  });

  test("a completion can be made to fail or to fall short, whoever reaps it in this thread", () => {
    using files = new Files();
    using ring = Ring.create({ entries: 4 });
    const { fd } = files.file(new Uint8Array(4096));
    const target = new Uint8Array(new SharedArrayBuffer(4096));
    const read = (user: number): void => {
      ring.prepare(OPCODE.read, 0, fd, 0, addressOf(target), 4096, 0, 0, user, 0);
    };
    armFault({ operation: "completion", nth: 2, times: 2, result: EIO });
    for (let user = 1; user <= 4; user++) read(user);
    expect(run(ring).map(({ result }) => result)).toEqual([4096, EIO, EIO, 4096]);
    armFault({ operation: "completion", result: 512 });
    read(5);
    expect(ring.submitAndWait(1)).toBe(1);
    expect(reap(ForeignRing.attach(ring.id))).toEqual([{ user: 5, result: 512 }]);
    armFault({ operation: "completion", result: EIO });
    disarmFaults();
    read(6);
    expect(run(ring)).toEqual([{ user: 6, result: 4096 }]);
  });
});
