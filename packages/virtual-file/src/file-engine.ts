/**
 * What this package needs of the operating system, as an interface: tests record it and make it fail.
 *
 * An engine does one system call for each call and nothing else: it continues no short transfer and retries nothing. Every
 * failure is an Error whose `code` is the name of an errno, as those of `node:fs` are. All memory is lent until the promise
 * has settled, whatever the caller thinks of it in the meantime.
 */

/** An open descriptor. */
export interface FileDescriptor {
  /** @returns bytes read; may be fewer than asked for, 0 at the end of the file */
  read(target: Uint8Array, offsetBytes: number): Promise<number>;
  /** @returns bytes written; may be fewer than asked for */
  write(source: Uint8Array, offsetBytes: number): Promise<number>;
  /** fsync, or fdatasync if only what is needed to read the data back matters. */
  sync(dataOnly: boolean): Promise<void>;
  truncate(lengthBytes: number): Promise<void>;
  /** Size of the file, bytes. */
  size(): Promise<number>;
  /** Called once, with nothing in flight. The descriptor is gone even if this rejects. */
  close(): Promise<void>;
}

/** The calls that open and name files. */
export interface FileEngine {
  /**
   * @param flags of open(2), from `fs.constants`
   * @param mode permissions of a new file
   * @param alignmentBytes what direct I/O on this file will be multiples of; 1 without O_DIRECT
   */
  open(path: string, flags: number, mode: number, alignmentBytes: number): Promise<FileDescriptor>;
  rename(source: string, target: string): Promise<void>;
  unlink(path: string): Promise<void>;
}
