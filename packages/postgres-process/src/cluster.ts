/**
 * One PostgreSQL data directory and, while it runs, its server.
 *
 * The postmaster is our direct child in a session of its own: a Ctrl-C on the terminal reaches us and not it, so
 * that whoever owns the cluster decides the order of the end. Its log goes straight to a file, which outlives
 * us. If this process ends with the server running, by SIGKILL even, a watcher gives the server a fast shutdown.
 * Should one stay all the same, the next `start()` on the directory stops that left-over before it starts a new
 * one. Readiness is what pg_ctl uses too: the status line of postmaster.pid.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { chmod, chown, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import type { Writable } from "node:stream";
import { join } from "node:path";
import { PostgresProcessError } from "./errors.js";
import type { PostgresInstallation } from "./installation.js";
import { childrenOf, ended, isRunning } from "./processes.js";
import { temporaryDirectory } from "./temporary-directory.js";
import type { TemporaryDirectory } from "./temporary-directory.js";
import { runPostgresTool } from "./tool.js";
import { firstUnreachable, spawnIdentity } from "./unprivileged-user.js";

/** Crash recovery of a few GB takes seconds; a server that needs longer is not for unattended use. */
const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 60_000;
const POLL_MS = 25;
/** How much of the log an error quotes. */
const LOG_TAIL_BYTES = 2000;
/** sun_path has 108 bytes with its terminator; PostgreSQL's file name takes the rest. */
const SOCKET_DIRECTORY_LENGTH_MAX = 107 - "/.s.PGSQL.65535".length;
/** The number in the socket's file name when there is no TCP port. */
const SOCKET_PORT = 5432;
const SETTINGS_FILE = "postgresql.millrace.conf";
/** A failing statement is logged with its text, which may hold a password: for the owner only, as PostgreSQL does. */
const LOG_FILE_MODE = 0o600;

/** How to shut down, in PostgreSQL's words: wait for clients, end them, or leave recovery to the next start. */
export type StopMode = "smart" | "fast" | "immediate";
const STOP_SIGNAL = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const;

export interface ClusterOptions {
  readonly installation: PostgresInstallation;
  /** Holds `data`, `socket` and `postgres.log`. Must be reachable for the server's account. */
  readonly directory: string;
  /** Lines of the configuration, written anew at each start, so that a changed value takes effect. */
  readonly settings?: Readonly<Record<string, string>>;
  /** TCP port on 127.0.0.1; 0 picks a free one; without it there is only the unix socket. */
  readonly port?: number;
  /** Password of the superuser `postgres`; with it TCP connections need SCRAM-SHA-256, without it they are trusted. */
  readonly password?: string;
}

export interface CreateClusterOptions extends ClusterOptions {
  /** WAL segment size in bytes, a power of two from 1 MiB to 1 GiB. Default: PostgreSQL's 16 MiB. */
  readonly segmentBytes?: number;
  /** More arguments for initdb, for example ["--no-sync"] in tests. */
  readonly initdbArguments?: readonly string[];
}

/** Asks the kernel for a TCP port that is free on the loopback address now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const quoteSetting = (value: string): string => `'${value.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;

/** A data directory with at most one server. Not safe for two owners: lock the directory first. */
export class PostgresCluster implements AsyncDisposable {
  readonly installation: PostgresInstallation;
  readonly directory: string;
  readonly dataDirectory: string;
  readonly logFile: string;
  readonly user = "postgres";
  readonly #options: ClusterOptions;
  #port: number | undefined;
  #socketDirectory: string;
  #shortSocketDirectory: TemporaryDirectory | undefined;
  #child: ChildProcess | undefined;
  #watcher: ChildProcess | undefined;

  private constructor(options: ClusterOptions) {
    this.#options = options;
    this.installation = options.installation;
    this.directory = options.directory;
    this.dataDirectory = join(options.directory, "data");
    this.logFile = join(options.directory, "postgres.log");
    this.#socketDirectory = join(options.directory, "socket");
    this.#port = options.port === 0 ? undefined : options.port;
  }

  /**
   * Runs initdb in `directory`/data, which must not exist, and gives the stopped cluster. initdb works in a
   * temporary sibling that is renamed at the end, so that a half-made data directory is never taken for one.
   *
   * @throws {PostgresProcessError} ERR_POSTGRES_UNREACHABLE, ERR_POSTGRES_INITDB
   */
  static async create(options: CreateClusterOptions): Promise<PostgresCluster> {
    const cluster = new PostgresCluster(options);
    await cluster.#prepareDirectory();
    const half = `${cluster.dataDirectory}.initdb`;
    await rm(half, { recursive: true, force: true });
    const args = ["-D", half, "-U", cluster.user, "-E", "UTF8", "--no-locale", "--auth-local=trust"];
    if (options.segmentBytes !== undefined)
      args.push(`--wal-segsize=${options.segmentBytes / (1024 * 1024)}`);
    const passwordFile = join(options.directory, ".password");
    if (options.password === undefined) {
      args.push("--auth-host=trust");
    } else {
      await writeFile(passwordFile, `${options.password}\n`, { mode: 0o600 });
      await cluster.#giveToServer(passwordFile);
      args.push("--auth-host=scram-sha-256", `--pwfile=${passwordFile}`);
    }
    const made = await runPostgresTool(options.installation, "initdb", [
      ...args,
      ...(options.initdbArguments ?? []),
    ]);
    await rm(passwordFile, { force: true });
    if (made.code !== 0) {
      await rm(half, { recursive: true, force: true });
      throw new PostgresProcessError(
        "ERR_POSTGRES_INITDB",
        `initdb failed: ${made.stderr.trim() || made.stdout.trim()}`,
      );
    }
    await rename(half, cluster.dataDirectory);
    // initdb has synced what is inside; without this a power cut could take the name, and with it the database.
    await syncDirectory(options.directory);
    return cluster;
  }

  /**
   * The cluster in `directory` that an earlier `create` made, or undefined if there is none.
   *
   * @throws {PostgresProcessError} ERR_POSTGRES_UNREACHABLE; ERR_POSTGRES_START if it was made by another major version
   */
  static async open(options: ClusterOptions): Promise<PostgresCluster | undefined> {
    const cluster = new PostgresCluster(options);
    const versionFile = join(cluster.dataDirectory, "PG_VERSION");
    if (!existsSync(versionFile)) return undefined;
    const major = Number.parseInt(await readFile(versionFile, "utf8"), 10);
    if (major !== options.installation.major) {
      throw new PostgresProcessError(
        "ERR_POSTGRES_START",
        `${cluster.dataDirectory} belongs to PostgreSQL ${major}, not ${options.installation.major}`,
      );
    }
    await cluster.#prepareDirectory();
    return cluster;
  }

  /** The postmaster's process id while it is our child. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** The TCP port, or the number in the unix socket's name when there is no TCP. */
  get port(): number {
    return this.#port ?? SOCKET_PORT;
  }

  get socketDirectory(): string {
    return this.#socketDirectory;
  }

  /** A connection URL: by TCP when there is a port, else by the unix socket. Holds the password, if there is one. */
  url(database = "postgres"): string {
    const name = encodeURIComponent(database);
    const { password } = this.#options;
    const login = password === undefined ? this.user : `${this.user}:${encodeURIComponent(password)}`;
    if (this.#port !== undefined) return `postgresql://${login}@127.0.0.1:${this.#port}/${name}`;
    return `postgresql://${login}@/${name}?host=${encodeURIComponent(this.#socketDirectory)}&port=${this.port}`;
  }

  /**
   * Starts the server and resolves once it accepts connections. A server that an ended process left running on
   * this directory is stopped first. Starting a running cluster does nothing.
   *
   * @param signal calls the start off as long as there is no postmaster yet; one that is there is ended by `stop`,
   *   which makes this reject at once however much there is to recover
   * @throws {PostgresProcessError} ERR_POSTGRES_START with the end of the log, or because it was called off;
   *   ERR_POSTGRES_STOP_TIMEOUT if a left-over server does not end
   */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.#child !== undefined) return;
    await this.#stopLeftOver(signal);
    if (this.#options.port === 0 && this.#port === undefined) this.#port = await freePort();
    await this.#placeSocket();
    await this.#writeSettings();
    const log = await open(this.logFile, "a", LOG_FILE_MODE);
    try {
      throwIfCalledOff(signal); // nothing is awaited between this and the child
      const child = spawn(join(this.installation.binDirectory, "postgres"), ["-D", this.dataDirectory], {
        ...spawnIdentity(),
        cwd: "/",
        env: serverEnvironment(process.env, this.dataDirectory),
        stdio: ["ignore", log.fd, log.fd],
        detached: true,
      });
      this.#child = child;
      child.once("error", () => {
        this.#forget(child);
      });
      child.once("exit", () => {
        this.#forget(child);
      });
      if (child.pid !== undefined) this.#watcher = watchOwner(child.pid);
      await this.#ready(child);
    } finally {
      await log.close();
    }
  }

  /**
   * Shuts the server down and resolves when it has ended; nothing if it does not run. After a timeout the
   * server is still going down and may be stopped again with a harder mode.
   *
   * @throws {PostgresProcessError} ERR_POSTGRES_STOP_TIMEOUT
   */
  async stop(mode: StopMode = "fast", timeoutMs: number = STOP_TIMEOUT_MS): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill(STOP_SIGNAL[mode]);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), timeoutMs);
    });
    const outcome = await Promise.race([exited, late]);
    clearTimeout(timer);
    if (outcome === "late") {
      throw new PostgresProcessError(
        "ERR_POSTGRES_STOP_TIMEOUT",
        `PostgreSQL (pid ${child.pid}) did not end within ${timeoutMs} ms of ${mode} shutdown`,
      );
    }
  }

  /** Kills the postmaster and all its processes with SIGKILL, as a crash would, and waits until they are gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGSTOP"); // no new children while the present ones are counted
    const children = childrenOf(child.pid);
    child.kill("SIGKILL");
    for (const pid of children) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself: a backend leaves when its postmaster dies.
      }
    }
    await exited;
    if (!(await ended(children, STOP_TIMEOUT_MS))) {
      throw new PostgresProcessError(
        "ERR_POSTGRES_STOP_TIMEOUT",
        "processes of a killed PostgreSQL did not end",
      );
    }
  }

  /** Stops the server, fast and then immediately, and removes what `start` put outside the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop("immediate");
    } finally {
      await this.#shortSocketDirectory?.[Symbol.asyncDispose]();
      this.#shortSocketDirectory = undefined;
    }
  }

  #forget(child: ChildProcess): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#watcher?.kill("SIGKILL"); // before the pid can be anybody else's
    this.#watcher = undefined;
  }

  async #giveToServer(path: string): Promise<void> {
    const { uid, gid } = spawnIdentity();
    if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
  }

  async #prepareDirectory(): Promise<void> {
    await mkdir(this.directory, { recursive: true });
    if (spawnIdentity().uid !== undefined) {
      await this.#giveToServer(this.directory);
      await chmod(this.directory, 0o711);
    }
    const blocked = firstUnreachable(this.directory);
    if (blocked !== undefined) {
      const message = `${blocked} cannot be entered by the account that runs PostgreSQL (root may not run it)`;
      throw new PostgresProcessError("ERR_POSTGRES_UNREACHABLE", message);
    }
  }

  async #placeSocket(): Promise<void> {
    if (this.#socketDirectory.length > SOCKET_DIRECTORY_LENGTH_MAX) {
      this.#shortSocketDirectory ??= await temporaryDirectory("pg-");
      this.#socketDirectory = this.#shortSocketDirectory.path;
    }
    await mkdir(this.#socketDirectory, { recursive: true });
    await this.#giveToServer(this.#socketDirectory);
  }

  async #writeSettings(): Promise<void> {
    const settings: Record<string, string> = {
      ...this.#options.settings,
      listen_addresses: this.#port === undefined ? "" : "127.0.0.1",
      port: String(this.port),
      unix_socket_directories: this.#socketDirectory,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quoteSetting(value)}\n`);
    const file = join(this.dataDirectory, SETTINGS_FILE);
    await writeFile(file, lines.join(""));
    await this.#giveToServer(file);
    const main = join(this.dataDirectory, "postgresql.conf");
    const include = `include = '${SETTINGS_FILE}'`;
    const text = await readFile(main, "utf8");
    if (!text.includes(include)) await writeFile(main, `${text}\n${include}\n`);
  }

  async #ready(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    const pidFile = join(this.dataDirectory, "postmaster.pid");
    while (this.#child === child) {
      const lines = await readFile(pidFile, "utf8").then(
        (text) => text.split("\n"),
        () => [],
      );
      // Line 1 is the postmaster's pid, line 8 its state.
      if (Number(lines[0]) === child.pid && lines[7]?.trim() === "ready") return;
      if (Date.now() > deadline) {
        await this.stop("immediate");
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new PostgresProcessError(
      "ERR_POSTGRES_START",
      `PostgreSQL did not start:\n${await this.logTail()}`,
    );
  }

  /** The end of the server's log, for messages. */
  async logTail(): Promise<string> {
    const text = await readFile(this.logFile, "utf8").catch(() => "");
    return text.slice(-LOG_TAIL_BYTES);
  }

  async #stopLeftOver(abort: AbortSignal | undefined): Promise<void> {
    const pid = leftOverPostmaster(this.dataDirectory);
    if (pid === undefined) return;
    for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
      const family = [pid, ...childrenOf(pid)];
      try {
        process.kill(pid, signal);
      } catch {
        return; // it ended meanwhile
      }
      if (await ended(family, STOP_TIMEOUT_MS / 6, abort)) return;
      throwIfCalledOff(abort);
    }
    throw new PostgresProcessError(
      "ERR_POSTGRES_STOP_TIMEOUT",
      `a left-over PostgreSQL (pid ${pid}) does not end`,
    );
  }
}

function throwIfCalledOff(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) {
    throw new PostgresProcessError("ERR_POSTGRES_START", "the start of PostgreSQL was called off");
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Our environment without what configures us or a client: the server's account, which need not be ours, can read it
 * in /proc, and a variable of ours may hold a connection URL.
 */
function serverEnvironment(environment: NodeJS.ProcessEnv, dataDirectory: string): NodeJS.ProcessEnv {
  const kept = Object.entries(environment).filter(([name]) => !/^(MILLRACE_|PG)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: "C", PGDATA: dataDirectory };
}

/**
 * Starts a shell that waits for our end and then shuts the postmaster down, fast first and hard if that takes long.
 * It learns of our end by the pipe that only we hold open, so it works however we end. It leaves as soon as the
 * postmaster has, because the id may be another process's by the time of the second signal.
 */
function watchOwner(postmaster: number): ChildProcess {
  const script =
    'read -r _; kill -INT "$1" || exit; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$1" || exit; done; kill -QUIT "$1"';
  const watcher = spawn("/bin/sh", ["-c", script, "sh", String(postmaster)], {
    cwd: "/",
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watcher.on("error", () => undefined); // without a shell there is no watcher; the next start cleans up
  watcher.unref();
  (watcher.stdin as (Writable & { unref?: () => void }) | null)?.unref?.();
  return watcher;
}

/** The pid of a postmaster that runs on `dataDirectory` without being ours. A reused pid is not mistaken for one. */
function leftOverPostmaster(dataDirectory: string): number | undefined {
  let pid: number;
  try {
    pid = Number(readFileSync(join(dataDirectory, "postmaster.pid"), "utf8").split("\n")[0]);
  } catch {
    return undefined;
  }
  if (!Number.isInteger(pid) || pid <= 1 || !isRunning(pid)) return undefined;
  try {
    // A postmaster's working directory is its data directory.
    return readlinkSync(`/proc/${pid}/cwd`) === dataDirectory ? pid : undefined;
  } catch {
    return process.platform === "linux" ? undefined : pid;
  }
}
