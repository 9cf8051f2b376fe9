/**
 * The open data files of one thread: a bounded number of descriptors, each with a lease under which I/O is done on it.
 *
 * When one more is needed, the file used longest ago is closed, after the I/O on it. A thread that must not sleep closes
 * it later, when that I/O is over, and any thread when nothing runs on its descriptor that is no I/O of a handle; its
 * descriptors may be more than the bound by those that are being closed.
 */
import { closeSync, constants, openSync } from "node:fs";
import type { AioBackend, FileLease } from "@millrace/aio";

import { BufferError } from "./errors.js";

const DIRECT = (constants as { readonly O_DIRECT?: number }).O_DIRECT;
const MODE = 0o600;

/** An open file. */
export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly lease: FileLease;
  /** False once it is closed: open it again. */
  isOpen: boolean;
  usedAt: number;
  /** Operations that run on the descriptor without the lease, and who hears of the end of the last. */
  users: number;
  onIdle?: () => void;
}

/** How files are opened. */
export interface OpenFilesOptions {
  /** Descriptors at a time. */
  readonly max: number;
  /** Past the page cache. */
  readonly isDirect: boolean;
  readonly isReadOnly: boolean;
}

/** The open files. */
export class OpenFiles {
  readonly #aio: AioBackend;
  readonly #max: number;
  readonly #flags: number;
  readonly #isDirect: boolean;
  readonly #files = new Set<OpenFile>();
  readonly #closing = new Set<Promise<void>>();
  #tick = 0;

  /** @throws {BufferError} ERR_BUFFER_FILE: direct I/O is wanted, and this platform has none */
  constructor(aio: AioBackend, { max, isDirect, isReadOnly }: OpenFilesOptions) {
    if (!Number.isInteger(max) || max < 1) throw new RangeError(`not a number of descriptors: ${max}`);
    if (isDirect && DIRECT === undefined) {
      throw new BufferError("ERR_BUFFER_FILE", "no direct I/O on this platform");
    }
    this.#aio = aio;
    this.#max = max;
    this.#isDirect = isDirect;
    const access = isReadOnly ? constants.O_RDONLY : constants.O_RDWR;
    this.#flags = access | (isDirect ? (DIRECT ?? 0) : 0);
  }

  /** Files that are open. */
  get size(): number {
    return this.#files.size;
  }

  /** Notes that a file is used. */
  use(file: OpenFile): OpenFile {
    file.usedAt = ++this.#tick;
    return file;
  }

  /**
   * Opens a file.
   *
   * @param isCreating whether to make it if there is none
   * @returns undefined if there is none
   * @throws {BufferError} ERR_BUFFER_FILE
   */
  open(path: string, isCreating: boolean): OpenFile | undefined {
    while (this.#files.size >= this.#max) this.#closeOldest();
    let fd: number;
    try {
      fd = openSync(path, this.#flags | (isCreating ? constants.O_CREAT : 0), MODE);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" && !isCreating) return undefined;
      const isRefused = this.#isDirect && (code === "EINVAL" || code === "EOPNOTSUPP");
      const why = isRefused ? "its file system has no direct I/O" : (code ?? "");
      throw new BufferError("ERR_BUFFER_FILE", `could not open "${path}": ${why}`, { cause: error });
    }
    try {
      const lease = this.#aio.openLease(fd);
      const file: OpenFile = { path, fd, lease, isOpen: true, usedAt: ++this.#tick, users: 0 };
      this.#files.add(file);
      return file;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Runs an operation on a file's descriptor, which stays open until it is over, whoever closes the file meanwhile. */
  async whileOpen(file: OpenFile, operation: (fd: number) => Promise<void>): Promise<void> {
    file.users += 1;
    try {
      await operation(file.fd);
    } finally {
      file.users -= 1;
      if (file.users === 0) file.onIdle?.();
    }
  }

  /** Closes a file once the I/O on it is over; on a thread that must not sleep that may be later. */
  close(file: OpenFile): void {
    if (!this.#files.delete(file)) return;
    file.isOpen = false;
    if (this.#aio.mayBlock) {
      this.#aio.closingFile(file.lease);
      if (file.users === 0) {
        closeSync(file.fd);
        return;
      }
    }
    const closing = this.#closeLater(file);
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }

  /** Closes everything. */
  closeAll(): void {
    for (const file of this.#files) this.close(file);
  }

  /** Closes everything, and resolves once it is closed. */
  async closeAllAsync(): Promise<void> {
    this.closeAll();
    await Promise.all(this.#closing);
  }

  async #closeLater(file: OpenFile): Promise<void> {
    if (!this.#aio.mayBlock) await this.#aio.closingFileAsync(file.lease);
    if (file.users > 0) await new Promise<void>((resolve) => (file.onIdle = resolve));
    closeSync(file.fd);
  }

  #closeOldest(): void {
    let oldest: OpenFile | undefined;
    for (const file of this.#files) if (oldest === undefined || file.usedAt < oldest.usedAt) oldest = file;
    if (oldest !== undefined) this.close(oldest);
  }
}
