/**
 * One proposer process: the package's own core for one term, its connections, and the database behind it.
 *
 * It does what the production shell does: effects in their order, events one at a time, pumps at once for new WAL
 * and a little later for commits, timers from the core's deadline. After an election it gets the adopted WAL from
 * the donor and compares it with its own: if its own continues the log, it goes on with it, bytes above included; if
 * not, it becomes a fresh primary that starts from the donor's bytes and writes different ones from there on. Some
 * hold the election back until they know, others tell the acceptors at once.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { Timer } from "@millrace/wal-acceptor";
import { ProposerCore } from "@millrace/wal-proposer";
import type { ProposerEffect, ProposerEvent } from "@millrace/wal-proposer";
import { parseAcceptorMessage, serializeProposerMessage } from "@millrace/wal-protocol";
import type { ProposerMessage } from "@millrace/wal-protocol";
import { stackOf } from "./acceptor-process.js";
import { continueFrom, fetchAdopted } from "./adopted-log.js";
import type { Database } from "./adopted-log.js";
import type { ElectedTerm } from "./ledger.js";
import type { Connection, Endpoint } from "./network.js";
import type { Random } from "./random.js";
import { WAL_SHAPE } from "./wal-log.js";
import type { World } from "./world.js";

/** Requests that may be under way on one connection. */
const WINDOW = 24;
/** Uncommitted WAL above which the database pauses: its clients wait for their commits. */
const BACKLOG_BYTES = 48n * 1024n;
/** Connections refused by a machine that is up. */
const REFUSAL_MS = 2;

/** How a process is started. */
export interface ProposerSetup {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly database: Database;
  readonly random: Random;
  readonly mode: "stream" | "sync";
  /** Told once, when the process is over by itself. */
  readonly onEnd: (reason: string) => void;
}

/** One process, from start to its restart, death or success. */
export class ProposerProcess {
  readonly #world: World;
  readonly #setup: ProposerSetup;
  readonly #core: ProposerCore;
  readonly #random: Random;
  readonly #holds: boolean;
  readonly #connections: (Connection | undefined)[];
  readonly #events: ProposerEvent[] = [];
  readonly #pumpSoon = new Set<number>();
  readonly #fullWindows = new Set<number>();
  #handling = false;
  #timer: Timer | undefined;
  #ended = false;
  #elected: ElectedTerm | undefined;
  /** All WAL below the term's start is here and is what the acceptors have. */
  #ready = false;
  #pumpScheduled = false;
  #reportedCommitLsn: Lsn = INVALID_LSN;

  constructor(world: World, setup: ProposerSetup) {
    const { plan } = world;
    this.#world = world;
    this.#setup = setup;
    this.#random = setup.random;
    this.#holds = setup.mode === "stream" && setup.random.chance(plan.holdShare);
    this.#connections = world.acceptors.map(() => undefined);
    this.#core = new ProposerCore({
      tenantId: world.tenantId,
      timelineId: world.timelineId,
      pgVersion: WAL_SHAPE.pgVersion,
      systemId: setup.mode === "sync" ? 0n : WAL_SHAPE.systemId,
      segmentBytes: WAL_SHAPE.segmentBytes,
      acceptors: world.acceptors.length,
      ...(plan.generations ? { configuration: "learn" as const } : {}),
      bootstrapLsn: setup.mode === "sync" ? INVALID_LSN : world.startLsn,
      protocolVersion: plan.protocolVersion,
      mode: setup.mode,
      holdAfterElection: this.#holds,
      reconnectMs: plan.reconnectMs,
      heartbeatMs: plan.heartbeatMs,
      connectionTimeoutMs: plan.connectionTimeoutMs,
    });
  }

  get name(): string {
    return this.#setup.name;
  }

  /** Whether it has won its term and streams. */
  get isStreaming(): boolean {
    return this.#ready && !this.#ended;
  }

  start(): void {
    this.#dispatch({ type: "tick", nowMs: this.#world.time.nowMs });
    this.#scheduleWrite();
  }

  /** kill -9: what it has sent may still arrive, all of it or a part. */
  die(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer?.cancel();
    const keepAll = this.#random.chance(0.5);
    for (const connection of this.#connections) connection?.clientSide.close("proposer gone", keepAll);
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.die();
    this.#setup.onEnd(reason);
  }

  #dispatch(event: ProposerEvent): void {
    if (this.#ended) return;
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        const pumpNow = next.type === "wal-available" || next.type === "tick";
        for (const effect of this.#core.handle(next)) if (!this.#isOver()) this.#perform(effect, pumpNow);
        if (this.#isOver()) return;
      }
    } catch (error) {
      this.#world.ledger.violate("Internal", `${this.name}: ${stackOf(error)}`);
      this.#end("crashed");
      return;
    } finally {
      this.#handling = false;
    }
    this.#armTimer();
  }

  // A method, so that the compiler does not assume that an effect leaves it as it was.
  #isOver(): boolean {
    return this.#ended;
  }

  #armTimer(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { deadlineMs } = this.#core;
    if (!Number.isFinite(deadlineMs)) return;
    const { time } = this.#world;
    this.#timer = time.after(Math.max(5, deadlineMs - time.nowMs), () => {
      this.#dispatch({ type: "tick", nowMs: time.nowMs });
    });
  }

  #perform(effect: ProposerEffect, pumpNow: boolean): void {
    const { ledger, trace } = this.#world;
    switch (effect.type) {
      case "connect":
        this.#connectLater(effect.acceptor);
        break;
      case "disconnect":
        trace.note("disconnect", this.name, effect.acceptor, effect.reason);
        this.#connections[effect.acceptor]?.clientSide.close(effect.reason, this.#random.chance(0.5));
        this.#onClosed(effect.acceptor, effect.reason);
        break;
      case "send":
        this.#send(effect.acceptor, effect.message);
        break;
      case "pump":
        if (pumpNow) this.#pump(effect.acceptor);
        else this.#pumpLater(effect.acceptor);
        break;
      case "elected":
        this.#onElected(effect);
        break;
      case "commit":
        this.#onCommit(effect.commitLsn);
        break;
      case "truncate":
        ledger.onProposerTruncate(this.name, effect.truncateLsn);
        break;
      case "synced":
        this.#world.coverage.count("sync-finished");
        trace.note("synced", this.name, effect.lsn);
        this.#end("synced");
        break;
      case "restart":
        trace.note("restart", this.name, effect.reason, effect.detail);
        this.#end(effect.reason);
        break;
      case "alarm":
        this.#onAlarm(effect.acceptor, effect.code, effect.detail);
        break;
      case "campaign":
        trace.note("campaign", this.name, effect.term);
        break;
      case "transition":
      case "hot-standby":
      case "pageserver":
        break;
    }
  }

  // Disks here lose nothing that was synced, and nobody forges messages: alarms mean that a core is wrong.
  #onAlarm(acceptor: number, code: string, detail: string): void {
    const { ledger, trace } = this.#world;
    trace.note("alarm", this.name, acceptor, code, detail);
    const text = `${this.name} raises ${code} over acceptor ${String(acceptor + 1)}: ${detail}`;
    if (code === "lost_wal") ledger.violate("I3 DurableAcknowledgement", text);
    else if (code === "lost_vote") ledger.violate("I4 DurableVote", text);
    else if (code === "configuration_conflict") ledger.violate("I12 Membership", text);
    else if (code !== "generation_mismatch") ledger.violate("I6 LogMatching", text);
  }

  #connectLater(acceptor: number): void {
    const { time, plan } = this.#world;
    time.after(this.#random.next() * 0.4 * plan.reconnectMs, () => {
      if (!this.#ended) this.#connect(acceptor);
    });
  }

  #connect(acceptor: number): void {
    const { time, network, plan } = this.#world;
    const { endpoint } = this.#setup;
    const roundTripMs = network.latencyMs(endpoint, acceptor) + network.latencyMs(acceptor, endpoint);
    // Nothing comes back over a blocked way; the core's own limit ends the attempt. So that every attempt ends, it
    // fails here by itself when that limit must have passed.
    const isBlocked = network.isBlocked(endpoint, acceptor) || network.isBlocked(acceptor, endpoint);
    const connection = network.open(endpoint, acceptor);
    this.#connections[acceptor] = connection;
    const fail = (reason: string): void => {
      if (this.#connections[acceptor] !== connection) return;
      connection.clientSide.close(reason, false);
      connection.serverSide.close(reason, false);
      this.#onClosed(acceptor, reason);
    };
    if (isBlocked) {
      time.after(plan.connectionTimeoutMs * 1.5, () => fail("no route"));
      return;
    }
    time.after(roundTripMs, () => {
      const process = this.#world.acceptors[acceptor]?.process;
      if (this.#ended || this.#connections[acceptor] !== connection) return;
      if (process === undefined) {
        time.after(REFUSAL_MS, () => fail("refused"));
        return;
      }
      connection.clientSide.handlers = {
        message: (payload) => this.#onMessage(acceptor, payload),
        closed: (reason) => {
          if (this.#connections[acceptor] === connection) this.#onClosed(acceptor, reason);
        },
      };
      process.accept(connection.serverSide, endpoint);
      this.#dispatch({ type: "connected", acceptor, nowMs: time.nowMs });
    });
  }

  #onMessage(acceptor: number, payload: Uint8Array): void {
    const message = parseAcceptorMessage(payload, this.#world.plan.protocolVersion);
    this.#dispatch({ type: "message", acceptor, message, nowMs: this.#world.time.nowMs });
  }

  #onClosed(acceptor: number, reason: string): void {
    this.#connections[acceptor] = undefined;
    this.#pumpSoon.delete(acceptor);
    this.#dispatch({ type: "disconnected", acceptor, reason, nowMs: this.#world.time.nowMs });
  }

  #send(acceptor: number, message: ProposerMessage): void {
    this.#connections[acceptor]?.clientSide.send(
      serializeProposerMessage(message, this.#world.plan.protocolVersion),
    );
  }

  #onElected(effect: ProposerEffect & { readonly type: "elected" }): void {
    const { ledger, trace, time } = this.#world;
    const { term, termStartLsn, history } = effect;
    const generation = this.#core.configuration?.generation ?? 0;
    trace.note("elected", this.name, term, termStartLsn, generation);
    this.#elected = {
      term,
      generation,
      termStartLsn,
      history,
      proposer: this.name,
      log: undefined,
    };
    ledger.onElected(this.#elected);
    time.promisesMoved();
    void this.#adopt(this.#elected);
  }

  async #adopt(elected: ElectedTerm): Promise<void> {
    const world = this.#world;
    const adopted = await fetchAdopted(world, elected, {
      endpoint: this.#setup.endpoint,
      donor: () => this.#core.donor?.acceptor ?? 0,
      isOver: () => this.#ended,
    });
    if (this.#ended) return;
    if (adopted === undefined) {
      this.#end("the adopted WAL cannot be had");
      return;
    }
    continueFrom(world, this.#setup.database, elected, adopted);
    this.#ready = true;
    if (this.#holds) this.#dispatch({ type: "start-streaming", nowMs: world.time.nowMs });
    this.#announceWal();
  }

  #onCommit(commitLsn: Lsn): void {
    const elected = this.#elected;
    this.#world.trace.note("commit", this.name, commitLsn);
    if (elected === undefined) return;
    this.#world.ledger.onProposerCommit(elected, commitLsn, this.#reportedCommitLsn);
    this.#reportedCommitLsn = commitLsn;
  }

  #scheduleWrite(): void {
    const { time, plan } = this.#world;
    time.after(plan.writeEveryMs * (0.3 + 1.4 * this.#random.next()), () => {
      if (this.#ended || this.#setup.mode === "sync") return;
      if (this.#ready) this.#write();
      this.#scheduleWrite();
    });
  }

  #write(): void {
    const { plan } = this.#world;
    const { log } = this.#setup.database;
    const { commitLsn, termStartLsn } = this.#core;
    if (log.endLsn - (commitLsn > termStartLsn ? commitLsn : termStartLsn) > BACKLOG_BYTES) return;
    if (this.#random.chance(plan.switchShare) && this.#world.mayLeaveSegment()) log.switchSegment();
    else log.writeSome(this.#random, 1 + this.#random.below(plan.recordsPerWrite));
    this.#announceWal();
  }

  #announceWal(): void {
    const { log } = this.#setup.database;
    this.#dispatch({ type: "wal-available", endLsn: log.endLsn, nowMs: this.#world.time.nowMs });
  }

  #pumpLater(acceptor: number): void {
    this.#pumpSoon.add(acceptor);
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    this.#world.time.after(1, () => {
      this.#pumpScheduled = false;
      const acceptors = [...this.#pumpSoon];
      this.#pumpSoon.clear();
      for (const index of acceptors) this.#pump(index);
    });
  }

  #pump(acceptor: number): void {
    for (;;) {
      const side = this.#connections[acceptor]?.clientSide;
      if (this.#ended || side === undefined) return;
      if (side.queued >= WINDOW) {
        this.#pumpAgain(acceptor);
        return;
      }
      const wantedLsn = this.#core.wantsLsn(acceptor);
      if (wantedLsn === undefined) return;
      const request = this.#core.nextAppend(acceptor, this.#available(wantedLsn));
      if (request === undefined) return;
      const { log } = this.#setup.database;
      const walData =
        request.endLsn > request.beginLsn ? log.view(request.beginLsn, request.endLsn) : new Uint8Array(0);
      this.#send(acceptor, { ...request, type: "append-request", walData });
    }
  }

  // The next tick may be far away; a full window is looked at again soon.
  #pumpAgain(acceptor: number): void {
    if (this.#fullWindows.has(acceptor)) return;
    this.#fullWindows.add(acceptor);
    this.#world.time.after(20, () => {
      this.#fullWindows.delete(acceptor);
      this.#pump(acceptor);
    });
  }

  // What a walsender has sent so far ends anywhere, also inside a record.
  #available(wantedLsn: Lsn): Lsn {
    if (!this.#ready) return wantedLsn;
    const { log } = this.#setup.database;
    const end = this.#setup.mode === "sync" ? this.#core.termStartLsn : log.endLsn;
    if (end <= wantedLsn || this.#random.chance(0.5)) return end;
    const some = (wantedLsn + 1n + BigInt(this.#random.below(6000))) as Lsn;
    return some < end ? some : end;
  }
}
