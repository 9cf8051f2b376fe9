/**
 * One proposer process: the package's own core for one term, its connections, and the database behind it.
 *
 * It does what the production shell does: effects in their order, events one at a time, pumps at once for new WAL
 * and a little later for commits, timers from the core's deadline. After an election it gets the adopted WAL from
 * the donor and compares it with its own: if its own continues the log, it goes on with it, bytes above included; if
 * not, it becomes a fresh primary that starts from the donor's bytes and writes different ones from there on. Some
 * hold the election back until they know, others tell the acceptors at once. Some have all WAL for laggards, others
 * only what is recent; one that synchronises has none.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { Timer } from "@millrace/wal-acceptor";
import { ProposerCore } from "@millrace/wal-proposer";
import type { ProposerEffect, ProposerEvent } from "@millrace/wal-proposer";
import { parseAcceptorMessage, serializeProposerMessage } from "@millrace/wal-protocol";
import type { ProposerMessage } from "@millrace/wal-protocol";
import { continueFrom, fetchAdopted } from "./adopted-log.js";
import type { Database } from "./adopted-log.js";
import type { ElectedTerm } from "./elections.js";
import { stackOf } from "./error-text.js";
import { LaggardFeed } from "./laggard-feed.js";
import type { Endpoint } from "./network.js";
import { ProposerLinks } from "./proposer-links.js";
import type { Random } from "./random.js";
import { SendableWal } from "./sendable-wal.js";
import { WAL_SHAPE } from "./wal-log.js";
import type { World } from "./world.js";

/** Uncommitted WAL above which the database pauses: its clients wait for their commits. */
const BACKLOG_BYTES = 48n * 1024n;
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
  readonly #wal: SendableWal;
  readonly #links: ProposerLinks;
  readonly #feed: LaggardFeed;
  /** Aborted when the process is over. */
  readonly #gone = new AbortController();
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
    const keepsAll = setup.random.chance(plan.keepShare);
    this.#links = this.#newLinks();
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
    this.#wal = new SendableWal(
      setup.database,
      this.#core,
      setup.mode === "sync" ? "nothing" : keepsAll ? "all" : "recent",
    );
    this.#feed = this.#newFeed();
  }

  get name(): string {
    return this.#setup.name;
  }

  /** Whether it has won its term and has not been told that this is over. */
  get isElected(): boolean {
    return this.#elected !== undefined && !this.#ended;
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
    this.#world.time.promisesMoved();
    this.#gone.abort();
    this.#feed.close();
    this.#links.die();
  }

  #newLinks(): ProposerLinks {
    return new ProposerLinks(this.#world, {
      endpoint: this.#setup.endpoint,
      random: this.#random,
      isOver: () => this.#ended,
      opened: (acceptor) => this.#dispatch({ type: "connected", acceptor, nowMs: this.#world.time.nowMs }),
      message: (acceptor, payload) => this.#onMessage(acceptor, payload),
      closed: (acceptor, reason) => this.#onClosed(acceptor, reason),
    });
  }

  #newFeed(): LaggardFeed {
    return new LaggardFeed(this.#world, {
      name: this.name,
      endpoint: this.#setup.endpoint,
      core: this.#core,
      elected: () => this.#elected,
      servedFromLsn: () => this.#wal.servedFromLsn,
      connection: (acceptor) => (this.#ended ? "none" : this.#links.state(acceptor)),
      send: (acceptor, request, walData) => {
        this.#send(acceptor, { ...request, type: "append-request", walData });
      },
      pump: (acceptor) => this.#pump(acceptor),
    });
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
        this.#links.connectLater(effect.acceptor);
        break;
      case "disconnect":
        trace.note("disconnect", this.name, effect.acceptor, effect.reason);
        this.#links.disconnect(effect.acceptor, effect.reason);
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
        if (this.#elected !== undefined) ledger.onSynced(this.#elected, effect.lsn);
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

  #onMessage(acceptor: number, payload: Uint8Array): void {
    const message = parseAcceptorMessage(payload, this.#world.plan.protocolVersion);
    this.#dispatch({ type: "message", acceptor, message, nowMs: this.#world.time.nowMs });
  }

  #onClosed(acceptor: number, reason: string): void {
    this.#pumpSoon.delete(acceptor);
    this.#feed.cancel(acceptor);
    this.#dispatch({ type: "disconnected", acceptor, reason, nowMs: this.#world.time.nowMs });
  }

  #send(acceptor: number, message: ProposerMessage): void {
    this.#links.send(acceptor, serializeProposerMessage(message, this.#world.plan.protocolVersion));
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
    if (this.#setup.mode === "sync") this.#streamFromNow();
  }

  #streamFromNow(): void {
    this.#ready = true;
    if (this.#holds) this.#dispatch({ type: "start-streaming", nowMs: this.#world.time.nowMs });
    this.#announceWal();
  }

  async #adopt(elected: ElectedTerm): Promise<void> {
    const world = this.#world;
    const adopted = await fetchAdopted(world, elected, {
      endpoint: this.#setup.endpoint,
      donor: () => this.#core.donor?.acceptor ?? 0,
      signal: this.#gone.signal,
    });
    if (this.#ended) return;
    if (adopted !== undefined) continueFrom(world, this.#setup.database, elected, adopted);
    // Who only synchronises needs none of it; then it is for the ledger alone.
    if (this.#setup.mode === "sync") return;
    if (adopted === undefined) this.#end("the adopted WAL cannot be had");
    else this.#streamFromNow();
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
    this.#dispatch({ type: "wal-available", endLsn: this.#wal.endLsn, nowMs: this.#world.time.nowMs });
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
      const state = this.#links.state(acceptor);
      if (this.#ended || state === "none") return;
      if (state === "full") {
        this.#pumpAgain(acceptor);
        return;
      }
      const wantedLsn = this.#core.wantsLsn(acceptor);
      if (wantedLsn === undefined) return;
      const isHere = wantedLsn >= this.#wal.beginLsn && !this.#feed.isRunning(acceptor);
      const request = this.#core.nextAppend(
        acceptor,
        isHere && this.#ready ? this.#wal.available(wantedLsn, this.#random) : wantedLsn,
      );
      if (request === undefined) {
        if (this.#ready && wantedLsn < this.#wal.beginLsn) this.#feed.request(acceptor);
        return;
      }
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
}
