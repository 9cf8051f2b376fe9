/**
 * Processes of a server: which run, which belong to a postmaster, and waiting for their end.
 *
 * PostgreSQL's children start sessions of their own, so a process group does not reach them; they are found by
 * their parent. A process of another user still counts as running (EPERM), a zombie does not.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** How often a process that is not our child is looked at while its end is awaited. */
const POLL_MS = 20;

/** `/proc/<pid>/stat` behind the command name: state, parent, …; undefined without a proc file system or process. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

/** True while `pid` runs; a zombie has ended. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return statFields(pid)?.[0] !== "Z";
}

/** Direct children of `pid`, by /proc or, where there is none, by pgrep. */
export function childrenOf(pid: number): number[] {
  if (process.platform === "linux") {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && statFields(Number(name))?.[1] === String(pid))
      .map(Number);
  }
  try {
    return execFileSync("pgrep", ["-P", String(pid)], { encoding: "utf8" })
      .trim()
      .split("\n")
      .map(Number);
  } catch {
    return [];
  }
}

/** Resolves to true once none of `pids` runs, to false when `timeoutMs` is over or `signal` is aborted first. */
export async function ended(
  pids: readonly number[],
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (pids.some(isRunning)) {
    if (Date.now() >= deadline || signal?.aborted === true) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}
