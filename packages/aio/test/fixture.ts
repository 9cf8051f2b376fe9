/**
 * What the tests of this package stand on: a system with some memory, a file whose every block says which it is, and a
 * check that nothing was left behind.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemorySegment } from "@millrace/aligned-buffers";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { probeUring } from "@millrace/io-uring";
import { expect } from "vitest";

import type { AioBackend } from "../src/backend.js";
import type { BackendOptions } from "../src/backend-options.js";
import type { FileLease } from "../src/file-table.js";
import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import type { IoHandle } from "../src/io-handle.js";
import type { MethodName } from "../src/method.js";
import { ManualController } from "../src/methods/manual.js";
import { AioSystem } from "../src/system.js";
import type { AioSystemOptions } from "../src/system.js";

export const BLOCK_BYTES = 8192;
export const BLOCKS = 64;
export const MEMORY_BYTES: number = 4 * 1024 * 1024;

/** Methods that run here; io_uring only where the kernel allows it. */
export const METHODS: readonly MethodName[] = probeUring().available
  ? ["sync", "worker", "io_uring"]
  : ["sync", "worker"];

/** A file of 64 blocks; each 32-bit word of a block is the block's number. */
export class BlockFile implements Disposable {
  readonly directory: string;
  readonly path: string;
  readonly fd: number;

  constructor(blocks: number = BLOCKS, flags: string | number = "r+") {
    this.directory = mkdtempSync(join(tmpdir(), "millrace-aio-"));
    this.path = join(this.directory, "blocks");
    const created = openSync(this.path, "w");
    for (let block = 0; block < blocks; block++) {
      const words = new Uint32Array(BLOCK_BYTES / 4).fill(block);
      writeSync(created, new Uint8Array(words.buffer));
    }
    closeSync(created);
    this.fd = openSync(this.path, flags);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A system, a backend of it and a file. Disposing checks that every handle is idle. */
export class World implements AsyncDisposable {
  readonly memory: MemorySegment;
  readonly system: AioSystem;
  readonly backend: AioBackend;
  readonly file: BlockFile;
  readonly lease: FileLease;
  readonly warnings: string[] = [];
  #controller: ManualController | undefined;

  constructor(
    method: MethodName,
    options: Partial<AioSystemOptions> = {},
    backendOptions: BackendOptions = {},
    memoryBytes: number = MEMORY_BYTES,
  ) {
    this.memory = createMemorySegment(memoryBytes);
    this.system = AioSystem.create({ method, required: true, segments: [this.memory.memory], ...options });
    this.backend = this.system.attach({
      mayBlock: true,
      onWarning: (code) => void this.warnings.push(code),
      ...backendOptions,
    });
    this.file = new BlockFile();
    this.lease = this.backend.openLease(this.file.fd);
  }

  /** Completes manual I/O, as another thread would. */
  get controller(): ManualController {
    this.#controller ??= new ManualController(this.system.shared, this.system.registry);
    return this.#controller;
  }

  /** The memory of block `slot`, as words. */
  words(slot: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, slot * BLOCK_BYTES, BLOCK_BYTES / 4);
  }

  /** Starts a read of `count` blocks from `block` on into the memory from `slot` on. */
  read(handle: IoHandle, block: number, slot: number, count = 1): void {
    handle
      .setTarget(FILE_TARGET, [this.lease.fd, this.lease.slot])
      .addCallback(FILE_CALLBACK)
      .startReadv(
        this.lease,
        [{ segment: 0, offsetBytes: slot * BLOCK_BYTES, lengthBytes: count * BLOCK_BYTES }],
        block * BLOCK_BYTES,
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { backend, system } = this;
    if (system.choice.method === "manual") this.controller.completeAll();
    await system.close();
    expect(backend.idleCount, "every handle is idle at the end").toBe(backend.concurrency);
    expect(backend.inFlightCount + backend.stagedCount).toBe(0);
    expect(system.rows()).toEqual([]);
    expect(system.backends()).toEqual([]);
    this.file[Symbol.dispose]();
  }
}
