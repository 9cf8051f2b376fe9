/**
 * Finding out what direct I/O in a directory must be multiples of, by writing.
 *
 * Only a real write of more than a page tells: reads of holes and at the end of a file succeed however they are aligned, and
 * so does what stays inside of one page. Each candidate is tried at a place in memory, in the file, and with a length
 * that are multiples of it and of nothing larger.
 */
import { constants } from "node:fs";
import { join } from "node:path";
import { threadId } from "node:worker_threads";
import { unlinkIfThere } from "./crashsafe-overwrite.js";
import type { FileEnvironment } from "./environment.js";
import { errnoCodeOf, ioFailure } from "./errors.js";
import type { FileDescriptor } from "./file-engine.js";
import { isDirectRefusal } from "./open-flags.js";

const CANDIDATES = [512, 1024, 2048, 4096] as const;
/** Two pages, plus the candidate. */
const BODY_BYTES = 8192;
const DIRECT: number | undefined = (constants as { readonly O_DIRECT?: number }).O_DIRECT;

let probesOfThread = 0;

/**
 * Finds the smallest alignment with which direct writes work, by writing to a file that is removed again.
 *
 * @returns null if the file system has no direct I/O, or none with an alignment up to 4096
 * @throws {FileIoError} ERR_FILE_IO
 */
export async function probeAlignment(
  directory: string,
  environment: Pick<FileEnvironment, "engine" | "arena">,
): Promise<512 | 1024 | 2048 | 4096 | null> {
  if (DIRECT === undefined) return null;
  const name = `.alignment-probe-${String(process.pid)}-${String(threadId)}-${String(++probesOfThread)}`;
  const path = join(directory, name);
  try {
    for (const candidate of CANDIDATES) if (await works(path, candidate, environment)) return candidate;
    return null;
  } catch (error) {
    throw ioFailure(path, "probe", error);
  } finally {
    await unlinkIfThere(path, environment);
  }
}

async function works(
  path: string,
  alignment: number,
  { engine, arena }: Pick<FileEnvironment, "engine" | "arena">,
): Promise<boolean> {
  const flags = constants.O_WRONLY | constants.O_CREAT | (DIRECT ?? 0);
  let file: FileDescriptor;
  try {
    file = await engine.open(path, flags, 0o600, alignment);
  } catch (error) {
    if (isDirectRefusal(errnoCodeOf(error))) return false;
    throw error;
  }
  try {
    const length = BODY_BYTES + alignment;
    using buffer = await arena.allocAsync(2 * BODY_BYTES + 2 * alignment, { zeroed: true });
    // An odd multiple of the candidate, wherever the buffer is.
    const skipped = (buffer.byteOffset / alignment) % 2 === 0 ? alignment : 0;
    const written = await file.write(buffer.view().subarray(skipped, skipped + length), alignment);
    return written === length;
  } catch (error) {
    if (errnoCodeOf(error) === "EINVAL") return false;
    throw error;
  } finally {
    await file.close();
  }
}
