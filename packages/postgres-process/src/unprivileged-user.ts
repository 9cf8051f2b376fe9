/**
 * Who runs the server: PostgreSQL refuses to run as root, so a root process runs it as somebody else.
 *
 * Everything that starts a PostgreSQL program goes through `spawnIdentity()`. An ordinary user runs it as
 * himself. Root takes the account `postgres` where there is one, else `nobody`; the directories that account
 * must reach are then checked in user space, because the server's own message for an unreadable parent
 * directory does not name the parent.
 */
import { readFileSync, statSync } from "node:fs";
import { dirname, parse, resolve } from "node:path";

/** The uid and gid a PostgreSQL program is started with; empty when this process may run it as itself. */
export interface SpawnIdentity {
  readonly uid?: number;
  readonly gid?: number;
}

/** Accounts tried in this order when this process is root. `nobody` exists on every Linux and macOS. */
const ACCOUNTS = ["postgres", "nobody"] as const;
/** Linux's `nobody` when there is no readable passwd file, as in some minimal containers. */
const OVERFLOW_ID = 65534;

function lookUp(account: string): SpawnIdentity | undefined {
  let passwd: string;
  try {
    passwd = readFileSync("/etc/passwd", "utf8");
  } catch {
    return undefined;
  }
  const fields = passwd
    .split("\n")
    .map((line) => line.split(":"))
    .find(([name]) => name === account);
  const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])];
  return Number.isInteger(uid) && Number.isInteger(gid) ? { uid, gid } : undefined;
}

let identity: SpawnIdentity | undefined;

/** The identity for `child_process` options; `{}` unless this process is root. */
export function spawnIdentity(): SpawnIdentity {
  identity ??=
    process.getuid?.() === 0
      ? (ACCOUNTS.map(lookUp).find((found) => found !== undefined) ?? { uid: OVERFLOW_ID, gid: OVERFLOW_ID })
      : {};
  return identity;
}

/**
 * The first directory on the way to `path` that the server's account may not enter, or undefined when it can
 * reach the path. Parts that do not exist yet are taken as reachable: whoever creates them decides.
 */
export function firstUnreachable(path: string): string | undefined {
  const { uid, gid } = spawnIdentity();
  if (uid === undefined) return undefined;
  const { root } = parse(resolve(path));
  const onTheWay: string[] = [];
  for (let at = resolve(path); at !== root; at = dirname(at)) onTheWay.unshift(at);
  return onTheWay.find((directory) => {
    const status = statSync(directory, { throwIfNoEntry: false });
    if (status === undefined || !status.isDirectory()) return false;
    const bit = status.uid === uid ? 0o100 : status.gid === gid ? 0o010 : 0o001;
    return (status.mode & bit) === 0;
  });
}
