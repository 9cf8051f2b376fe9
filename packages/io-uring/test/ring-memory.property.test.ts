/**
 * Who owns a buffer: the kernel from submit until the completion has been reaped, also through a cancel, a collection
 * of garbage, and the end of the ring.
 *
 * URING_RUNS makes it as long as one likes (`URING_RUNS=20000 npm run test:native-sanitizers` for a night).
 */
import { writeSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { expect, test } from "vitest";
import { addressOf, COMPLETION_WORDS, errno, ForeignRing, OPCODE, Ring, SQE } from "@millrace/io-uring";
import { Files, pages, whyNoUring } from "./fixtures.js";

const RUNS = Number(process.env["URING_RUNS"] ?? 40);
const BUFFERS = 8;
const BYTES = 4096;
const POISON = 0xee;
const POISONED = Buffer.alloc(BYTES, POISON);
const CANCEL = 1000;
const CANCELLED: readonly number[] = [errno("ECANCELED"), errno("EINTR")];

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

type Kind = "file" | "fifo";
interface Target {
  readonly bytes: Uint8Array;
  readonly address: number;
  busyWith: Kind | undefined;
  block: number;
}

/** A ring, a file whose block n is full of n, a FIFO that delivers only when fed, and eight buffers. */
class World implements Disposable {
  readonly #files = new Files();
  readonly ring: Ring = Ring.create({ entries: 4 });
  readonly #foreign = ForeignRing.attach(this.ring.id);
  readonly #file: number;
  readonly #fifo: number;
  readonly buffers: readonly Target[];
  #isForeign = false;
  #cancels = 0;

  constructor() {
    const blocks = Uint8Array.from({ length: 16 * BYTES }, (_, at) => Math.floor(at / BYTES));
    this.#file = this.#files.file(blocks).fd;
    this.#fifo = this.#files.fifo().fd;
    const memory = pages(1).fill(POISON);
    this.buffers = Array.from({ length: BUFFERS }, (_, index) => {
      const bytes = memory.subarray(2 * index * BYTES, (2 * index + 1) * BYTES);
      return { bytes, address: addressOf(bytes), busyWith: undefined, block: 0 };
    });
  }

  read(kind: Kind, block: number, isAsync: boolean): void {
    const index = this.buffers.findIndex(({ busyWith }) => busyWith === undefined);
    const buffer = this.buffers[index];
    if (buffer === undefined) return;
    const flags = isAsync ? SQE.async : 0;
    const [fd, offset] = kind === "file" ? [this.#file, block * BYTES] : [this.#fifo, 0];
    const length = kind === "file" ? BYTES : 1;
    if (!this.ring.prepare(OPCODE.read, flags, fd, offset, buffer.address, length, 0, 0, index, 0)) return;
    Object.assign(buffer, { busyWith: kind, block });
  }

  cancel(index: number): void {
    if (this.ring.prepareCancel(index, 0, CANCEL + index, 0)) this.#cancels += 1;
  }

  feed(): void {
    writeSync(this.#fifo, "x");
  }

  reap(): void {
    this.#isForeign = !this.#isForeign;
    const out = new Int32Array(3 * COMPLETION_WORDS);
    const count = (this.#isForeign ? this.#foreign : this.ring).reap(out, 3);
    for (let at = 0; at < count * COMPLETION_WORDS; at += COMPLETION_WORDS)
      this.#complete(out[at] ?? -1, out[at + 2] ?? 0);
  }

  #complete(user: number, result: number): void {
    if (user >= CANCEL) {
      this.#cancels -= 1;
      expect([0, errno("ENOENT"), errno("EALREADY")]).toContain(result);
      return;
    }
    const buffer = this.buffers[user];
    if (buffer?.busyWith === undefined)
      throw new Error(`a completion for buffer ${user}, which is not in flight`);
    if (result >= 0) {
      const isFile = buffer.busyWith === "file";
      expect(result).toBe(isFile ? BYTES : 1);
      const wanted = isFile ? buffer.block : "x".charCodeAt(0);
      expect(Buffer.alloc(result, wanted).equals(buffer.bytes.subarray(0, result))).toBe(true);
    } else expect(CANCELLED).toContain(result);
    buffer.bytes.fill(POISON);
    buffer.busyWith = undefined;
  }

  /** Nobody writes to a buffer that is not in flight. */
  check(): void {
    for (const { bytes, busyWith } of this.buffers)
      if (busyWith === undefined) expect(POISONED.equals(bytes)).toBe(true);
  }

  /**
   * Cancels everything and waits for what is left, then closes. A cancel may miss a request that is just going from a worker
   * of the kernel's to its poll (ENOENT), and such a read of the FIFO would never end: what is left is fed.
   */
  [Symbol.dispose](): void {
    this.ring.submit();
    for (const [index, { busyWith }] of this.buffers.entries()) {
      if (busyWith === undefined) continue;
      while (!this.ring.prepareCancel(index, 0, CANCEL + index, 0)) this.ring.submit();
      this.#cancels += 1;
    }
    this.ring.submit();
    for (const { busyWith } of this.buffers) if (busyWith === "fifo") this.feed();
    while (this.#cancels > 0 || this.buffers.some(({ busyWith }) => busyWith !== undefined)) {
      this.ring.submitAndWait(1);
      this.reap();
    }
    this.ring.close();
    this.check();
    this.#files[Symbol.dispose]();
  }
}

const steps = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        kind: fc.constantFrom("file" as const, "fifo" as const),
        block: fc.nat(15),
        isAsync: fc.boolean(),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("cancel" as const), index: fc.nat(BUFFERS - 1) }),
    },
    {
      weight: 12,
      arbitrary: fc.record({ kind: fc.constantFrom("submit" as const, "reap" as const, "feed" as const) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("collect" as const) }) },
  ),
  { maxLength: 80, size: "max" },
);

// Aim: see above. Method: random reads of a file and of a FIFO into poisoned buffers, random cancels, feeding, reaping
// on both sides and garbage collections; after each step every buffer that is not in flight still holds its poison.
test.skipIf(whyNoUring !== undefined)(
  "a buffer is the kernel's until its own completion, and no longer",
  () => {
    fc.assert(
      fc.property(steps, (steps) => {
        using world = new World();
        for (const step of steps) {
          if (step.kind === "file" || step.kind === "fifo") world.read(step.kind, step.block, step.isAsync);
          else if (step.kind === "cancel") world.cancel(step.index);
          else if (step.kind === "submit") world.ring.submit();
          else if (step.kind === "reap") world.reap();
          else if (step.kind === "feed") world.feed();
          else collectGarbage();
          world.check();
        }
      }),
      { numRuns: RUNS },
    );
  },
  600_000,
);
