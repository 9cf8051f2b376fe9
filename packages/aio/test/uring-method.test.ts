/**
 * Method io_uring: what goes into the ring, in which order completions are taken out, and what if there is no ring.
 *
 * Completions are pretended by a list in place of a ring, which is how every order of the two halves of a linked write is
 * produced, and a kernel that overwrites its queue as soon as it may.
 */
import { constants } from "node:os";

import { armFault, disarmFaults, OPCODE, Ring, SQE } from "@millrace/io-uring";
import type { RingQueues } from "@millrace/io-uring";
import { afterEach, describe, expect, test, vi } from "vitest";

import { Completer } from "../src/completion.js";
import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import { HandleView } from "../src/handle-view.js";
import type { IoHandle } from "../src/io-handle.js";
import { HANDLE } from "../src/layout.js";
import { chooseMethod } from "../src/method-choice.js";
import { drainRing, LINKED_PART, OPERATION_PART, SYNC_PART } from "../src/methods/uring-completions.js";
import type { Completions } from "../src/methods/uring-completions.js";
import { createIoReturn } from "../src/result.js";
import { AioSystem } from "../src/system.js";
import { openThread } from "../src/thread-context.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

const { EIO, ENOSPC, ECANCELED } = constants.errno;

/** A completion queue of our own: [handle, user data high, result]. */
class ListedCompletions implements Completions {
  readonly #list: (readonly [number, number, number])[];
  /** Called when the kernel would be told that completions were seen. */
  onAdvance: ((count: number) => void) | undefined;

  constructor(list: readonly (readonly [number, number, number])[]) {
    this.#list = [...list];
  }

  get ready(): number {
    return this.#list.length;
  }

  peek(out: Int32Array, max: number): number {
    const some = this.#list.slice(0, max);
    for (const [index, completion] of some.entries()) out.set([...completion, 0], index * 4);
    return some.length;
  }

  advance(count: number): void {
    this.onAdvance?.(count);
    this.#list.splice(0, count);
  }
}

/** Another thread's way to complete a manual world's I/O as if a ring had it. */
function drainInto(world: World, ring: Completions): number {
  const context = openThread(world.system.shared, world.system.registry);
  const view = new HandleView(context.table, context.segments, -1);
  return drainRing(
    { ...context, completer: new Completer(context, world.system.registry, view, 4000, -1) },
    ring,
  );
}

const userHigh = (world: World, handle: number): number => world.backend.table.generationLow(handle);

describe("taking completions", () => {
  // Aim: a result is in its handle before the kernel may use the slot again. Method: "the kernel" overwrites everything
  // as soon as it is told; 40 completions, so that two passes are needed.
  test("records every result before the queue is told", async () => {
    await using world = new World("manual", { concurrency: 64 });
    const { backend } = world;
    using scope = backend.openScope();
    const handles: number[] = [];
    for (let at = 0; at < 40; at++) {
      const handle = backend.acquire(scope);
      handles.push(handle.id);
      world.read(handle, at, at);
    }
    const list = handles.map((handle, at) => [handle, userHigh(world, handle), 1000 + at] as const);
    const ring = new ListedCompletions(list);
    const advances: number[] = [];
    ring.onAdvance = (count) => {
      const from = advances.reduce((sum, each) => sum + each, 0);
      for (const handle of handles.slice(from, from + count)) {
        expect(backend.table.state(handle)).toBe(HANDLE_STATE.completedIo);
      }
      advances.push(count);
    };
    expect(drainInto(world, ring)).toBe(40);
    expect(advances).toEqual([32, 8]);
    for (const [at, handle] of handles.entries()) {
      expect(backend.table.get(handle, HANDLE.rawResult)).toBe(1000 + at);
      expect(backend.done({ handle, generation: backend.table.generation(handle) })).toBe(true);
    }
  });

  // Aim: strays change nothing. Method: an unknown handle, an idle one, an earlier life's, and one that is met twice.
  test("ignores completions of earlier lives and of no handle", async () => {
    await using world = new World("manual", { concurrency: 4 });
    const { backend } = world;
    using scope = backend.openScope();
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    world.read(handle, 0, 0);
    const now = userHigh(world, ref.handle);
    const strays = [
      [999_999, 1, 5],
      [-1, 1, 5],
      [3, userHigh(world, 3), 5],
      [ref.handle, now - 1, 5],
      [ref.handle, now + 1, 5],
    ] as const;
    expect(drainInto(world, new ListedCompletions(strays))).toBe(0);
    expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.submitted);
    const twice = [ref.handle, now, BLOCK_BYTES] as const;
    world.backend.table.words[backend.table.at(ref.handle) + HANDLE.partsLeft] = OPERATION_PART;
    expect(drainInto(world, new ListedCompletions([twice, twice]))).toBe(1);
    expect(backend.done(ref)).toBe(true);
  });
});

describe("a write linked to its sync", () => {
  const whole = BLOCK_BYTES;
  // What the two halves say, and what the I/O then comes to.
  const rows = [
    { name: "both fine", write: whole, sync: 0, status: "ok", error: 0, result: whole },
    { name: "a failed write", write: -EIO, sync: -ECANCELED, status: "error", error: EIO, result: 0 },
    { name: "a short write", write: 4096, sync: -ECANCELED, status: "ok", error: 0, result: 4096 },
    { name: "nothing written", write: 0, sync: -ECANCELED, status: "ok", error: 0, result: 0 },
    { name: "a failed sync", write: whole, sync: -EIO, status: "error", error: EIO, result: 0 },
    { name: "no space at the sync", write: whole, sync: -ENOSPC, status: "error", error: ENOSPC, result: 0 },
    { name: "a write given up", write: -ECANCELED, sync: -ECANCELED, status: "ok", error: 0, result: whole },
    { name: "a sync given up", write: whole, sync: -ECANCELED, status: "ok", error: 0, result: whole },
  ] as const;
  const orders = [
    ["write", "sync"],
    ["sync", "write"],
  ] as const;

  // Aim: any order, one outcome, and never before both have arrived. Method: each half by itself; the first is also seen
  // twice, as by a second reaper after the first one died.
  test.each(rows.flatMap((row) => orders.map((order) => ({ row, order, first: order[0] }))))(
    "$row.name, $first first",
    async ({ row, order }) => {
      const { write, sync, status, error, result } = row;
      await using world = new World("manual", { concurrency: 2 });
      const { backend } = world;
      using scope = backend.openScope();
      const slot = createIoReturn();
      const handle = backend.acquire(scope, slot);
      const ref = handle.ref();
      handle
        .setTarget(FILE_TARGET, [world.lease.fd, world.lease.slot])
        .addCallback(FILE_CALLBACK)
        .startWritev(world.lease, [{ segment: 0, offsetBytes: 0, lengthBytes: whole }], 0, "data");
      const { table } = backend;
      table.words[table.at(ref.handle) + HANDLE.partsLeft] = OPERATION_PART | LINKED_PART;
      const user = userHigh(world, ref.handle);
      const halves = {
        write: [ref.handle, user, write],
        sync: [ref.handle, user | SYNC_PART, sync],
      } as const;
      for (let time = 0; time < 2; time++) {
        expect(drainInto(world, new ListedCompletions([halves[order[0]]]))).toBe(0);
        expect(table.state(ref.handle)).toBe(HANDLE_STATE.submitted);
        expect(backend.done(ref)).toBe(false);
      }
      expect(drainInto(world, new ListedCompletions([halves[order[1]]]))).toBe(1);
      expect(backend.done(ref)).toBe(true);
      expect(slot.result).toMatchObject({ status, error, result });
    },
  );
});

describe.skipIf(!METHODS.includes("io_uring"))("with a ring", () => {
  afterEach(() => {
    vi.restoreAllMocks();
    disarmFaults();
  });

  /** Opcodes and flags of the entries that the kernel is shown from now on. */
  function watchEntries(): { opcode: number; flags: number }[] {
    const entries: { opcode: number; flags: number }[] = [];
    const claimed: number[] = [];
    using ring = Ring.create({ entries: 1 });
    const prototype = Object.getPrototypeOf(ring.queues) as RingQueues;
    const claim = Reflect.get(prototype, "claim");
    const publish = Reflect.get(prototype, "publish");
    vi.spyOn(prototype, "claim").mockImplementation(function (this: RingQueues) {
      const word = Reflect.apply(claim, this, []);
      claimed.push(word);
      return word;
    });
    vi.spyOn(prototype, "publish").mockImplementation(function (this: RingQueues) {
      for (const word of claimed.splice(0)) {
        const first = this.entries[word] as number;
        entries.push({ opcode: first & 0xff, flags: (first >> 8) & 0xff });
      }
      Reflect.apply(publish, this, []);
    });
    return entries;
  }

  // Aim: buffered I/O above a depth of four does not wait in the submission. Method: a batch of eight from idle, flagged
  // as buffered and not; the entries say which went to a kernel worker.
  test("buffered I/O is offloaded when more than four are in flight", async () => {
    await using world = new World("io_uring", { concurrency: 32 });
    const { backend } = world;
    const entries = watchEntries();
    using scope = backend.openScope();
    for (const isBuffered of [true, false]) {
      const refs: WaitRef[] = [];
      backend.enterBatch();
      for (let at = 0; at < 8; at++) {
        const handle = backend.acquire(scope);
        refs.push(handle.ref());
        if (isBuffered) handle.flag("buffered");
        world.read(handle, at, at);
      }
      backend.exitBatch();
      for (const ref of refs) backend.wait(ref);
    }
    const offloaded = entries.map(({ flags }) => ((flags & SQE.async) === 0 ? 0 : 1));
    expect(offloaded).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  // Aim: one piece goes as READ, several as READV, a synced write as two linked entries.
  test("entries are what the I/O asks for", async () => {
    await using world = new World("io_uring", { concurrency: 8 });
    const { backend } = world;
    const entries = watchEntries();
    using scope = backend.openScope();
    const piece = { segment: 0, offsetBytes: 0, lengthBytes: BLOCK_BYTES };
    const next = { ...piece, offsetBytes: BLOCK_BYTES };
    const acquire = (): IoHandle =>
      backend.acquire(scope).setTarget(FILE_TARGET, [world.lease.fd, world.lease.slot]);
    acquire().startReadv(world.lease, [piece], 0);
    acquire().startReadv(world.lease, [piece, next], 0);
    const handle = acquire();
    const ref = handle.ref();
    world.words(0).fill(0);
    world.words(1).fill(1);
    handle.startWritev(world.lease, [piece], 0, "full");
    await backend.waitAsync(ref);
    expect(entries).toEqual([
      { opcode: OPCODE.read, flags: 0 },
      { opcode: OPCODE.readv, flags: 0 },
      { opcode: OPCODE.write, flags: SQE.link },
      { opcode: OPCODE.fsync, flags: 0 },
    ]);
  });

  // Aim: what the kernel says is passed on. Method: completions get other results as they are taken.
  test("a completion's error is the issuer's", async () => {
    await using world = new World("io_uring");
    const { backend } = world;
    using scope = backend.openScope();
    const slot = createIoReturn();
    armFault({ operation: "completion", result: -EIO });
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    world.read(handle, 1, 0);
    backend.wait(ref);
    expect(slot.result).toMatchObject({ status: "error", error: EIO });
  });

  // Aim: an I/O that the kernel gave up is done again and nobody sees it. Method: the first completion says ECANCELED.
  test.each(["ECANCELED", "EAGAIN", "EINTR"] as const)("%s from the kernel is repeated", async (name) => {
    await using world = new World("io_uring");
    const { backend } = world;
    using scope = backend.openScope();
    const slot = createIoReturn();
    armFault({ operation: "completion", result: -constants.errno[name] });
    const handle = backend.acquire(scope, slot);
    const ref = handle.ref();
    world.read(handle, 4, 0);
    backend.wait(ref);
    expect(slot.result).toMatchObject({ status: "ok", result: BLOCK_BYTES });
    expect(world.words(0)[0]).toBe(4);
  });

  // Aim: no ring, no harm: the next method runs, and the reason says what to do. Method: the setup call is refused.
  test.each(["EPERM", "ENOSYS", "ENOMEM", "EMFILE"] as const)(
    "a setup refused with %s means workers",
    async (name) => {
      armFault({ operation: "setup", times: 100, result: -constants.errno[name] });
      const choice = chooseMethod({});
      expect(choice.method).toBe("worker");
      expect(choice.fallbacks).toHaveLength(1);
      expect(choice.fallbacks[0]?.method).toBe("io_uring");
      expect(choice.fallbacks[0]?.reason).toMatch(new RegExp(`^${name}: .{20,}`, "u"));
      expect(() => chooseMethod({ method: "io_uring", required: true })).toThrow(
        expect.objectContaining({ code: "ERR_AIO_UNAVAILABLE" }) as Error,
      );
      await using system = AioSystem.create({ segments: [], ioWorkers: 1 });
      expect(system.choice.method).toBe("worker");
    },
  );
});
