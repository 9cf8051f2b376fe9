/**
 * What a stream needs of the buffer pool below it, and nothing more.
 *
 * The stream decides which blocks are read together, when and how far ahead; the pool pins, reads and waits. A stream
 * never learns what is in a buffer. Nothing here is allocated for a block: buffers are numbers in the stream's own array
 * and an operation is made once for each I/O a stream may have in progress.
 *
 * After StartReadBuffers and WaitReadBuffers of PostgreSQL 18's bufmgr, and the settings that its streams look at.
 */

/** A fork of a relation: 0 main, 1 free space map, 2 visibility map, 3 init. */
export type StreamFork = 0 | 1 | 2 | 3;

/** What a stream reads from. The numbers are the pool's; only `persistence` is looked at here. */
export interface StreamRelation {
  readonly tablespace: number;
  readonly database: number;
  readonly relation: number;
  /** `"temporary"` ones are kept in buffers of the backend's own, with limits of their own; absent means permanent. */
  readonly persistence?: "permanent" | "unlogged" | "temporary";
  /** Of a temporary one: the backend that it belongs to. */
  readonly owner?: number;
}

/** A ring strategy, made by the pool and owned by the caller. */
export interface StreamRing {
  /** How many of its buffers a stream may pin at once, so that it does not run out of its own ring. */
  readonly pinLimit: number;
}

/** One read of several neighbouring blocks. Made once for each I/O slot of a stream and used again and again. */
export interface ReadOperation {
  /** Whether `waitRead` has to be called before the buffers of the last `startRead` are looked at. */
  readonly needWait: boolean;
  /** Where victims are taken from; the stream sets it to null when the ring is to be left alone. */
  ring: StreamRing | null;
}

/** Bits for `startRead`. */
export const READ_FLAG = { zeroOnError: 1, issueAdvice: 2, ignoreChecksum: 4, synchronously: 8 } as const;

/**
 * The pool as a stream sees it: one backend's view, so that all of it is used on one thread.
 *
 * A call that the thread is not allowed to wait in throws an error whose code ends in `_WOULD_BLOCK`, before it has done
 * anything.
 */
export interface StreamPool {
  /** Blocks in the largest I/O, 1 to 128; what the settings come to in the end. */
  readonly combineLimit: number;
  /** How many I/Os a stream may have in progress, 0 to 1000; 0 means synchronous reads. */
  readonly effectiveConcurrency: number;
  /** The same for maintenance work. */
  readonly maintenanceConcurrency: number;
  /** Whether reads are done by `waitRead` itself (method sync). */
  readonly isSynchronous: boolean;
  /** Whether data files bypass the kernel's cache, so that advice would be wasted. */
  readonly isDirect: boolean;
  /** Whether the kernel can be advised of reads to come. */
  readonly canAdvise: boolean;
  /** Shared buffers in the pool. */
  readonly buffersCount: number;
  /** The concurrency for `relation`: its tablespace's own, or one of the two above. */
  concurrencyOf(relation: StreamRelation, isMaintenance: boolean): number;
  /** Whether `relation` is a temporary one of another session. */
  isForeignTemporary(relation: StreamRelation): boolean;
  /** Pins this backend may hold at most if nobody is to be starved; can be 0. */
  pinLimit(isLocal: boolean): number;
  /** Of these, how many are left now; can be 0. */
  additionalPins(isLocal: boolean): number;
  /** Makes an operation. The stream always gives all three; that they may be left out is for pools where they may. */
  createReadOperation(relation: StreamRelation, fork?: StreamFork, ring?: StreamRing | null): ReadOperation;
  /**
   * Pins blocks from `block` on into `buffers[at]` and after, and starts one read of those that are not there.
   *
   * Entries that are not 0 are pins forwarded from an earlier call for the same block. The first block valid: it alone is
   * covered and `operation.needWait` is false. Otherwise the read covers blocks up to the first one that is valid, in
   * progress already, or beyond the file's segment; pins taken beyond that stay in `buffers`, to be passed again.
   * If it throws, the entries that are not 0 are exactly the pins that are held.
   *
   * @param buffers lent until `waitRead` has returned: the operation looks at its entries
   * @param flags of {@link READ_FLAG}
   * @returns blocks covered, 1 to `count`
   */
  startRead(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): number;
  /** `startRead` for a thread that must not sleep: it may have to wait for a handle or for somebody else's I/O. */
  startReadAsync(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): Promise<number>;
  /**
   * Waits until the blocks of `operation` are valid, and throws if they cannot be; warnings are the pool's to raise.
   *
   * @returns whether it really had to wait; a pool that cannot tell returns nothing, which counts as having waited
   */
  waitRead(operation: ReadOperation): boolean | void;
  /** `waitRead` for a thread that must not sleep. */
  waitReadAsync(operation: ReadOperation): Promise<boolean | void>;
  /** Lets one pin go. */
  release(buffer: number): void;
  /** From here on reads are only staged, until the batch is left or full. */
  enterBatch(): void;
  /** Submits what is staged, and ends the batch. */
  exitBatch(): void;
  /** Submits what is staged without ending the batch: for a callback that is about to wait for somebody. */
  submitStaged(): void;
}
