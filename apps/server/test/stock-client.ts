/**
 * Clients that nobody here wrote, as tests start and watch them: pg_receivewal, and PostgreSQL itself as a standby.
 */
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { PostgresCluster, spawnIdentity } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import type { Timeline, TimelineReaders } from "@millrace/wal-acceptor";

import { ownSettings } from "../src/postgres/own-postgres.js";
import { TENANT, TIMELINE } from "./small-cluster.js";
import type { SmallCluster, TestAcceptor } from "./small-cluster.js";

/** The first value of a query's answer. */
export async function value(sql: ClientConnection, query: string): Promise<string> {
  const [result] = await sql.query(query);
  return result?.rows[0]?.[0] ?? "";
}

/** How a stock client names an acceptor; `more` is put into the same string. */
export function conninfo(acceptor: TestAcceptor, more = ""): string {
  const { host, port } = acceptor.address;
  return `host=${host} port=${port} user=replicator options='-c tenant_id=${TENANT} timeline_id=${TIMELINE}' ${more}`;
}

/** The timeline that tests are about. */
export function timelineOf(acceptor: TestAcceptor): Timeline {
  return acceptor.node.timelines.get(TENANT, TIMELINE);
}

/** One of the cluster's acceptors. */
export function acceptorAt(cluster: SmallCluster, index: number): TestAcceptor {
  const acceptor = cluster.acceptors[index];
  if (acceptor === undefined) throw new Error("no such acceptor");
  return acceptor;
}

/** A program of PostgreSQL that runs until it is told to stop, with its standard error. */
export class RunningTool implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly exited: Promise<number | null>;
  /** Rejects if it ends before it is told to. */
  readonly failed: Promise<never>;
  #told = false;
  stderr = "";

  constructor(postgres: PostgresInstallation, name: string, args: readonly string[]) {
    const path = postgres.tool(name);
    if (path === undefined) throw new Error(`no ${name}`);
    this.#child = spawn(path, args, { ...spawnIdentity(), cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.exited = new Promise((resolve) => this.#child.once("close", resolve));
    this.failed = this.exited.then((code) => {
      if (!this.#told) throw new Error(`${name} ended with ${code}: ${this.stderr}`);
      return new Promise<never>(() => undefined);
    });
    this.failed.catch(() => undefined);
  }

  interrupt(): void {
    this.#told = true;
    this.#child.kill("SIGINT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#told = true;
    this.#child.kill("SIGKILL");
    await this.exited;
  }
}

/** Waits until something is true of the timeline's readers; looked at whenever one comes, goes or reports. */
export async function until(
  acceptor: TestAcceptor,
  holds: (readers: TimelineReaders) => boolean,
): Promise<void> {
  const { readers } = timelineOf(acceptor);
  const { changes } = readers.senders;
  for (let { version } = changes; !holds(readers); version = await changes.changed(version));
}

/** Waits until a reader is connected to the acceptor. */
export function connected(acceptor: TestAcceptor): Promise<void> {
  return until(acceptor, ({ senders }) => senders.size > 0);
}

/** Waits until a standby that the acceptor feeds has replayed WAL up to `lsn`. */
export function applied(acceptor: TestAcceptor, lsn: Lsn): Promise<void> {
  return until(acceptor, ({ senders }) => senders.list().some(({ applyLsn }) => applyLsn >= lsn));
}

/** Settings of a standby that streams from wherever `primaryConninfo` says. */
export function standbySettings(primaryConninfo: string): Readonly<Record<string, string>> {
  return {
    // A standby must not have lower limits than its primary.
    ...ownSettings("walbridge"),
    primary_conninfo: primaryConninfo,
    wal_receiver_create_temp_slot: "on",
    hot_standby_feedback: "on",
    wal_receiver_status_interval: "1s",
    wal_retrieve_retry_interval: "100ms",
    fsync: "off",
  };
}

/** Hands a file or directory to the account that runs PostgreSQL. */
export async function giveToServer(path: string): Promise<void> {
  const { uid, gid } = spawnIdentity();
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}

/** A standby made of a copy of the data directory of a PostgreSQL that is down; works without pg_basebackup. */
export async function coldStandby(
  primary: PostgresCluster,
  directory: string,
  primaryConninfo: string,
): Promise<PostgresCluster> {
  await mkdir(directory);
  await giveToServer(directory);
  const data = join(directory, "data");
  // Node's copy does not keep the owner, and PostgreSQL starts on its own files only.
  await promisify(execFile)("cp", ["-a", primary.dataDirectory, data]);
  const signal = join(data, "standby.signal");
  await writeFile(signal, "");
  await giveToServer(signal);
  const standby = await PostgresCluster.open({
    installation: primary.installation,
    directory,
    settings: standbySettings(primaryConninfo),
  });
  if (standby === undefined) throw new Error("the copy is no data directory");
  return standby;
}
