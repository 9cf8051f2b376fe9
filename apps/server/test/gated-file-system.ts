/**
 * A file system whose fdatasync can be held: the disk of an acceptor that stops answering.
 *
 * Writes go through at once; only the confirmation that they are durable waits while the gate is closed. That is
 * what a commit must wait for, and nothing else in an acceptor may confirm in its place.
 */
import { nodeFileSystem } from "@millrace/wal-acceptor";
import type { FileSystem, OpenFile } from "@millrace/wal-acceptor";

/** One acceptor's disk. */
export class GatedDisk {
  readonly fileSystem: FileSystem;
  #isHeld = false;
  #waiting: (() => void)[] = [];
  #arrivals: (() => void)[] = [];

  constructor() {
    this.fileSystem = {
      ...nodeFileSystem,
      open: async (path, mode) => this.#gated(await nodeFileSystem.open(path, mode)),
    };
  }

  /** From now on no fdatasync returns. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Lets all go on. */
  release(): void {
    this.#isHeld = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Resolves once an fdatasync waits at the gate. */
  arrived(): Promise<void> {
    if (this.#waiting.length > 0) return Promise.resolve();
    return new Promise((resolve) => this.#arrivals.push(resolve));
  }

  #gated(file: OpenFile): OpenFile {
    return {
      pwritev: (buffers, offsetBytes) => file.pwritev(buffers, offsetBytes),
      pread: (target, offsetBytes) => file.pread(target, offsetBytes),
      fdatasync: async () => {
        if (this.#isHeld) {
          await new Promise<void>((resolve) => {
            this.#waiting.push(resolve);
            for (const tell of this.#arrivals.splice(0)) tell();
          });
        }
        await file.fdatasync();
      },
      fsync: () => file.fsync(),
      ftruncate: (lengthBytes) => file.ftruncate(lengthBytes),
      size: () => file.size(),
      close: () => file.close(),
    };
  }
}
