/**
 * Everything on one machine: PostgreSQL, the bridge and three acceptors, started in order and ended in order.
 *
 * Start: lock, ids, ports; then PostgreSQL and the acceptors side by side; the bridge once both are there; up once the
 * bridge has committed on a quorum. Nothing that runs is touched before the lock is held.
 *
 * End: PostgreSQL first, because its walsender waits until the quorum has its last WAL and only the bridge and the
 * acceptors can give it that; then the bridge, then the acceptors, which flush and save their state. Each step has a
 * bound, and what does not end in time is killed, so that the whole takes at most ten seconds and leaves no process.
 *
 * This file wires and orders. How a process is kept alive is in parts/supervisor.ts, what the parts are in parts/, which
 * PostgreSQL it is in postgres/postgres-part.ts.
 */
import { join } from "node:path";

import type { PostgresCluster } from "@millrace/postgres-process";

import type { PostgresConfiguration } from "./configuration/all-in-one-options.js";
import { formatHostPort } from "./configuration/values.js";
import { DataLock } from "./data-lock.js";
import { ServerError } from "./errors.js";
import { listenHttp } from "./http/listen.js";
import type { HttpListener } from "./http/listen.js";
import { watchProcess } from "./http/metrics-text.js";
import { createStatusApi } from "./http/status-api.js";
import { prepareDataDirectory, readInstance } from "./instance.js";
import type { Instance } from "./instance.js";
import type { Logger, LogOptions } from "./logging.js";
import { ACCEPTOR_IDS, acceptorsReady, createAcceptorParts } from "./parts/acceptor-parts.js";
import type { AcceptorPart, AcceptorPlace } from "./parts/acceptor-parts.js";
import { APPLICATION_NAME, BridgePart } from "./parts/bridge-part.js";
import { describeProcess } from "./parts/part-options.js";
import type { SupervisedProcess } from "./parts/supervisor.js";
import { rememberedPorts } from "./ports.js";
import { openPostgres } from "./postgres/postgres-part.js";
import type { PostgresPart } from "./postgres/postgres-part.js";
import { redactUrl } from "./postgres/url.js";
import { BridgeEnds } from "./status/bridge-ends.js";
import { DivergenceChecks } from "./status/divergence-checks.js";
import type { BridgeReport, ClusterStatus } from "./status/cluster-status.js";
import { rememberStatusAddress } from "./status/status-address.js";
import { withDeadline } from "./waiting.js";

const LOOPBACK = "127.0.0.1";

/** From the bridge's start to its first commit on a quorum. */
const FIRST_COMMIT_MS = 20_000;
/** The steps of the end: at most 4 s and 2 s for the harder modes of PostgreSQL, then these; below 10 s together. */
const POSTGRES_STOP_MS = 4000;
const BRIDGE_STOP_MS = 1000;
const ACCEPTOR_STOP_MS = 2000;

/** What an all-in-one is started with. */
export interface AllInOneOptions extends PostgresConfiguration {
  readonly dataDir: string;
  readonly logger: Logger;
  readonly logLevel: LogOptions["level"];
  /** Added to the settings of our own PostgreSQL. */
  readonly postgresSettings?: Readonly<Record<string, string>>;
  /** WAL that each acceptor keeps in any case; its own default when absent. */
  readonly walKeepBytes?: number;
}

/** Thrown by `start` when `stop` was called meanwhile. */
export class StoppedError extends Error {
  override readonly name = "StoppedError";
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new ServerError("ERR_SERVER_CHILD", "not started");
  return part;
}

/** The running whole. One owner, who calls `start` once and `stop` or `kill` at the end. */
export class AllInOne {
  readonly #options: AllInOneOptions;
  readonly #logger: Logger;
  readonly #startedMs = performance.now();
  readonly #stopping: Promise<never>;
  #refuse: (error: Error) => void = () => undefined;
  #preparing: Promise<unknown> = Promise.resolve();
  #ending: Promise<void> | undefined;
  #killed = false;
  #dataDirectory = "";
  #lock: DataLock | undefined;
  #postgres: PostgresPart | undefined;
  #bridge: BridgePart | undefined;
  #acceptors: readonly AcceptorPart[] = [];
  #http: HttpListener | undefined;

  constructor(options: AllInOneOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#stopping = new Promise((_resolve, reject) => {
      this.#refuse = reject;
    });
    this.#stopping.catch(() => undefined);
  }

  /**
   * Brings everything up and resolves once a quorum has committed, or after a warning that none has yet. When it
   * fails, what had been started has been ended again.
   *
   * @throws {ServerError} with what to do about it; {StoppedError} after `stop` or `kill`
   */
  async start(): Promise<void> {
    try {
      const prepared = this.#prepare();
      this.#preparing = prepared.catch(() => undefined);
      await Promise.race([prepared, this.#stopping]);
      await Promise.race([this.#bringUp(), this.#stopping]);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  get dataDirectory(): string {
    return this.#dataDirectory;
  }

  /** For psql; holds the password. */
  get postgresUrl(): string {
    return started(this.#postgres).url;
  }

  /** "system PostgreSQL 15.18" and the like. */
  get postgresKind(): string {
    return started(this.#postgres).kind;
  }

  /** Our own cluster, undefined with `--pg <url>`. */
  get cluster(): PostgresCluster | undefined {
    return this.#postgres?.cluster;
  }

  get instance(): Instance {
    return started(this.#postgres).instance;
  }

  get statusUrl(): string {
    return `http://${formatHostPort(started(this.#http).address)}/`;
  }

  /** The acceptors' fixed facts, in the order of their ids. */
  get places(): readonly AcceptorPlace[] {
    return this.#acceptors.map(({ place }) => place);
  }

  /** The process of the acceptor at `index` of `places`. */
  acceptorProcess(index: number): SupervisedProcess {
    return started(this.#acceptors[index]).process;
  }

  /** The bridge's process. */
  get bridgeProcess(): SupervisedProcess {
    return started(this.#bridge).process;
  }

  /** PostgreSQL's postmaster, undefined with `--pg <url>`. */
  get postgresProcess(): SupervisedProcess | undefined {
    return this.#postgres?.process;
  }

  /** Every process of ours that runs now: PostgreSQL's postmaster, the bridge, the acceptors. */
  processIds(): number[] {
    return this.#processes().flatMap((part) => (part.pid === undefined ? [] : [part.pid]));
  }

  /** The last report of the bridge; undefined before the first one and while there is no bridge. */
  get bridgeReport(): BridgeReport | undefined {
    return this.#bridge?.report;
  }

  /** Resolves at the bridge's next report; there is a bridge once `start` has resolved. */
  nextReport(): Promise<void> {
    return started(this.#bridge).nextReport();
  }

  /** The present picture. */
  status(): ClusterStatus {
    const postgres = this.#postgres;
    const postgresState = postgres?.process === undefined ? "ready" : postgres.process.state;
    return {
      uptimeMs: performance.now() - this.#startedMs,
      dataDirectory: this.#dataDirectory,
      postgres: {
        kind: postgres?.kind ?? "",
        address: postgres === undefined ? "" : redactUrl(postgres.url),
        state: postgresState === "ready" ? "running" : postgresState,
      },
      bridge: {
        ...describeProcess(this.#bridge?.process),
        report: this.#bridge?.report,
        ends: this.#bridge?.ends ?? new BridgeEnds().counts,
        divergenceChecks: this.#bridge?.divergenceChecks ?? new DivergenceChecks().counts,
      },
      acceptors: this.#acceptors.map(({ place, process }) => ({
        ...describeProcess(process),
        id: place.id,
        walAddress: place.walAddress,
        httpUrl: place.httpUrl,
        stream: this.#bridge?.report?.acceptors.find((seen) => seen.address === place.walAddress),
      })),
      commitBytesPerSecond: this.#bridge?.commitBytesPerSecond ?? 0,
    };
  }

  /** Ends everything in order, within ten seconds. Later calls wait for the first. */
  stop(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  /** Ends everything at once: PostgreSQL by immediate shutdown, the rest by SIGKILL. Also while `stop` runs. */
  async kill(): Promise<void> {
    this.#killed = true;
    await Promise.all(this.#processes().map((part) => part.kill()));
    await this.stop();
  }

  async #prepare(): Promise<void> {
    const options = this.#options;
    this.#dataDirectory = prepareDataDirectory(options.dataDir);
    this.#lock = DataLock.acquire(this.#dataDirectory);
    const instance = readInstance(this.#dataDirectory);
    const ports = await this.#choosePorts();
    this.#acceptors = createAcceptorParts({
      dataDirectory: this.#dataDirectory,
      ports,
      logger: this.#logger,
      logLevel: options.logLevel,
      walKeepBytes: options.walKeepBytes,
    });
    this.#throwIfStopping();
    for (const { process } of this.#acceptors) process.start();
    this.#postgres = await openPostgres({
      pg: options.pg,
      applicationName: APPLICATION_NAME,
      dataDirectory: this.#dataDirectory,
      instance,
      port: ports.postgres,
      settings: options.postgresSettings ?? {},
      logger: this.#logger,
      onReady: () => this.#bridge?.process.retry(),
    });
    this.#throwIfStopping();
    this.#postgres.process?.start();
    const address = options.listenHttp ?? { host: LOOPBACK, port: ports.status };
    this.#http = await listenHttp(
      createStatusApi(() => this.status(), address.host, watchProcess()),
      address,
    );
    rememberStatusAddress(this.#dataDirectory, this.#http.address);
  }

  async #choosePorts(): Promise<
    Readonly<Record<`acceptor-${1 | 2 | 3}` | `acceptor-${1 | 2 | 3}-http` | "status" | "postgres", number>>
  > {
    const names = [
      ...ACCEPTOR_IDS.map((id) => `acceptor-${id}` as const),
      ...ACCEPTOR_IDS.map((id) => `acceptor-${id}-http` as const),
      "status" as const,
      "postgres" as const,
    ];
    const { pgPort } = this.#options;
    const file = join(this.#dataDirectory, "ports.json");
    const { ports, moved } = await rememberedPorts(
      file,
      names,
      pgPort === undefined ? undefined : { postgres: pgPort },
    );
    for (const name of moved) {
      this.#logger.warn(`the port of ${name} is used by another process; it is ${ports[name]} from now on`);
    }
    return ports;
  }

  async #bringUp(): Promise<void> {
    const postgres = started(this.#postgres);
    await acceptorsReady(this.#acceptors);
    await postgres.process?.readyOrEnded();
    // The first failure is the answer: a server that does not start now will not start at the third try either.
    if (postgres.process?.lastEnd !== undefined) {
      throw new ServerError("ERR_SERVER_POSTGRES", postgres.process.lastEnd);
    }
    this.#throwIfStopping();
    const { logLevel } = this.#options;
    const bridge = new BridgePart({ postgres, places: this.places, logger: this.#logger, logLevel });
    this.#bridge = bridge;
    bridge.process.start();
    await withDeadline(bridge.firstCommit(), FIRST_COMMIT_MS).catch(() => {
      const { state, lastEnd } = bridge.process;
      const last = lastEnd === undefined ? "" : `, last end: ${lastEnd}`;
      const next = state === "halted" ? "the bridge stays down" : "the bridge keeps trying";
      this.#logger.warn(
        `no quorum has committed yet (bridge: ${bridge.report?.state ?? "not ready"}${last}); commits wait until it has, and ${next}`,
      );
    });
  }

  async #end(): Promise<void> {
    this.#refuse(new StoppedError("stopped"));
    const httpClosed = this.#http?.close();
    // initdb cannot be interrupted; what it has made is to be closed like everything else.
    await this.#preparing;
    const grace = (ms: number): number => (this.#killed ? 0 : ms);
    // A bridge ends by itself when PostgreSQL has said its last word.
    this.#bridge?.process.expectEnd();
    await this.#postgres?.process?.stop(grace(POSTGRES_STOP_MS));
    await this.#bridge?.process.stop(grace(BRIDGE_STOP_MS));
    await Promise.all(this.#acceptors.map(({ process }) => process.stop(grace(ACCEPTOR_STOP_MS))));
    await this.#postgres?.cluster?.[Symbol.asyncDispose]();
    await (httpClosed ?? this.#http?.close());
    this.#lock?.release();
  }

  #processes(): SupervisedProcess[] {
    const parts = [
      this.#postgres?.process,
      this.#bridge?.process,
      ...this.#acceptors.map(({ process }) => process),
    ];
    return parts.filter((part) => part !== undefined);
  }

  #throwIfStopping(): void {
    if (this.#ending !== undefined) throw new StoppedError("stopped");
  }
}
