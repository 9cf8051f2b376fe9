/**
 * A directory that a test and the server's account can both use, gone when the test ends.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstUnreachable, spawnIdentity } from "./unprivileged-user.js";

/** A directory on disk that disposal removes with everything in it. */
export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/**
 * Makes a directory under the system's temporary directory, or under /tmp where the account that runs
 * PostgreSQL cannot reach that one. As root its mode is 0711: enterable, not listable.
 */
export async function temporaryDirectory(prefix = "millrace-"): Promise<TemporaryDirectory> {
  const parent = firstUnreachable(tmpdir()) === undefined ? tmpdir() : "/tmp";
  const path = await mkdtemp(join(parent, prefix));
  if (spawnIdentity().uid !== undefined) await chmod(path, 0o711);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
