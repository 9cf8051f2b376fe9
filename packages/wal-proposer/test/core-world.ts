/**
 * A seeded world of proposer cores, model acceptors and connections that break, for property tests.
 *
 * Everything happens in one thread and in an order drawn from the seed: delivery of single messages, flushes,
 * crashes, lost connections (also ones that only the proposer believes lost, so that the acceptor still works off
 * what was sent), new WAL, passing time, proposers that are replaced. After each step the world checks what must
 * never happen; what it saw is counted, so that a test can insist that something happened at all.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AcceptorMessage, Configuration } from "@millrace/wal-protocol";
import { ProposerCore } from "../src/proposer-core.js";
import type {
  ProposerCoreOptions,
  ProposerEffect,
  ProposerEvent,
  RestartReason,
} from "../src/proposer-core.js";
import { lsn, ModelAcceptor } from "./model-acceptor.js";
import type { ToAcceptor } from "./model-acceptor.js";

export const LOG_START = 100;
const QUEUE_MAX = 8; // requests in flight on one connection, so that acceptors lag behind each other

/** mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Connection {
  readonly acceptor: number;
  readonly toAcceptor: ToAcceptor[];
  readonly toProposer: { readonly message: AcceptorMessage; readonly log: readonly number[] }[];
  /** Whether the proposer still listens. */
  open: boolean;
  /** Whether the acceptor still listens. */
  served: boolean;
  /** Whether ProposerElected was accepted, so that flushes are acknowledged here. */
  streaming: boolean;
}

/** One proposer process: a core, its connections and its WAL. */
export class ModelProposer {
  readonly world: World;
  readonly name: number;
  readonly core: ProposerCore;
  readonly connections: (Connection | undefined)[];
  /** Indexed by LSN, like an acceptor's log. */
  wal: number[] = [];
  endLsn = 0;
  restarted: RestartReason | undefined;
  commits: Lsn[] = [];
  readonly alarms: string[] = [];
  /** The log that came with each acceptor's vote. */
  readonly #votedLogs = new Map<number, readonly number[]>();

  constructor(world: World, name: number, options: ProposerCoreOptions) {
    this.world = world;
    this.name = name;
    this.core = new ProposerCore(options);
    this.connections = Array.from({ length: options.acceptors }, () => undefined);
  }

  handle(event: ProposerEvent): void {
    const effects = this.core.handle(event);
    for (const effect of effects) this.#perform(effect);
  }

  deliver(connection: Connection): void {
    const next = connection.toProposer.shift();
    if (next === undefined || !connection.open) return;
    if (next.message.type === "vote-response") this.#votedLogs.set(connection.acceptor, next.log);
    this.handle({
      type: "message",
      acceptor: connection.acceptor,
      message: next.message,
      nowMs: this.world.nowMs,
    });
  }

  /** The proposer notices the end of a connection. */
  lose(connection: Connection): void {
    if (!connection.open) return;
    connection.open = false;
    this.connections[connection.acceptor] = undefined;
    this.handle({
      type: "disconnected",
      acceptor: connection.acceptor,
      reason: "lost",
      nowMs: this.world.nowMs,
    });
  }

  write(bytes: number): void {
    if (this.core.state !== "elected" || this.core.finished) return;
    for (let index = 0; index < bytes; index += 1) {
      this.wal[this.endLsn] = this.world.newTag();
      this.endLsn += 1;
    }
    this.handle({ type: "wal-available", endLsn: lsn(this.endLsn), nowMs: this.world.nowMs });
  }

  pump(acceptor: number): void {
    const queue = this.connections[acceptor]?.toAcceptor;
    if (queue === undefined) return;
    while (queue.length < QUEUE_MAX) {
      // One to three bytes a request, so that positions differ between acceptors.
      const wanted = Number(this.core.wantsLsn(acceptor) ?? INVALID_LSN);
      const available = Math.min(this.endLsn, wanted + 1 + this.world.below(3));
      const fields = this.core.nextAppend(acceptor, lsn(available));
      if (fields === undefined) return;
      const wal = this.wal.slice(Number(fields.beginLsn), Number(fields.endLsn));
      queue.push({ ...fields, type: "append", wal });
    }
  }

  #perform(effect: ProposerEffect): void {
    switch (effect.type) {
      case "connect":
        this.#connect(effect.acceptor);
        break;
      case "disconnect":
        this.#disconnect(effect.acceptor);
        break;
      case "send":
        this.connections[effect.acceptor]?.toAcceptor.push(effect.message);
        break;
      case "pump":
        this.pump(effect.acceptor);
        break;
      case "elected":
        this.wal = [...(this.#votedLogs.get(effect.donor) ?? [])];
        this.wal.length = Number(effect.termStartLsn);
        this.endLsn = Number(effect.termStartLsn);
        this.world.onElected(this, effect.term);
        break;
      case "commit":
        this.commits.push(effect.commitLsn);
        this.world.onCommit(this, effect.commitLsn);
        break;
      case "truncate":
        this.world.onTruncate(effect.truncateLsn);
        break;
      case "restart":
        this.restarted = effect.reason;
        break;
      case "alarm":
        this.alarms.push(effect.code);
        break;
      case "campaign":
      case "hot-standby":
      case "pageserver":
      case "synced":
      case "transition":
        break;
    }
  }

  #connect(acceptor: number): void {
    const connection: Connection = {
      acceptor,
      toAcceptor: [],
      toProposer: [],
      open: true,
      served: true,
      streaming: false,
    };
    this.connections[acceptor] = connection;
    if (this.world.reachable?.includes(acceptor) === false) {
      this.world.later.push(() => this.lose(connection));
      return;
    }
    this.world.opened.push({ proposer: this, connection });
    this.world.later.push(() => {
      if (connection.open) this.handle({ type: "connected", acceptor, nowMs: this.world.nowMs });
    });
  }

  #disconnect(acceptor: number): void {
    const connection = this.connections[acceptor];
    if (connection === undefined) return;
    this.world.later.push(() => this.lose(connection));
  }
}

export class World {
  readonly acceptors: ModelAcceptor[];
  proposers: ModelProposer[] = [];
  nowMs = 0;
  opened: { readonly proposer: ModelProposer; readonly connection: Connection }[] = [];
  later: (() => void)[] = [];
  /** Acceptors that new connections get through to; all of them if undefined. */
  reachable: readonly number[] | undefined;
  readonly committed: number[] = [];
  readonly winners: Map<bigint, ModelProposer> = new Map<bigint, ModelProposer>();
  elections = 0;
  commitsSeen = 0;
  readonly #random: () => number;
  readonly #options: Partial<ProposerCoreOptions>;
  /** Some worlds are calm, some are not. */
  readonly #faultsPerMille: number;
  #tag = 0;
  #names = 0;

  constructor(
    seed: number,
    acceptors: number,
    options: Partial<ProposerCoreOptions> & {
      readonly startLsn?: number;
      readonly stored?: Configuration;
    } = {},
  ) {
    const { startLsn, stored, ...core } = options;
    this.#random = seededRandom(seed);
    this.#options = core;
    this.#faultsPerMille = 2 + this.below(30);
    this.acceptors = Array.from(
      { length: acceptors },
      (_, index) => new ModelAcceptor(BigInt(index + 1), startLsn ?? LOG_START, stored),
    );
  }

  below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  newTag(): number {
    this.#tag += 1;
    return this.#tag;
  }

  addProposer(): ModelProposer {
    this.#names += 1;
    const proposer = new ModelProposer(this, this.#names, {
      tenantId: "00".repeat(16),
      timelineId: "11".repeat(16),
      pgVersion: 150018,
      systemId: 7n,
      segmentBytes: 1 << 20,
      acceptors: this.acceptors.length,
      bootstrapLsn: lsn(LOG_START),
      protocolVersion: 3,
      ...this.#options,
    });
    this.proposers.push(proposer);
    proposer.handle({ type: "tick", nowMs: this.nowMs });
    return proposer;
  }

  /** Ends a proposer as kill -9 would: what it sent may still arrive. */
  kill(proposer: ModelProposer): void {
    this.proposers = this.proposers.filter((other) => other !== proposer);
    for (const connection of proposer.connections) if (connection !== undefined) connection.open = false;
  }

  tick(passedMs: number): void {
    this.nowMs += passedMs;
    for (const proposer of this.proposers) proposer.handle({ type: "tick", nowMs: this.nowMs });
  }

  runLater(): void {
    for (let next = this.later.shift(); next !== undefined; next = this.later.shift()) next();
  }

  deliverToAcceptor({ proposer, connection }: World["opened"][number]): void {
    const message = connection.toAcceptor.shift();
    if (message === undefined || !connection.served) return;
    const acceptor = this.#acceptor(connection);
    const reply = acceptor.handle(message);
    if (reply === "refused") {
      this.#endServing(proposer, connection);
      return;
    }
    if (message.type === "elected" && acceptor.term === message.term) connection.streaming = true;
    if (reply !== undefined) connection.toProposer.push({ message: reply, log: [...acceptor.log] });
    proposer.pump(connection.acceptor);
  }

  flush({ connection }: World["opened"][number]): void {
    if (!connection.streaming || !connection.served) return;
    connection.toProposer.push({ message: this.#acceptor(connection).flush(), log: [] });
  }

  crash(index: number): void {
    this.acceptors[index]?.crash();
    this.#cutOff(index);
  }

  loseDisk(index: number): void {
    this.acceptors[index]?.loseDisk(LOG_START);
    this.#cutOff(index);
  }

  /**
   * Delivers and flushes everything there is until nothing is under way or `until` holds. With `only`, messages to
   * and from other acceptors stay where they are.
   */
  settle({ only, until }: { readonly only?: readonly number[]; readonly until?: () => boolean } = {}): void {
    const concerned = ({ connection }: World["opened"][number]): boolean =>
      only === undefined || only.includes(connection.acceptor);
    for (;;) {
      this.runLater();
      this.#forgetClosed();
      if (until?.() === true) return;
      const reply = this.opened.find((entry) => concerned(entry) && entry.connection.toProposer.length > 0);
      const request = this.opened.find((entry) => concerned(entry) && entry.connection.toAcceptor.length > 0);
      if (reply !== undefined) reply.proposer.deliver(reply.connection);
      else if (request !== undefined) {
        this.deliverToAcceptor(request);
        if (request.connection.toAcceptor.length === 0) this.flush(request);
      } else if (this.later.length === 0) return;
    }
  }

  step(proposersMax: number): void {
    const dice = this.below(1000);
    if (this.below(1000) < this.#faultsPerMille) this.#fault(proposersMax);
    else if (dice < 450) this.#withPending("toAcceptor", (entry) => this.deliverToAcceptor(entry));
    else if (dice < 750)
      this.#withPending("toProposer", ({ proposer, connection }) => proposer.deliver(connection));
    else if (dice < 830) this.#withEntry((entry) => this.flush(entry));
    else if (dice < 880) this.proposers[this.below(proposersMax)]?.write(1 + this.below(4));
    else if (dice < 970) this.runLater();
    else if (dice < 995) this.tick(this.below(1500));
    else this.#replaceOrAdd(proposersMax);
    this.#forgetClosed();
  }

  #fault(proposersMax: number): void {
    const dice = this.below(100);
    if (dice < 45) this.#withEntry((entry) => this.#break(entry));
    else if (dice < 70) this.crash(this.below(this.acceptors.length));
    else if (dice < 75) this.tick(11_000);
    else {
      const victim = this.proposers[this.below(proposersMax)];
      if (victim !== undefined) this.kill(victim);
    }
  }

  #withEntry(action: (entry: World["opened"][number]) => void): void {
    const entry = this.opened[this.below(Math.max(1, this.opened.length))];
    if (entry !== undefined) action(entry);
  }

  #withPending(queue: "toAcceptor" | "toProposer", action: (entry: World["opened"][number]) => void): void {
    const pending = this.opened.filter(({ connection }) => connection[queue].length > 0);
    const entry = pending[this.below(Math.max(1, pending.length))];
    if (entry !== undefined) action(entry);
  }

  onElected(proposer: ModelProposer, term: bigint): void {
    this.elections += 1;
    const other = this.winners.get(term);
    if (other !== undefined) throw new Error(`two proposers were elected in term ${String(term)}`);
    this.winners.set(term, proposer);
    // The adopted log has everything that was ever committed.
    if (proposer.endLsn < this.committed.length) throw new Error("a committed end was not adopted");
    this.#compareWithCommitted(proposer, this.committed.length);
  }

  onCommit(proposer: ModelProposer, commitLsn: Lsn): void {
    this.commitsSeen += 1;
    const { core, commits } = proposer;
    if (commitLsn < core.termStartLsn) throw new Error("a commit below the start of the term");
    if ((commits.at(-2) ?? INVALID_LSN) >= commitLsn) throw new Error("a commit that does not rise");
    const end = Number(commitLsn);
    if (end > proposer.endLsn) throw new Error("a commit beyond what was sent");
    this.#compareWithCommitted(proposer, Math.min(end, this.committed.length));
    for (let at = this.committed.length; at < end; at += 1) this.committed[at] = proposer.wal[at] ?? 0;
  }

  onTruncate(truncateLsn: Lsn): void {
    if (Number(truncateLsn) > this.committed.length) throw new Error("truncated beyond the commit");
  }

  #compareWithCommitted(proposer: ModelProposer, end: number): void {
    for (let at = LOG_START; at < end; at += 1) {
      if (this.committed[at] !== (proposer.wal[at] ?? 0)) {
        throw new Error(
          `proposer ${String(proposer.name)} has other bytes at ${String(at)} than were committed`,
        );
      }
    }
  }

  #replaceOrAdd(proposersMax: number): void {
    const victim = this.proposers.find(({ restarted }) => restarted !== undefined);
    if (victim !== undefined) this.kill(victim);
    if (this.proposers.length < proposersMax) this.addProposer();
  }

  #break({ proposer, connection }: World["opened"][number]): void {
    const kind = this.below(3);
    if (kind === 0) {
      connection.served = false;
      connection.toAcceptor.length = 0;
    } else if (kind === 1) connection.toAcceptor.length = this.below(connection.toAcceptor.length + 1);
    // Otherwise the acceptor works off everything that was sent, while a new connection may already be open.
    this.later.push(() => proposer.lose(connection));
  }

  #endServing(proposer: ModelProposer, connection: Connection): void {
    connection.served = false;
    connection.streaming = false;
    connection.toAcceptor.length = 0;
    this.later.push(() => proposer.lose(connection));
  }

  #cutOff(index: number): void {
    for (const { proposer, connection } of this.opened) {
      if (connection.acceptor === index && connection.served) this.#endServing(proposer, connection);
    }
  }

  #forgetClosed(): void {
    this.opened = this.opened.filter(
      ({ connection }) => connection.open || (connection.served && connection.toAcceptor.length > 0),
    );
  }

  #acceptor(connection: Connection): ModelAcceptor {
    const acceptor = this.acceptors[connection.acceptor];
    if (acceptor === undefined) throw new Error("no such acceptor");
    return acceptor;
  }
}
