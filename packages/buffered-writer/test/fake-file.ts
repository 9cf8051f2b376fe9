/**
 * A file in memory that records what is done to it, and fails or waits where it is told to; a clock that records how long
 * it was slept; and a writer on them.
 */
import { AlignedArena } from "@millrace/aligned-buffers";
import type { IoBuffer } from "@millrace/aligned-buffers";
import { setImmediate as turn } from "node:timers/promises";
import { expect } from "vitest";
import { BufferedWriter, FlushProbe } from "../src/index.js";
import type { BufferedWriterOptions, WriterClock } from "../src/index.js";

export function errno(code: string): Error {
  return Object.assign(new Error(`${code}, says the test`), { code });
}

/** What becomes of an operation: it fails with this, or waits for it first. */
type Act = Error | Promise<unknown>;

export class FakeFile implements AsyncDisposable {
  /** `W(offset,"bytes")`, `L(length)`, `D` for disposal, in their order. */
  readonly ops: string[] = [];
  content: Uint8Array = new Uint8Array(0);
  /** Writes that may be in flight at once. */
  depth = 1;
  readonly #acts: Act[] = [];
  #inFlight = 0;
  #isDisposed = false;

  /** The next operations do this, one after the other. */
  plan(...acts: Act[]): void {
    this.#acts.push(...acts);
  }

  async writeAllAt(buffer: IoBuffer, offset: number): Promise<void> {
    const bytes = Buffer.from(buffer.unsafeView());
    await this.#act(`W(${String(offset)},${show(bytes)})`, this.depth);
    buffer.verify();
    // As a disk would: what is written is what is in memory at the end.
    this.#grow(offset + bytes.length).set(buffer.unsafeView(), offset);
  }

  async setLength(length: number): Promise<void> {
    await this.#act(`L(${String(length)})`, 1);
    this.content = this.#grow(length).subarray(0, length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve();
    expect([this.#inFlight, this.#isDisposed], "disposed of once, with nothing in flight").toEqual([
      0,
      false,
    ]);
    this.#isDisposed = true;
    this.ops.push("D");
  }

  async #act(op: string, inFlightMax: number): Promise<void> {
    expect(this.#isDisposed).toBe(false);
    this.ops.push(op);
    this.#inFlight += 1;
    expect(this.#inFlight, `${op} with others in flight`).toBeLessThanOrEqual(inFlightMax);
    try {
      const act = this.#acts.shift();
      if (act instanceof Error) throw act;
      await act;
    } finally {
      this.#inFlight -= 1;
    }
  }

  #grow(length: number): Uint8Array {
    if (length > this.content.length) {
      const grown = new Uint8Array(length);
      grown.set(this.content);
      this.content = grown;
    }
    return this.content;
  }
}

/** Short contents as they are, long ones by their length. */
function show(bytes: Buffer): string {
  if (bytes.length > 16) return `${String(bytes.length)} bytes`;
  return `"${bytes.toString("latin1").replaceAll("\0", "\\0")}"`;
}

export class FakeClock implements WriterClock {
  readonly sleeps: number[] = [];
  /** Sleeps do not end by themselves. */
  isStopped = false;

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    this.sleeps.push(ms);
    if (!this.isStopped) return;
    await new Promise<void>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("woken")));
    });
  }
}

export interface Setup {
  readonly file: FakeFile;
  readonly arena: AlignedArena;
  readonly clock: FakeClock;
  readonly probe: FlushProbe;
  readonly writer: BufferedWriter<FakeFile>;
  /** Writes text. */
  readonly write: (text: string) => Promise<number>;
}

/** A writer with buffers of four bytes, unless said otherwise. */
export function setUp(options: Partial<BufferedWriterOptions> = {}, arenaBytes: number = 64 * 1024): Setup {
  const file = new FakeFile();
  file.depth = options.queueDepth ?? 1;
  const arena = new AlignedArena({ bytes: arenaBytes, alignment: 512, debug: true });
  const clock = new FakeClock();
  const probe = new FlushProbe();
  const writer = new BufferedWriter(file, arena, { capacity: 4, alignment: 4, clock, probe, ...options });
  const write = (text: string): Promise<number> => writer.write(Buffer.from(text, "latin1"));
  return { file, arena, clock, probe, writer, write };
}

/** Not settled after the microtask queue and two turns of the event loop. */
export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  promise.then(mark, mark);
  await turn();
  await turn();
  return !settled;
}

export async function settle(): Promise<void> {
  await turn();
  await turn();
}

/** What a call rejects with, taken at once so that nobody misses it; undefined if it does not reject. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return error;
  }
}

/** A promise and who ends it. */
export function latch(): { readonly done: Promise<void>; resolve(): void; reject(error: Error): void } {
  let resolve = (): void => undefined;
  let reject: (error: Error) => void = resolve;
  const done = new Promise<void>((onResolve, onReject) => ([resolve, reject] = [onResolve, onReject]));
  return { done, resolve: () => resolve(), reject: (error: Error) => reject(error) };
}
