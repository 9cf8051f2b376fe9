/**
 * Runs one of PostgreSQL's programs to its end and gives back what it said.
 *
 * As the server's account, with messages in English and in a directory that account can enter, so that the same
 * call works for root and for an ordinary user. Output is bounded: a tool that prints more is ended.
 */
import { spawn } from "node:child_process";
import { PostgresProcessError } from "./errors.js";
import type { PostgresInstallation } from "./installation.js";
import { spawnIdentity } from "./unprivileged-user.js";

/** pg_waldump of a few segments prints some ten MiB; this is far above and below what hurts. */
const OUTPUT_BYTES_MAX = 512 * 1024 * 1024;

/** What a program said and how it ended; `code` is -1 after a signal. */
export interface ToolResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** `environment` is added to this process's; `signal` ends the program. */
export interface ToolOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly directory?: string;
}

/**
 * Runs `name` from the installation with `args`. A program that ends with a code other than 0 is a result, not
 * an error.
 *
 * @throws {PostgresProcessError} ERR_POSTGRES_TOOL if there is no such program, it cannot be started, or it
 *   prints without end
 */
export async function runPostgresTool(
  installation: PostgresInstallation,
  name: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<ToolResult> {
  const path = installation.tool(name);
  if (path === undefined) {
    throw new PostgresProcessError("ERR_POSTGRES_TOOL", `${installation.binDirectory} has no ${name}`);
  }
  return await new Promise<ToolResult>((resolve, reject) => {
    const child = spawn(path, args, {
      ...spawnIdentity(),
      cwd: options.directory ?? "/",
      env: { ...process.env, LC_ALL: "C", ...options.environment },
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const output: [Buffer[], Buffer[]] = [[], []];
    let bytes = 0;
    for (const [index, stream] of [child.stdout, child.stderr].entries()) {
      stream.on("data", (chunk: Buffer) => {
        output[index === 0 ? 0 : 1].push(chunk);
        bytes += chunk.length;
        if (bytes > OUTPUT_BYTES_MAX) child.kill("SIGKILL");
      });
    }
    child.once("error", (cause) => {
      reject(
        new PostgresProcessError("ERR_POSTGRES_TOOL", `${path} could not run: ${cause.message}`, { cause }),
      );
    });
    child.once("close", (code) => {
      if (bytes > OUTPUT_BYTES_MAX) {
        reject(
          new PostgresProcessError(
            "ERR_POSTGRES_TOOL",
            `${path} printed more than ${OUTPUT_BYTES_MAX} bytes`,
          ),
        );
        return;
      }
      const [stdout, stderr] = output.map((chunks) => Buffer.concat(chunks).toString("utf8"));
      resolve({ stdout: stdout ?? "", stderr: stderr ?? "", code: code ?? -1 });
    });
  });
}
