/** What the tests of rings share: whether they can run, files and FIFOs that go away, rings filled with one call. */
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMPLETION_WORDS, OPCODE, Ring, probeUring } from "@millrace/io-uring";

/** Why tests with a real ring are skipped; undefined if they run. */
export const whyNoUring: string | undefined = probeUring().available ? undefined : probeUring().reason;

/** A directory whose files are opened through it and closed with it. */
export class Files implements Disposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "io-uring-"));
  readonly #open = new Set<number>();

  /** A file with the given bytes, opened for reading and writing. */
  file(bytes: Uint8Array, flags = 0): { fd: number; path: string } {
    const path = join(this.directory, `file-${this.#open.size}`);
    writeFileSync(path, bytes);
    return { fd: this.open(path, constants.O_RDWR | flags), path };
  }

  open(path: string, flags: number): number {
    const fd = openSync(path, flags);
    this.#open.add(fd);
    return fd;
  }

  /** Undefined where the file system does not know the flags. */
  tryOpen(path: string, flags: number): number | undefined {
    try {
      return this.open(path, flags);
    } catch {
      return undefined;
    }
  }

  /** A FIFO open on both ends: a read of it stays in flight until something is written. */
  fifo(): { fd: number; path: string } {
    const path = join(this.directory, `fifo-${this.#open.size}`);
    execFileSync("mkfifo", [path]);
    return { fd: this.open(path, constants.O_RDWR), path };
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open) closeSync(fd);
    rmSync(this.directory, { recursive: true });
  }
}

// The types of WebAssembly come with the DOM's, which nothing else here has a use for.
declare const WebAssembly: {
  readonly Memory: new (shape: { shared: boolean; initial: number; maximum: number }) => {
    readonly buffer: SharedArrayBuffer;
  };
};

/** Page-aligned shared memory, in units of 64 KiB. */
export function pages(count: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new WebAssembly.Memory({ shared: true, initial: count, maximum: count }).buffer);
}

export interface Completion {
  readonly user: number;
  readonly result: number;
}

/** Takes what there is, at most `max`. */
export function reap(ring: { reap(out: Int32Array, max: number): number }, max = 64): Completion[] {
  const out = new Int32Array(max * COMPLETION_WORDS);
  const count = ring.reap(out, max);
  return Array.from({ length: count }, (_, index) => ({
    user: out[index * COMPLETION_WORDS] ?? -1,
    result: out[index * COMPLETION_WORDS + 2] ?? 0,
  }));
}

export function prepareNop(ring: Ring, user: number): boolean {
  return ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, user, 0);
}

/** Submits, waits for as many completions as entries were prepared, and takes them. */
export function run(ring: Ring): Completion[] {
  const count = ring.pending;
  const submitted = ring.submitAndWait(count);
  if (submitted !== count) throw new Error(`submitted ${submitted} of ${count}`);
  return reap(ring, count);
}
