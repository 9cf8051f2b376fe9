/**
 * PostgreSQL, a bridge and three acceptors composed in one process, for tests that need to hold a disk or take an
 * acceptor away at a known moment. The processes and their supervision are tested elsewhere (command.pg.test.ts).
 */
import type { Socket } from "node:net";
import { join } from "node:path";

import { connect, parseConnectionUrl } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import { PostgresCluster } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { AcceptorNode } from "@millrace/wal-acceptor";
import { Bridge } from "@millrace/wal-proposer";
import type { BridgeOptions } from "@millrace/wal-proposer";

import type { HostPort } from "../src/configuration/values.js";
import { listenWal } from "../src/parts/wal-listener.js";
import type { WalListener } from "../src/parts/wal-listener.js";
import { ownSettings } from "../src/postgres/own-postgres.js";
import { GatedDisk } from "./gated-file-system.js";

export const TENANT = "00000000000000000000000000000001";
export const TIMELINE = "00000000000000000000000000000002";
const APPLICATION_NAME = "walbridge";

/** One acceptor that can go away and come back on the same port with the same data. */
export class TestAcceptor {
  readonly disk: GatedDisk = new GatedDisk();
  readonly directory: string;
  readonly nodeId: bigint;
  #node: AcceptorNode | undefined;
  #listener: WalListener | undefined;
  #address: HostPort = { host: "127.0.0.1", port: 0 };
  readonly #sockets = new Set<Socket>();

  constructor(directory: string, nodeId: bigint) {
    this.directory = directory;
    this.nodeId = nodeId;
  }

  get node(): AcceptorNode {
    if (this.#node === undefined) throw new Error("the acceptor is down");
    return this.#node;
  }

  get address(): HostPort {
    return this.#address;
  }

  async start(): Promise<void> {
    const node = await AcceptorNode.open({
      directory: this.directory,
      nodeId: this.nodeId,
      fileSystem: this.disk.fileSystem,
      onFatal: (error) => {
        throw error;
      },
    });
    this.#node = node;
    // A node loads its timelines while it serves already; tests look at this one right away, if it is there.
    await node.timelines.load(TENANT, TIMELINE).catch(() => undefined);
    this.#listener = await listenWal(this.#address, (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined);
      void node.handleConnection(socket);
    });
    this.#address = this.#listener.address;
  }

  /** Goes away as far as the others can see: the port is closed, every connection is reset. */
  async stop(): Promise<void> {
    this.#listener?.stop();
    this.#listener = undefined;
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await this.#node?.close();
    this.#node = undefined;
  }
}

/** What a test wants to have otherwise. */
interface SmallClusterOptions {
  /** Of PostgreSQL. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly bridge?: Partial<BridgeOptions>;
}

/** The whole; dispose it to end everything. */
export class SmallCluster implements AsyncDisposable {
  readonly postgres: PostgresCluster;
  readonly acceptors: readonly TestAcceptor[];
  #bridge: Bridge | undefined;

  private constructor(postgres: PostgresCluster, acceptors: readonly TestAcceptor[]) {
    this.postgres = postgres;
    this.acceptors = acceptors;
  }

  static async create(
    installation: PostgresInstallation,
    directory: string,
    options: SmallClusterOptions = {},
  ): Promise<SmallCluster> {
    const postgres = await PostgresCluster.create({
      installation,
      directory: join(directory, "postgres"),
      segmentBytes: 1024 * 1024,
      initdbArguments: ["--no-sync"],
      settings: { ...ownSettings(APPLICATION_NAME), wal_keep_size: "1GB", fsync: "off", ...options.settings },
    });
    const acceptors = [1n, 2n, 3n].map((id) => new TestAcceptor(join(directory, `acceptor-${id}`), id));
    const cluster = new SmallCluster(postgres, acceptors);
    await cluster.start(options.bridge);
    return cluster;
  }

  /** Starts everything on what is on disk; resolves once WAL flows. */
  async start(options: Partial<BridgeOptions> = {}): Promise<void> {
    await Promise.all([this.postgres.start(), ...this.acceptors.map((acceptor) => acceptor.start())]);
    const bridge = await this.openBridge(this.postgres, options);
    await bridge.streaming;
  }

  /** Opens the cluster's bridge, on another PostgreSQL than the first where that is given. */
  async openBridge(
    postgres: PostgresCluster = this.postgres,
    options: Partial<BridgeOptions> = {},
  ): Promise<Bridge> {
    const nodeOf = ({ nodeId }: { readonly nodeId?: bigint }): AcceptorNode => {
      const target = this.acceptors.find((acceptor) => acceptor.nodeId === nodeId);
      if (target === undefined) throw new Error(`no acceptor ${nodeId}`);
      return target.node;
    };
    this.#bridge = await Bridge.open({
      postgres: parseConnectionUrl(postgres.url()),
      acceptors: this.acceptors.map(({ address, nodeId }) => ({ ...address, nodeId })),
      tenantId: TENANT,
      timelineId: TIMELINE,
      applicationName: APPLICATION_NAME,
      reconnectMs: 20,
      createTimeline: async ({ acceptor, ...request }) => {
        await nodeOf(acceptor).timelines.create(request);
      },
      digest: async (acceptor, fromLsn, untilLsn) =>
        await nodeOf(acceptor).timelines.get(TENANT, TIMELINE).digest(fromLsn, untilLsn),
      pgTimelines: {
        list: async (acceptor) => nodeOf(acceptor).timelines.get(TENANT, TIMELINE).status().pgTimelines,
        register: async (acceptor, timeline) => {
          await nodeOf(acceptor).timelines.get(TENANT, TIMELINE).readers.registerPgTimeline(timeline);
        },
      },
      ...options,
    });
    return this.#bridge;
  }

  get bridge(): Bridge {
    if (this.#bridge === undefined) throw new Error("there is no bridge");
    return this.#bridge;
  }

  sql(): Promise<ClientConnection> {
    return connect(parseConnectionUrl(this.postgres.url()));
  }

  /** Ends everything in the order of the all-in-one, so that the last WAL reaches the quorum. */
  async stop(): Promise<void> {
    for (const { disk } of this.acceptors) disk.release();
    await this.postgres.stop("fast");
    await this.#bridge?.close();
    await Promise.all(this.acceptors.map((acceptor) => acceptor.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { disk } of this.acceptors) disk.release();
    await this.postgres[Symbol.asyncDispose]();
    await this.#bridge?.close({ immediate: true });
    await Promise.all(this.acceptors.map((acceptor) => acceptor.stop()));
    await Promise.all(this.acceptors.map(({ disk }) => disk[Symbol.asyncDispose]()));
  }
}
