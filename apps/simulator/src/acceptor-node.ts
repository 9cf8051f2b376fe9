/**
 * One acceptor machine: a disk that lasts, and a process on it between two crashes.
 *
 * A machine that has crashed comes back by itself after a while. Lives are numbered, so that what an earlier one had
 * begun (opening its stores, say) cannot be mistaken for a later one's.
 */
import type { DiskBehaviour } from "./disk-behaviour.js";
import { AcceptorProcess } from "./acceptor-process.js";
import { isDiskTrouble, messageOf, stackOf } from "./error-text.js";
import type { NodeStorage } from "./node-storage.js";
import { Random } from "./random.js";
import type { World } from "./world.js";

/** Time between a failed start, or a process that ended itself, and the next attempt. */
const RESTART_MS = 80;

/** A machine. It exists without a timeline until `install`. */
export class AcceptorNode {
  readonly index: number;
  readonly nodeId: bigint;
  readonly name: string;
  readonly behaviour: DiskBehaviour;
  readonly #world: World;
  readonly #random: Random;
  #storage: NodeStorage | undefined;
  #process: AcceptorProcess | undefined;
  #life = 0;
  #openingLife = -1;

  constructor(world: World, index: number, behaviour: DiskBehaviour) {
    this.#world = world;
    this.index = index;
    this.nodeId = BigInt(index + 1);
    this.name = `A${String(index + 1)}`;
    this.behaviour = behaviour;
    this.#random = new Random(world.plan.seed, `acceptor ${String(index)}`);
  }

  /** The process, if it runs. */
  get process(): AcceptorProcess | undefined {
    return this.#process;
  }

  /** Whether the timeline exists here. */
  get hasTimeline(): boolean {
    return this.#storage !== undefined;
  }

  /** Puts a timeline on the disk and starts. */
  install(storage: NodeStorage): void {
    this.#storage = storage;
    this.start();
  }

  /** Takes the timeline away: the node was excluded and deletes its copy. */
  uninstall(): void {
    this.#life += 1;
    this.#process?.die();
    this.#process = undefined;
    this.#storage = undefined;
  }

  /** Starts the process unless it runs or is starting. */
  start(): void {
    const storage = this.#storage;
    if (storage === undefined || this.#process !== undefined || this.#openingLife === this.#life) return;
    this.#openingLife = this.#life;
    this.#world.time.promisesMoved();
    void this.#open(storage, this.#life);
  }

  /** Ends the process, or its start; `downMs` later it starts again. */
  crash(kind: "power-cut" | "kill", downMs: number): void {
    if (this.#storage === undefined) return;
    this.#world.trace.note("crash", this.name, kind);
    this.#life += 1;
    this.#process?.die();
    this.#process = undefined;
    if (kind === "power-cut") this.#storage.powerCut(this.#random);
    else this.#storage.kill(this.#random);
    this.#world.time.after(downMs, () => this.start());
  }

  async #open(storage: NodeStorage, life: number): Promise<void> {
    const { index, nodeId, name } = this;
    const { trace, ledger } = this.#world;
    try {
      const stores = await storage.open(() => this.#onFatal(life));
      if (life !== this.#life) return;
      const { behaviour } = this;
      const beforeElected = (): void => behaviour.beforeElected();
      const readDelay = (): Promise<void> | undefined => behaviour.readDelay();
      const identity = { index, nodeId, name, random: this.#random, beforeElected, readDelay };
      const process = await AcceptorProcess.open(this.#world, identity, stores);
      await process.recover();
      if (life !== this.#life) {
        process.die();
        return;
      }
      this.#process = process;
      trace.note("started", name, process.state.term, process.state.flushLsn, process.state.commitLsn);
      if (life > 0) this.#world.coverage.count("recovery");
    } catch (error) {
      if (life !== this.#life) return; // it crashed while it started, and the next start is on the way
      trace.note("start-failed", name, messageOf(error));
      // Whatever it had promised is gone with its files.
      if (!isDiskTrouble(error)) {
        ledger.violate("I3 DurableAcknowledgement", `${name} does not start: ${stackOf(error)}`);
      }
      this.#world.time.after(RESTART_MS, () => this.start());
    }
    this.#openingLife = -1;
  }

  // A sync has failed: the process exits at once, and what the kernel had not written may be gone.
  #onFatal(life: number): void {
    this.#world.time.after(0, () => {
      if (life === this.#life) this.crash("power-cut", RESTART_MS);
    });
  }
}
