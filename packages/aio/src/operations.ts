/**
 * Operations and flags of an I/O, as small numbers for shared memory and names for people.
 *
 * Flags may only be added while a handle is handed out. SYNCHRONOUS is a hint (it will not pay to do this elsewhere),
 * REFERENCES_LOCAL is a requirement (nobody else may touch the memory), BUFFERED a heuristic (this goes through the
 * page cache). The two sync flags belong to a write that must be durable when it completes.
 */
export const OPERATION = { none: 0, readv: 1, writev: 2, fsync: 3, fdatasync: 4, nop: 5 } as const;

/** What an I/O does. */
export type IoOperation = "readv" | "writev" | "fsync" | "fdatasync" | "nop";

const NAMES: readonly (IoOperation | undefined)[] = [
  undefined,
  "readv",
  "writev",
  "fsync",
  "fdatasync",
  "nop",
];
/** Operation numbers are below this. */
export const OPERATION_COUNT: number = NAMES.length;

export const FLAG = {
  synchronous: 1,
  referencesLocal: 2,
  buffered: 4,
  /** A write followed by an fdatasync as one I/O. */
  thenDataSync: 8,
  /** A write followed by an fsync as one I/O. */
  thenSync: 16,
  /** It was executed again because the kernel gave it up for a reason that is not the issuer's; set by who did that. */
  retried: 32,
} as const;

/** The flags a caller may add. */
export type IoFlag = "synchronous" | "referencesLocal" | "buffered";

/** An operation's name, or undefined where none is set yet. */
export function operationName(operation: number): IoOperation | undefined {
  return NAMES[operation];
}

/** Whether an operation moves bytes, so that its result counts them. */
export function isTransfer(operation: number): boolean {
  return operation === OPERATION.readv || operation === OPERATION.writev;
}
