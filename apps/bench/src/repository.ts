/**
 * Where the repository is, and the programs in it that are measured as programs.
 *
 * The server is an application beside this one, so it is not imported but spawned, as its users do. The path holds for
 * this file in src/ (tests) and for the bundle in dist/, which lie equally deep.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { BenchError } from "./errors.js";

/** The directory that holds apps/ and packages/. */
export function repositoryRoot(): string {
  return fileURLToPath(new URL("../../..", import.meta.url));
}

/**
 * The built command `millrace`.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM when it has not been built
 */
export function millraceProgram(): string {
  const path = join(repositoryRoot(), "apps", "server", "dist", "main.js");
  if (!existsSync(path)) throw new BenchError("ERR_BENCH_PROGRAM", "apps/server is not built: npm run build");
  return path;
}

/**
 * This program as it was built, for runs that need a process of their own.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM when it has not been built
 */
export function benchProgram(): string {
  const path = join(repositoryRoot(), "apps", "bench", "dist", "main.js");
  if (!existsSync(path)) throw new BenchError("ERR_BENCH_PROGRAM", "apps/bench is not built: npm run build");
  return path;
}
