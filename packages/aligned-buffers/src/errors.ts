/**
 * What can be expected to go wrong with buffers: the memory is used up or not to be had, or a handle is used against
 * the rules of ownership.
 *
 * Misuse of a handle has codes of its own, and not a plain TypeError, because the handle a program holds may have been
 * moved by somebody else: a writer, an I/O, a `using`. Sizes and offsets that never were right are RangeErrors.
 * Compare `code`, not the class: two copies of this package may be installed.
 */
export type AlignedBufferErrorCode =
  | "ERR_BUFFER_MOVED" // the handle gave its buffer away; `movedBy` says by what
  | "ERR_BUFFER_FROZEN" // a member that writes was called on a frozen buffer
  | "ERR_BUFFER_CAPACITY" // the bytes do not fit; nothing was changed
  | "ERR_BUFFER_TAMPERED" // debug: frozen bytes were changed through a raw view
  | "ERR_ARENA_EXHAUSTED" // no free range is long enough now
  | "ERR_ARENA_DISPOSED" // the arena gives out nothing any more
  | "ERR_ARENA_UNAVAILABLE"; // the runtime gave no memory, or has no WebAssembly

/** What ended a handle's ownership. */
export type MovedBy = "freeze" | "move" | "lend" | "takeBack" | "tryIntoMut" | "dispose";

/** Any expected failure of this package. */
export class AlignedBufferError extends Error {
  override readonly name: string = "AlignedBufferError";
  readonly code: AlignedBufferErrorCode;

  constructor(code: AlignedBufferErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A handle was used after it had given its buffer away. */
export class UseAfterMoveError extends AlignedBufferError {
  override readonly name: string = "UseAfterMoveError";
  declare readonly code: "ERR_BUFFER_MOVED";
  /** The operation that moved the buffer. */
  readonly movedBy: MovedBy;
  /** Where that happened, as a stack; only of a debug arena. */
  readonly movedAt: string | undefined;

  constructor(movedBy: MovedBy, movedAt: string | undefined) {
    super("ERR_BUFFER_MOVED", `buffer used after ${movedBy}`);
    this.movedBy = movedBy;
    this.movedAt = movedAt;
  }
}

/** A forced call of a member that would write to a frozen buffer. */
export class FrozenBufferError extends AlignedBufferError {
  override readonly name: string = "FrozenBufferError";
  declare readonly code: "ERR_BUFFER_FROZEN";
  /** The member that was called. */
  readonly member: string;

  constructor(member: string) {
    super("ERR_BUFFER_FROZEN", `${member} of a frozen buffer`);
    this.member = member;
  }
}

/** More bytes than the buffer has room for; it is unchanged. */
export class CapacityExceededError extends AlignedBufferError {
  override readonly name: string = "CapacityExceededError";
  declare readonly code: "ERR_BUFFER_CAPACITY";
  readonly capacity: number;
  /** Length the buffer would have had, bytes. */
  readonly needed: number;

  constructor(capacity: number, needed: number) {
    super("ERR_BUFFER_CAPACITY", `${String(needed)} bytes in a buffer of ${String(capacity)}`);
    this.capacity = capacity;
    this.needed = needed;
  }
}

/** Debug: the bytes of a frozen buffer are not the ones that were frozen. */
export class BufferTamperedError extends AlignedBufferError {
  override readonly name: string = "BufferTamperedError";
  declare readonly code: "ERR_BUFFER_TAMPERED";
  /** Where the buffer starts in its segment, bytes. */
  readonly byteOffset: number;

  constructor(byteOffset: number) {
    super("ERR_BUFFER_TAMPERED", `frozen bytes were changed, in the buffer at ${String(byteOffset)}`);
    this.byteOffset = byteOffset;
  }
}

/** No free range of the arena is long enough now. */
export class ArenaExhaustedError extends AlignedBufferError {
  override readonly name: string = "ArenaExhaustedError";
  declare readonly code: "ERR_ARENA_EXHAUSTED";
  readonly capacity: number;
  /** Free bytes of the arena, in one piece or in many; 0 is not the only value this error comes with. */
  readonly freeBytes: number;

  constructor(capacity: number, freeBytes: number) {
    super("ERR_ARENA_EXHAUSTED", `no room for ${String(capacity)} bytes; free: ${String(freeBytes)}`);
    this.capacity = capacity;
    this.freeBytes = freeBytes;
  }
}
