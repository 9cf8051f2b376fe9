/**
 * Results: what an I/O came to, as plain numbers that fit two words of shared memory.
 *
 * A raw result (bytes, or a negative errno) becomes a distilled one by the completion callbacks: a status, the id of
 * the callback that understands it, an error value of 23 bits and a result of 32. Errors stay data until the issuer
 * reports them, since completion may run in any thread. Packing as in PostgreSQL 18 (aio_types.h): id in the low 6
 * bits, status in 3, error in 23.
 */
export const RESULT_STATUS = { unknown: 0, ok: 1, partial: 2, warning: 3, error: 4 } as const;

/** How an I/O ended. "unknown" only before it has ended. */
export type IoStatus = keyof typeof RESULT_STATUS;

const STATUS_NAMES: readonly IoStatus[] = ["unknown", "ok", "partial", "warning", "error"];
const ID_BITS = 6;
const STATUS_BITS = 3;
const ERROR_BITS = 23;

const PACKED_OK: number = RESULT_STATUS.ok << ID_BITS;

/** Callback ids are below this. */
export const CALLBACK_IDS: number = 1 << ID_BITS;
/** Error values are at most this. */
export const RESULT_ERROR_MAX: number = 2 ** ERROR_BITS - 1;

/** What an I/O came to. Mutable, because one object is reused for a chain of callbacks. */
export interface IoResult {
  /** The callback that can report this result; 0 where none took charge. */
  callback: number;
  status: IoStatus;
  /** For example an errno; what it means is the callback's business. 0..2^23-1. */
  error: number;
  /** For example blocks read; before any callback has run: the raw result. A signed 32-bit integer. */
  result: number;
}

/** Where an issuer finds the outcome of its I/O; lent to the handle until the I/O is reclaimed or its scope has ended. */
export interface IoReturn {
  readonly result: IoResult;
  /** The target's words, copied when the result is. */
  readonly target: Int32Array;
  /** Called in the issuer's thread after the result has been filled in. Must not throw. */
  onReturn?: ((slot: IoReturn) => void) | undefined;
}

/** Words that describe an I/O's target. */
export const TARGET_WORDS = 8;

/** An empty result. */
export function createIoResult(): IoResult {
  return { callback: 0, status: "unknown", error: 0, result: 0 };
}

/** An empty return slot. It can be used again once its I/O has been returned. */
export function createIoReturn(onReturn?: (slot: IoReturn) => void): IoReturn {
  return { result: createIoResult(), target: new Int32Array(TARGET_WORDS), onReturn };
}

/**
 * The packed word of a result without its `result` part.
 *
 * @throws {RangeError} the id is not 0..63, the status is unknown to us or the error is not 0..2^23-1
 */
export function packResult(result: Readonly<IoResult>): number {
  const { callback, error } = result;
  // What nearly every I/O comes to.
  if (callback === 0 && error === 0 && result.status === "ok") return PACKED_OK;
  const status = RESULT_STATUS[result.status] as number | undefined;
  if (status === undefined) throw new RangeError(`not a status: ${result.status}`);
  if (!Number.isInteger(callback) || callback < 0 || callback >= CALLBACK_IDS) {
    throw new RangeError(`not a callback id: ${callback}`);
  }
  if (!Number.isInteger(error) || error < 0 || error > RESULT_ERROR_MAX) {
    throw new RangeError(`not an error value: ${error}`);
  }
  return callback | (status << ID_BITS) | (error << (ID_BITS + STATUS_BITS));
}

/**
 * Fills `target` from the two words.
 *
 * @throws {RangeError} the word holds a status that does not exist
 */
export function unpackResult(packed: number, result: number, target: IoResult): IoResult {
  if (packed === PACKED_OK) {
    target.callback = 0;
    target.status = "ok";
    target.error = 0;
    target.result = result;
    return target;
  }
  const status = STATUS_NAMES[(packed >>> ID_BITS) & ((1 << STATUS_BITS) - 1)];
  if (status === undefined) throw new RangeError(`not a packed result: ${packed}`);
  target.callback = packed & (CALLBACK_IDS - 1);
  target.status = status;
  target.error = packed >>> (ID_BITS + STATUS_BITS);
  target.result = result;
  return target;
}

/** What a raw result means without any callback: bytes, or what the system call failed with. */
export function fillFromRaw(rawResult: number, target: IoResult): void {
  const isError = rawResult < 0;
  target.callback = 0;
  target.status = isError ? "error" : "ok";
  target.error = isError ? -rawResult : 0;
  target.result = isError ? 0 : rawResult;
}

/** Copies `source` into `target`. */
export function copyResult(source: Readonly<IoResult>, target: IoResult): IoResult {
  target.callback = source.callback;
  target.status = source.status;
  target.error = source.error;
  target.result = source.result;
  return target;
}
