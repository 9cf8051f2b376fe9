/**
 * What the figures were measured on: without it a figure is a number.
 *
 * The file system and device are those of the directory that is measured. What cannot be found out is "unknown", never
 * a guess.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { cpus, release, totalmem, type as systemName } from "node:os";

/** A machine at a moment. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  /** Name and release, for example "Linux 6.18.0". */
  readonly kernel: string;
  readonly fileSystem: string;
  readonly device: string;
  /** process.version */
  readonly node: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  /** Of this repository, with "-dirty" behind it when tracked files differ from it. */
  readonly commit: string;
}

/** The mount that holds a path. */
export interface Mount {
  readonly fileSystem: string;
  readonly device: string;
}

/**
 * Finds the mount of `path` in the text of /proc/self/mountinfo: the last one among those with the longest mount point
 * that contains it, as later mounts hide earlier ones.
 *
 * @param path absolute, without symbolic links
 */
export function mountOf(mountinfo: string, path: string): Mount | undefined {
  let best: { readonly point: string; readonly mount: Mount } | undefined;
  for (const line of mountinfo.split("\n")) {
    // 36 35 98:0 /root /mount/point options … - type source super-options
    const [head, tail] = line.split(" - ");
    const point = head
      ?.split(" ")[4]
      ?.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
    const [fileSystem, device] = tail?.split(" ") ?? [];
    if (point === undefined || fileSystem === undefined || device === undefined) continue;
    const contains = point === "/" || path === point || path.startsWith(`${point}/`);
    if (contains && point.length >= (best?.point.length ?? 0))
      best = { point, mount: { fileSystem, device } };
  }
  return best?.mount;
}

function unlessItThrows<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

function git(root: string, ...args: string[]): string {
  return execFileSync("git", args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  }).trim();
}

/**
 * Describes this machine.
 *
 * @param directory what is measured
 * @param repository whose commit is asked for
 */
export function describeMachine(directory: string, repository: string): Machine {
  const mount = unlessItThrows(
    () => mountOf(readFileSync("/proc/self/mountinfo", "utf8"), realpathSync(directory)),
    undefined,
  );
  const commit = unlessItThrows(() => {
    const isDirty = git(repository, "status", "--porcelain", "--untracked-files=no") !== "";
    return `${git(repository, "rev-parse", "--short=12", "HEAD")}${isDirty ? "-dirty" : ""}`;
  }, "unknown");
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: `${systemName()} ${release()}`,
    fileSystem: mount?.fileSystem ?? "unknown",
    device: mount?.device ?? "unknown",
    node: process.version,
    date: new Date().toISOString(),
    commit,
  };
}
