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
 * This file wires and orders. How a process is kept alive is in parts/supervisor.ts, which PostgreSQL it is in
 * postgres/postgres-part.ts.
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
import type { ChildMessage } from "./parts/messages.js";
import { partArguments, spawnPart } from "./parts/spawn-part.js";
import { SupervisedProcess } from "./parts/supervisor.js";
import { rememberedPorts } from "./ports.js";
import { openPostgres } from "./postgres/postgres-part.js";
import type { PostgresPart } from "./postgres/postgres-part.js";
import { redactUrl } from "./postgres/url.js";
import { BridgeEnds } from "./status/bridge-ends.js";
import { CommitRate } from "./status/cluster-status.js";
import type { BridgeReport, ClusterStatus, ProcessReport } from "./status/cluster-status.js";
import { rememberStatusAddress } from "./status/status-address.js";
import { withDeadline } from "./waiting.js";

/** Three: the smallest number that goes on after the loss of one. */
const ACCEPTOR_IDS = [1, 2, 3] as const;
const QUORUM = 2;
/** The name in synchronous_standby_names. */
export const APPLICATION_NAME = "walbridge";
const LOOPBACK = "127.0.0.1";

/** A healthy acceptor is there in well under a second; recovery reads WAL back from the last commit position. */
const ACCEPTORS_READY_MS = 30_000;
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

/** One acceptor's fixed facts. */
export interface AcceptorPlace {
  readonly id: number;
  readonly directory: string;
  readonly walAddress: string;
  readonly httpUrl: string;
}

/** Thrown by `start` when `stop` was called meanwhile. */
export class StoppedError extends Error {
  override readonly name = "StoppedError";
}

/** At level info the whole speaks; every connection and state of its parts is for level debug. */
function partLogLevel(level: LogOptions["level"]): LogOptions["level"] {
  return level === "info" ? "warn" : level;
}

function describeProcess(part: SupervisedProcess | undefined): ProcessReport {
  return {
    state: part?.state ?? "stopped",
    pid: part?.pid,
    restarts: part?.restarts ?? 0,
    lastEnd: part?.lastEnd,
  };
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
  readonly #rate = new CommitRate();
  readonly #stopping: Promise<never>;
  #refuse: (error: Error) => void = () => undefined;
  #preparing: Promise<unknown> = Promise.resolve();
  #ending: Promise<void> | undefined;
  #killed = false;
  #dataDirectory = "";
  #lock: DataLock | undefined;
  #postgres: PostgresPart | undefined;
  #bridge: SupervisedProcess | undefined;
  readonly #bridgeEnds = new BridgeEnds();
  #report: BridgeReport | undefined;
  #onReport: (() => void)[] = [];
  #acceptors: { readonly place: AcceptorPlace; readonly process: SupervisedProcess }[] = [];
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
    return started(this.#bridge);
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
    return this.#report;
  }

  /** Resolves at the bridge's next report. */
  nextReport(): Promise<void> {
    return new Promise((resolve) => this.#onReport.push(resolve));
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
        ...describeProcess(this.#bridge),
        report: this.#report,
        ends: this.#bridgeEnds.counts,
      },
      acceptors: this.#acceptors.map(({ place, process }) => ({
        ...describeProcess(process),
        id: place.id,
        walAddress: place.walAddress,
        httpUrl: place.httpUrl,
        stream: this.#report?.acceptors.find((seen) => seen.address === place.walAddress),
      })),
      commitBytesPerSecond: this.#rate.bytesPerSecond(),
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
    for (const id of ACCEPTOR_IDS)
      this.#addAcceptor(id, ports[`acceptor-${id}`], ports[`acceptor-${id}-http`]);
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
      onReady: () => this.#bridge?.retry(),
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

  #addAcceptor(id: number, walPort: number, httpPort: number): void {
    const name = `acceptor ${id}`;
    const place: AcceptorPlace = {
      id,
      directory: join(this.#dataDirectory, `acceptor-${id}`),
      walAddress: `${LOOPBACK}:${walPort}`,
      httpUrl: `http://${LOOPBACK}:${httpPort}`,
    };
    const logger = this.#logger.child({ part: name });
    const { walKeepBytes } = this.#options;
    const args = partArguments("acceptor", {
      "data-dir": place.directory,
      id: String(id),
      "listen-pg": place.walAddress,
      "listen-http": `${LOOPBACK}:${httpPort}`,
      ...(walKeepBytes === undefined ? {} : { "wal-keep-size": String(walKeepBytes) }),
      "log-format": "json",
      "log-level": partLogLevel(this.#options.logLevel),
    });
    const process = new SupervisedProcess({
      name,
      logger: this.#logger,
      start: (events) => spawnPart({ name, args, logger, onMessage: () => undefined }, events),
    });
    this.#acceptors.push({ place, process });
  }

  async #bringUp(): Promise<void> {
    const postgres = started(this.#postgres);
    await this.#acceptorsReady();
    await postgres.process?.readyOrEnded();
    // The first failure is the answer: a server that does not start now will not start at the third try either.
    if (postgres.process?.lastEnd !== undefined) {
      throw new ServerError("ERR_SERVER_POSTGRES", postgres.process.lastEnd);
    }
    this.#throwIfStopping();
    this.#startBridge(postgres);
    await withDeadline(this.#firstCommit(), FIRST_COMMIT_MS).catch(() => {
      const state = this.#report?.state ?? "not ready";
      const last = this.#bridge?.lastEnd === undefined ? "" : `, last end: ${this.#bridge.lastEnd}`;
      this.#logger.warn(
        `no quorum has committed yet (bridge: ${state}${last}); commits wait until it has, and the bridge keeps trying`,
      );
    });
  }

  async #acceptorsReady(): Promise<void> {
    const all = Promise.all(this.#acceptors.map(({ process }) => process.ready()));
    await withDeadline(all, ACCEPTORS_READY_MS).catch(() => undefined);
    const ready = this.#acceptors.filter(({ process }) => process.state === "ready").length;
    if (ready >= QUORUM) return;
    const ends = this.#acceptors.map(({ process }) => `${process.name}: ${process.lastEnd ?? process.state}`);
    throw new ServerError("ERR_SERVER_CHILD", `the acceptors did not start (${ends.join("; ")})`);
  }

  #startBridge(postgres: PostgresPart): void {
    const logger = this.#logger.child({ part: "bridge" });
    const args = partArguments("bridge", {
      "pg-url-file": postgres.urlFile,
      acceptors: this.places.map((place) => place.walAddress).join(","),
      "acceptor-http": this.places.map((place) => place.httpUrl).join(","),
      tenant: postgres.instance.tenantId,
      timeline: postgres.instance.timelineId,
      "application-name": APPLICATION_NAME,
      "log-format": "json",
      "log-level": partLogLevel(this.#options.logLevel),
    });
    const onMessage = (message: ChildMessage): void => {
      if (message.type === "bridge-ended") this.#bridgeEnds.told(message.reason);
      if (message.type !== "bridge-status") return;
      this.#report = message.status;
      this.#rate.note(performance.now(), message.status.commitLsn);
      for (const resolve of this.#onReport.splice(0)) resolve();
    };
    this.#bridge = new SupervisedProcess({
      name: "bridge",
      logger: this.#logger,
      start: (events) =>
        spawnPart(
          { name: "bridge", args, logger, onMessage },
          {
            ...events,
            ended: (how, exitCode) => {
              this.#bridgeEnds.ended(exitCode);
              events.ended(how, exitCode);
            },
          },
        ),
      // Without PostgreSQL a bridge can only fail, and each failure would make its next delay longer.
      mayRestart: () => postgres.process === undefined || postgres.process.state === "ready",
      onChange: () => {
        // A report of a bridge that has ended would show positions that nobody moves.
        if (this.#bridge?.state !== "ready") this.#report = undefined;
      },
    });
    this.#bridge.start();
  }

  async #firstCommit(): Promise<void> {
    for (;;) {
      const report = this.#report;
      if (report !== undefined && report.commitLsn > 0n && report.commitLsn >= report.termStartLsn) return;
      await this.nextReport();
    }
  }

  async #end(): Promise<void> {
    this.#refuse(new StoppedError("stopped"));
    const httpClosed = this.#http?.close();
    // initdb cannot be interrupted; what it has made is to be closed like everything else.
    await this.#preparing;
    const grace = (ms: number): number => (this.#killed ? 0 : ms);
    // A bridge ends by itself when PostgreSQL has said its last word.
    this.#bridge?.expectEnd();
    await this.#postgres?.process?.stop(grace(POSTGRES_STOP_MS));
    await this.#bridge?.stop(grace(BRIDGE_STOP_MS));
    await Promise.all(this.#acceptors.map(({ process }) => process.stop(grace(ACCEPTOR_STOP_MS))));
    await this.#postgres?.cluster?.[Symbol.asyncDispose]();
    await (httpClosed ?? this.#http?.close());
    this.#lock?.release();
  }

  #processes(): SupervisedProcess[] {
    const parts = [this.#postgres?.process, this.#bridge, ...this.#acceptors.map(({ process }) => process)];
    return parts.filter((part) => part !== undefined);
  }

  #throwIfStopping(): void {
    if (this.#ending !== undefined) throw new StoppedError("stopped");
  }
}
