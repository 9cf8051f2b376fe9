/**
 * Numbers of the kernel's interface that callers pass in: opcodes, entry flags, setup flags, features.
 *
 * Only what this package is tested with. Setup flags that move work elsewhere or change the size of entries are
 * missing on purpose: the code that walks the rings knows entries of 64 and completions of 16 bytes.
 *
 * Source: include/uapi/linux/io_uring.h.
 */

/** What an entry asks for. */
export const OPCODE = {
  nop: 0,
  /** Takes the address of an iovec array (see IovecTable) and, as length, its number of entries. */
  readv: 1,
  writev: 2,
  fsync: 3,
  /** Into a registered buffer: `bufIndex` is its number, the address lies inside it. */
  readFixed: 4,
  writeFixed: 5,
  asyncCancel: 14,
  read: 22,
  write: 23,
} as const;

/** Flags of an entry. */
export const SQE = {
  /** `fd` is an index into the registered files. */
  fixedFile: 1,
  /** Starts only after everything submitted before has completed. */
  drain: 2,
  /** The next entry starts when this one has succeeded in full; it ends with -ECANCELED otherwise. */
  link: 4,
  /** As link, but the next one starts in any case. */
  hardLink: 8,
  /** To a kernel worker at once, without a try in the submitting call. */
  async: 16,
} as const;

/** `rwFlags` of an fsync entry: only what is needed to read the data back, as fdatasync. */
export const FSYNC_DATASYNC = 1;

/** `rwFlags` of a read or write, and the last argument of preadv and pwritev. */
export const RWF = { highPriority: 1, dataSync: 2, sync: 4, noWait: 8, append: 16 } as const;

/** Setup flags that Ring.create accepts. The default is none: every other choice takes something from other threads. */
export const SETUP = {
  /** Clamp too large numbers of entries instead of refusing them. */
  clamp: 16,
  /** Go on with a batch after an entry that is refused (5.18). */
  submitAll: 128,
  /** No interrupt of the thread for each completion (5.19); other threads see completions late. */
  cooperativeTaskRun: 256,
  taskRunFlag: 512,
  /** Only one thread ever submits (6.0). */
  singleIssuer: 4096,
  /** Completions are made in the owner's waits only (6.1): other threads can neither wait nor reap; no poll wakes. */
  deferTaskRun: 8192,
} as const;

/** Bits of `ring.features` that callers may care about. */
export const FEATURE = {
  singleMmap: 1,
  noDrop: 2,
  submitStable: 4,
  readWriteCurrentPosition: 8,
  fastPoll: 32,
  nativeWorkers: 512,
  cqeSkip: 2048,
} as const;
