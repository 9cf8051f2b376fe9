/**
 * Moving all of the bytes with calls that may move fewer.
 *
 * On a direct file the next call must be aligned again: a short write is continued from the last aligned byte, and the
 * bytes behind it are written twice, which is fine; a short read that is no multiple is the end of the file, and asking on
 * from there would be an error. All retries are bounded.
 */
import { WriteZeroError, errnoCodeOf } from "./errors.js";
import type { FileDescriptor } from "./file-engine.js";

/** Writes in a row that may move nothing before that is an error. */
const IDLE_WRITES_MAX = 3;
/** Interrupted calls in a row. A signal now and then is normal, a hundred are a fault. */
const INTERRUPTS_MAX = 100;

/**
 * Writes all of `source`.
 *
 * @param source lent
 * @param alignmentBytes 1 unless the file is direct; then everything is a multiple of it
 * @throws {WriteZeroError} ERR_FILE_WRITE_ZERO; and what the descriptor throws
 */
export async function writeAll(
  path: string,
  descriptor: FileDescriptor,
  source: Uint8Array,
  offsetBytes: number,
  alignmentBytes: number,
): Promise<void> {
  let done = 0;
  let idle = 0;
  while (done < source.length) {
    const at = done;
    const moved = at + (await repeated(() => descriptor.write(source.subarray(at), offsetBytes + at)));
    done = moved === source.length ? moved : moved - (moved % alignmentBytes);
    idle = done === at ? idle + 1 : 0;
    if (idle === IDLE_WRITES_MAX) throw new WriteZeroError(path, offsetBytes + at);
  }
}

/**
 * Reads until `target` is full or the file ends.
 *
 * @param target lent
 * @returns bytes read
 */
export async function readUpTo(
  descriptor: FileDescriptor,
  target: Uint8Array,
  offsetBytes: number,
  alignmentBytes: number,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const at = done;
    const moved = await repeated(() => descriptor.read(target.subarray(at), offsetBytes + at));
    done += moved;
    if (moved === 0 || done % alignmentBytes !== 0) break;
  }
  return done;
}

/** A call that a signal may interrupt. */
async function repeated(call: () => Promise<number>): Promise<number> {
  for (let interrupts = 0; ; interrupts++) {
    try {
      return await call();
    } catch (error) {
      if (errnoCodeOf(error) !== "EINTR" || interrupts === INTERRUPTS_MAX) throw error;
    }
  }
}
