// A real PostgreSQL primary whose commits wait for "walbridge", three test acceptors, and a bridge between them.
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { addBytes, segmentFileName, segmentNumber, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import type { ClientConnection, ClientOptions } from "@millrace/pg-wire";
import { PostgresCluster, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { Bridge } from "../../src/index.js";
import type { BridgeOptions, CreateTimelineRequest } from "../../src/index.js";
import { TestAcceptor } from "./test-acceptor.js";

export const SEGMENT_BYTES: number = 1024 * 1024;
export const TENANT: string = "a".repeat(32);
export const TIMELINE: string = "b".repeat(32);

export class Primary implements AsyncDisposable {
  readonly cluster: PostgresCluster;
  readonly postgres: ClientOptions;
  readonly acceptors: readonly TestAcceptor[];
  /** All ranges that bridges asked a digest of. */
  readonly digests: { readonly fromLsn: Lsn; readonly untilLsn: Lsn }[] = [];
  #running = Promise.resolve();
  readonly #installation: PostgresInstallation;
  readonly #directory: AsyncDisposable;
  readonly #connections: ClientConnection[] = [];
  readonly #bridges: Bridge[] = [];

  private constructor(
    cluster: PostgresCluster,
    directory: AsyncDisposable,
    acceptors: readonly TestAcceptor[],
    installation: PostgresInstallation,
  ) {
    this.cluster = cluster;
    this.postgres = parseConnectionUrl(cluster.url());
    this.acceptors = acceptors;
    this.#directory = directory;
    this.#installation = installation;
  }

  static async start(
    installation: PostgresInstallation,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Primary> {
    const directory = await temporaryDirectory("bridge-");
    const cluster = await PostgresCluster.create({
      installation,
      directory: directory.path,
      segmentBytes: SEGMENT_BYTES,
      initdbArguments: ["--no-sync"],
      settings: {
        synchronous_standby_names: "FIRST 1 (walbridge)",
        max_wal_size: "8MB",
        min_wal_size: "2MB",
        autovacuum: "off",
        ...settings,
      },
    });
    await cluster.start();
    const acceptors = await Promise.all([1n, 2n, 3n].map((nodeId) => TestAcceptor.listen(nodeId)));
    return new Primary(cluster, directory, acceptors, installation);
  }

  /** A connection for SQL; with `local` its commits do not wait for the bridge. */
  async sql(local = false): Promise<ClientConnection> {
    const connection = await connect({ ...this.postgres, database: "postgres" });
    this.#connections.push(connection);
    if (local) await connection.query("SET synchronous_commit = local");
    return connection;
  }

  /** Creates the timeline as the HTTP side of an acceptor would. */
  create({ acceptor, startLsn, configuration }: CreateTimelineRequest): void {
    const wal = { pgMajor: this.#installation.major, segmentBytes: SEGMENT_BYTES };
    this.#acceptorAt(acceptor.port).createTimeline({ startLsn, configuration, wal });
  }

  #acceptorAt(port: number): TestAcceptor {
    const acceptor = this.acceptors.find((candidate) => candidate.port === port);
    if (acceptor === undefined) throw new Error(`no acceptor listens on ${port}`);
    return acceptor;
  }

  options(): BridgeOptions {
    return {
      postgres: this.postgres,
      acceptors: this.acceptors.map(({ port, nodeId }) => ({ host: "127.0.0.1", port, nodeId })),
      tenantId: TENANT,
      timelineId: TIMELINE,
      createTimeline: async (request) => this.create(request),
      digest: (acceptor, fromLsn, untilLsn) => {
        this.digests.push({ fromLsn, untilLsn });
        return this.#acceptorAt(acceptor.port).digest(fromLsn, untilLsn);
      },
      reconnectMs: 100,
    };
  }

  async bridge(options: Partial<BridgeOptions> = {}): Promise<Bridge> {
    const bridge = await Bridge.open({ ...this.options(), ...options });
    this.#bridges.push(bridge);
    return bridge;
  }

  /** Ends PostgreSQL, one way or the other, and starts it again. */
  async restart(how: "kill" | "fast"): Promise<void> {
    let started: () => void = () => undefined;
    this.#running = new Promise((resolve) => {
      started = resolve;
    });
    if (how === "kill") await this.cluster.kill();
    else await this.cluster.stop("fast");
    await this.cluster.start();
    started();
  }

  /** Resolves when no restart is under way. */
  running(): Promise<void> {
    return this.#running;
  }

  /** Deletes the segments from `lsn` on, as a disk might that lies about what is durable. PostgreSQL must be down. */
  loseWalFrom(lsn: Lsn): number {
    const directory = join(this.cluster.dataDirectory, "pg_wal");
    const first = segmentFileName(1, segmentNumber(lsn, SEGMENT_BYTES), SEGMENT_BYTES);
    const lost = readdirSync(directory).filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= first);
    for (const name of lost) rmSync(join(directory, name));
    return lost.length;
  }

  /** PostgreSQL's own copy of [beginLsn, endLsn). */
  pgWal(beginLsn: Lsn, endLsn: Lsn): Buffer {
    const parts: Buffer[] = [];
    for (let lsn = beginLsn; lsn < endLsn;) {
      const offset = segmentOffset(lsn, SEGMENT_BYTES);
      const length = Math.min(SEGMENT_BYTES - offset, Number(endLsn - lsn));
      const name = segmentFileName(1, segmentNumber(lsn, SEGMENT_BYTES), SEGMENT_BYTES);
      const file = readFileSync(join(this.cluster.dataDirectory, "pg_wal", name));
      parts.push(file.subarray(offset, offset + length));
      lsn = addBytes(lsn, length);
    }
    return Buffer.concat(parts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#bridges.map((bridge) => bridge.close({ immediate: true })));
    for (const connection of this.#connections) connection.destroy();
    await Promise.all(this.acceptors.map((acceptor) => acceptor.stop()));
    await this.cluster[Symbol.asyncDispose]();
    await this.#directory[Symbol.asyncDispose]();
  }
}
