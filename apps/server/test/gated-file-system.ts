/**
 * A file system whose durable writes and syncs of data can be held: the disk of an acceptor that stops answering.
 *
 * Bytes go to the disk at once; only the confirmation that they are durable waits while the gate is closed. That is
 * what a commit must wait for, and nothing else in an acceptor may confirm in its place.
 */
import { constants } from "node:fs";
import { IoEngine } from "@millrace/aio";
import { createFileSystem, ENGINE_FILES_MAX } from "@millrace/wal-acceptor";
import type { FileSystem } from "@millrace/wal-acceptor";

type FileDescriptor = Awaited<ReturnType<FileSystem["open"]>>;

/** One acceptor's disk. Close it after the acceptor. */
export class GatedDisk implements AsyncDisposable {
  readonly fileSystem: FileSystem;
  readonly #engine = IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false });
  #isHeld = false;
  #waiting: (() => void)[] = [];
  #arrivals: (() => void)[] = [];

  constructor() {
    const machine = createFileSystem(this.#engine);
    this.fileSystem = {
      ...machine,
      open: async (path, flags, mode, alignmentBytes) => {
        const file = await machine.open(path, flags, mode, alignmentBytes);
        return this.#gated(file, (flags & constants.O_DSYNC) !== 0);
      },
    };
  }

  /** From now on nothing becomes durable. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Lets all go on. */
  release(): void {
    this.#isHeld = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Resolves once something waits at the gate. */
  arrived(): Promise<void> {
    if (this.#waiting.length > 0) return Promise.resolve();
    return new Promise((resolve) => this.#arrivals.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.close();
  }

  #gated(file: FileDescriptor, isDataSync: boolean): FileDescriptor {
    return {
      read: (target, offsetBytes) => file.read(target, offsetBytes),
      write: async (source, offsetBytes) => {
        const written = await file.write(source, offsetBytes);
        if (isDataSync) await this.#gate();
        return written;
      },
      sync: async (dataOnly) => {
        if (dataOnly) await this.#gate();
        await file.sync(dataOnly);
      },
      truncate: (lengthBytes) => file.truncate(lengthBytes),
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  async #gate(): Promise<void> {
    if (!this.#isHeld) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      for (const tell of this.#arrivals.splice(0)) tell();
    });
  }
}
