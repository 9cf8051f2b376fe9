/**
 * The bridge of an all-in-one: its process, what it tells of itself, and how its lives have ended.
 *
 * A bridge that ended because another proposer was elected, or because PostgreSQL's log is not the acceptors', is not
 * started again: its successor would end the same way and cost a term each time, and after a failover it would fight
 * the new bridge. It stays down until the all-in-one is started again, and the status says why.
 */
import { EXIT } from "../errors.js";
import type { Logger, LogOptions } from "../logging.js";
import type { PostgresPart } from "../postgres/postgres-part.js";
import { BridgeEnds } from "../status/bridge-ends.js";
import { CommitRate } from "../status/cluster-status.js";
import type { BridgeReport } from "../status/cluster-status.js";
import { DivergenceChecks } from "../status/divergence-checks.js";
import type { AcceptorPlace } from "./acceptor-parts.js";
import type { ChildMessage } from "./messages.js";
import { partLogLevel } from "./part-options.js";
import { partArguments, spawnPart } from "./spawn-part.js";
import { SupervisedProcess } from "./supervisor.js";
import type { ChildEvents, RunningChild, Timers } from "./supervisor.js";

/** The name in synchronous_standby_names. */
export const APPLICATION_NAME = "walbridge";

/** See the members. */
export interface BridgePartOptions {
  readonly postgres: Pick<PostgresPart, "urlFile" | "instance" | "process">;
  readonly places: readonly AcceptorPlace[];
  readonly logger: Logger;
  readonly logLevel: LogOptions["level"];
  /** Replaces the child process, for tests. */
  readonly spawn?: (onMessage: (message: ChildMessage) => void, events: ChildEvents) => RunningChild;
  readonly timers?: Timers;
}

/** One for each all-in-one. `process.start` starts it. */
export class BridgePart {
  readonly process: SupervisedProcess;
  readonly #ends = new BridgeEnds();
  readonly #divergenceChecks = new DivergenceChecks();
  readonly #rate = new CommitRate();
  #report: BridgeReport | undefined;
  /** What the running bridge has said about its end. */
  #said: string | undefined;
  #onReport: (() => void)[] = [];

  constructor(options: BridgePartOptions) {
    const { postgres, logger: parent } = options;
    const logger = parent.child({ part: "bridge" });
    const args = bridgeArguments(options);
    const spawn =
      options.spawn ??
      ((onMessage, events): RunningChild => spawnPart({ name: "bridge", args, logger, onMessage }, events));
    this.process = new SupervisedProcess({
      name: "bridge",
      logger: parent,
      ...(options.timers === undefined ? {} : { timers: options.timers }),
      start: (events) =>
        spawn((message) => this.#onMessage(message), {
          ...events,
          ended: (how, exitCode) => {
            const said = this.#said;
            this.#said = undefined;
            this.#ends.ended(exitCode);
            this.#divergenceChecks.ended();
            events.ended(said === undefined ? how : `${how}: ${said}`, exitCode);
          },
        }),
      isFinal: (exitCode) => exitCode === EXIT.termLost || exitCode === EXIT.refused,
      // Without PostgreSQL a bridge can only fail, and each failure would make its next delay longer.
      mayRestart: () => postgres.process === undefined || postgres.process.state === "ready",
      onChange: () => {
        // A report of a bridge that has ended would show positions that nobody moves.
        if (this.process.state !== "ready") this.#report = undefined;
      },
    });
  }

  /** The last report; undefined before the first one and while there is no bridge. */
  get report(): BridgeReport | undefined {
    return this.#report;
  }

  /** How many bridges have ended so far, by reason. */
  get ends(): ReadonlyMap<string, number> {
    return this.#ends.counts;
  }

  /** How many comparisons of logs have ended so far, by result. */
  get divergenceChecks(): ReadonlyMap<string, number> {
    return this.#divergenceChecks.counts;
  }

  /** Bytes of WAL that the quorum commits per second. */
  get commitBytesPerSecond(): number {
    return this.#rate.bytesPerSecond();
  }

  /** Resolves at the next report. */
  nextReport(): Promise<void> {
    return new Promise((resolve) => this.#onReport.push(resolve));
  }

  /** Resolves once a quorum has committed something of the bridge's own term. */
  async firstCommit(): Promise<void> {
    for (;;) {
      const report = this.#report;
      if (report !== undefined && report.commitLsn > 0n && report.commitLsn >= report.termStartLsn) return;
      await this.nextReport();
    }
  }

  #onMessage(message: ChildMessage): void {
    if (message.type === "bridge-ended") {
      this.#ends.told(message.reason);
      this.#said = message.detail;
      this.#divergenceChecks.told(message.divergence);
    }
    if (message.type !== "bridge-status") return;
    this.#report = message.status;
    this.#divergenceChecks.told(message.status.divergence);
    this.#rate.note(performance.now(), message.status.commitLsn);
    for (const resolve of this.#onReport.splice(0)) resolve();
  }
}

function bridgeArguments({ postgres, places, logLevel }: BridgePartOptions): string[] {
  return partArguments("bridge", {
    "pg-url-file": postgres.urlFile,
    acceptors: places.map((place) => place.walAddress).join(","),
    "acceptor-http": places.map((place) => place.httpUrl).join(","),
    tenant: postgres.instance.tenantId,
    timeline: postgres.instance.timelineId,
    "application-name": APPLICATION_NAME,
    "log-format": "json",
    "log-level": partLogLevel(logLevel),
  });
}
