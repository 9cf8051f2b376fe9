/**
 * Somebody who runs a proposer and keeps it running: restarts with a growing pause, as a supervisor does.
 *
 * A host has a database of its own. Its proposer usually comes back with that database, which may have written more
 * than was ever committed; sometimes the database is new.
 */
import type { Endpoint } from "./network.js";
import { ProposerProcess } from "./proposer-process.js";
import type { Database } from "./adopted-log.js";
import { Random } from "./random.js";
import { WalLog } from "./wal-log.js";
import type { World } from "./world.js";

const BACKOFF_MIN_MS = 60;
const BACKOFF_MAX_MS = 4000;
/** Share of restarts with another database. */
const NEW_DATABASE_SHARE = 0.25;

/** One host. Runs from `start` to `stop`. */
export class ProposerHost {
  readonly endpoint: Endpoint;
  readonly #world: World;
  readonly #name: string;
  readonly #mode: "stream" | "sync";
  readonly #random: Random;
  readonly #database: Database;
  #process: ProposerProcess | undefined;
  #runs = false;
  #incarnation = 0;
  #backoffMs = BACKOFF_MIN_MS;

  constructor(world: World, index: number, endpoint: Endpoint, mode: "stream" | "sync") {
    this.#world = world;
    this.endpoint = endpoint;
    this.#name = `P${String(index)}`;
    this.#mode = mode;
    this.#random = new Random(world.plan.seed, `proposer ${String(index)}`);
    this.#database = { log: new WalLog(world.startLsn, world.newMark()) };
  }

  get process(): ProposerProcess | undefined {
    return this.#process;
  }

  start(): void {
    this.#runs = true;
    this.#launch();
  }

  /** Ends it for good. */
  stop(): void {
    this.#runs = false;
    this.#process?.die();
    this.#process = undefined;
  }

  /** Kills the process; it comes back. */
  crash(downMs: number): void {
    const process = this.#process;
    if (process === undefined) return;
    this.#world.trace.note("proposer-crash", process.name);
    process.die();
    this.#process = undefined;
    this.#world.time.after(downMs, () => this.#launch());
  }

  #launch(): void {
    if (!this.#runs || this.#process !== undefined) return;
    this.#incarnation += 1;
    if (this.#world.hosts.some(({ process: other }) => other?.isElected === true)) {
      this.#world.coverage.count("competing-proposers");
    }
    if (this.#incarnation > 1 && this.#random.chance(NEW_DATABASE_SHARE)) {
      this.#database.log = new WalLog(this.#world.startLsn, this.#world.newMark());
    }
    const startedMs = this.#world.time.nowMs;
    const process = new ProposerProcess(this.#world, {
      name: `${this.#name}.${String(this.#incarnation)}`,
      endpoint: this.endpoint,
      database: this.#database,
      random: this.#random,
      mode: this.#mode,
      onEnd: (reason) => this.#onEnd(reason, startedMs),
    });
    this.#process = process;
    process.start();
  }

  #onEnd(reason: string, startedMs: number): void {
    this.#process = undefined;
    if (reason === "synced") this.#runs = false;
    if (!this.#runs) return;
    const { time } = this.#world;
    const lastedMs = time.nowMs - startedMs;
    this.#backoffMs = lastedMs > 2000 ? BACKOFF_MIN_MS : Math.min(BACKOFF_MAX_MS, this.#backoffMs * 2);
    time.after(this.#backoffMs * (0.5 + this.#random.next()), () => this.#launch());
  }
}
