/**
 * A proposer process's connections to the acceptors, at most one each: attempts, refusals, ends.
 *
 * An attempt takes a round trip. Over a blocked way nothing comes back: the core's own limit ends the attempt, and so
 * that every attempt ends, it fails here by itself when that limit must have passed.
 */
import type { Connection, Endpoint } from "./network.js";
import type { Random } from "./random.js";
import type { World } from "./world.js";

/** Requests that may be under way on one connection. */
const WINDOW = 24;
/** Connections refused by a machine that is up. */
const REFUSAL_MS = 2;

/** Whose connections these are, and what it is told. */
export interface LinksOwner {
  readonly endpoint: Endpoint;
  readonly random: Random;
  readonly isOver: () => boolean;
  readonly opened: (acceptor: number) => void;
  /** `payload` is given. */
  readonly message: (acceptor: number, payload: Uint8Array) => void;
  readonly closed: (acceptor: number, reason: string) => void;
}

/** All connections of one process. */
export class ProposerLinks {
  readonly #world: World;
  readonly #owner: LinksOwner;
  readonly #connections: (Connection | undefined)[];

  constructor(world: World, owner: LinksOwner) {
    this.#world = world;
    this.#owner = owner;
    this.#connections = world.acceptors.map(() => undefined);
  }

  /** Whether there is a connection, or an attempt, and whether it takes more now. */
  state(acceptor: number): "none" | "full" | "ready" {
    const side = this.#connections[acceptor]?.clientSide;
    if (side === undefined) return "none";
    return side.queued >= WINDOW ? "full" : "ready";
  }

  /** @param payload given */
  send(acceptor: number, payload: Uint8Array): void {
    this.#connections[acceptor]?.clientSide.send(payload);
  }

  /** The process gives a connection up; what it sent arrives, or a part of it. The owner is told. */
  disconnect(acceptor: number, reason: string): void {
    this.#connections[acceptor]?.clientSide.close(reason, this.#owner.random.chance(0.5));
    this.#end(acceptor, reason);
  }

  /** The process is gone. The owner is not told. */
  die(): void {
    const keepAll = this.#owner.random.chance(0.5);
    for (const connection of this.#connections) connection?.clientSide.close("proposer gone", keepAll);
  }

  connectLater(acceptor: number): void {
    const { time, plan } = this.#world;
    time.after(this.#owner.random.next() * 0.4 * plan.reconnectMs, () => {
      if (!this.#owner.isOver()) this.#connect(acceptor);
    });
  }

  #connect(acceptor: number): void {
    const { time, network, plan } = this.#world;
    const { endpoint } = this.#owner;
    const roundTripMs = network.latencyMs(endpoint, acceptor) + network.latencyMs(acceptor, endpoint);
    const isBlocked = network.isBlocked(endpoint, acceptor) || network.isBlocked(acceptor, endpoint);
    const connection = network.open(endpoint, acceptor);
    this.#connections[acceptor] = connection;
    if (isBlocked) {
      time.after(plan.connectionTimeoutMs * 1.5, () => this.#fail(acceptor, connection, "no route"));
      return;
    }
    time.after(roundTripMs, () => {
      const process = this.#world.acceptors[acceptor]?.process;
      if (this.#owner.isOver() || this.#connections[acceptor] !== connection) return;
      if (process === undefined) {
        time.after(REFUSAL_MS, () => this.#fail(acceptor, connection, "refused"));
        return;
      }
      connection.clientSide.handlers = {
        message: (payload) => this.#owner.message(acceptor, payload),
        closed: (reason) => {
          if (this.#connections[acceptor] === connection) this.#end(acceptor, reason);
        },
      };
      process.accept(connection.serverSide, endpoint);
      this.#owner.opened(acceptor);
    });
  }

  #fail(acceptor: number, connection: Connection, reason: string): void {
    if (this.#connections[acceptor] !== connection) return;
    connection.clientSide.close(reason, false);
    connection.serverSide.close(reason, false);
    this.#end(acceptor, reason);
  }

  #end(acceptor: number, reason: string): void {
    this.#connections[acceptor] = undefined;
    this.#owner.closed(acceptor, reason);
  }
}
