/**
 * A directory of its own for a suite, below the one that is measured, gone afterwards.
 *
 * PostgreSQL must be able to enter it, and root may not run PostgreSQL: hence the mode.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

/** Makes a directory below `parent`, runs `work` in it and removes it with everything in it. */
export async function withWorkDirectory<T>(parent: string, work: (path: string) => Promise<T>): Promise<T> {
  const path = await mkdtemp(join(parent, "millrace-bench-"));
  try {
    await chmod(path, 0o711);
    return await work(path);
  } finally {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
}
