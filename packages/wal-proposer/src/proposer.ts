/**
 * The proposer with its hands: ProposerCore decides, this file owns the connections, the ticks and the order in
 * which effects take place.
 *
 * - Events reach the core one at a time, in the order of arrival. An effect may cause an event (a send fails, a
 *   connection closes); it is queued behind the event at hand, so the core is never re-entered.
 * - After the election nothing is told to the acceptors until `startStreaming`: the owner looks first whether its
 *   WAL continues what was elected. Truncating an acceptor for a database that cannot go on would be a loss.
 * - New WAL goes out at once. What only spreads a commit LSN waits for the next PumpRound.
 * - Nobody waits for the slowest acceptor: one that the ring has left behind is fed by CatchUp. Only if a quorum
 *   cannot follow, `room` asks the owner to pause, at half a ring: commits could not progress in any case.
 *
 * After Neon's walproposer.c, whose event loop, state machine and sockets are one.
 */
import { INVALID_LSN, addBytes, distanceBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AcceptorMessage } from "@millrace/wal-protocol";
import { AcceptorConnection } from "./acceptor-connection.js";
import type { AcceptorAddress } from "./acceptor-connection.js";
import { CatchUp, chunkParts } from "./catch-up.js";
import type { CatchUpTarget, WalChunk } from "./catch-up.js";
import { effectNotice, publishNotice } from "./diagnostics.js";
import { ProposerCore } from "./proposer-core.js";
import type { ProposerEffect, ProposerEvent, RestartReason } from "./proposer-events.js";
import type { AcceptorStatus, ProposerOptions } from "./proposer-options.js";
import { PumpRound } from "./pump-round.js";
import { quorumCursor } from "./quorum-cursor.js";
import type { Timer } from "./timers.js";
import type { WalRing } from "./wal-ring.js";

/** Least time between two ticks: what a tick asks for may have to wait for a send window and stay due. */
const TICK_GAP_MS = 50;
/** Reconnects are spread over this share of the reconnect time around it, so that they do not come all at once. */
const JITTER_SHARE = 0.4;

interface Slot {
  readonly address: AcceptorAddress;
  readonly name: string;
  connection: AcceptorConnection | undefined;
  /** A connect effect that waits for its jitter. */
  connecting: Timer | undefined;
  attempts: number;
  lastEnd: string | undefined;
  /** Woken when the send window opens or the connection closes. */
  roomWaiters: (() => void)[];
}

/** One term's proposer. Create, `start`, feed with WAL, `close`; there is no second election in one object. */
export class Proposer implements Disposable {
  readonly #options: ProposerOptions;
  readonly #core: ProposerCore;
  readonly #slots: readonly Slot[];
  readonly #catchUp: CatchUp | undefined;
  readonly #events: ProposerEvent[] = [];
  #handling = false;
  #ring: WalRing | undefined;
  #timer: Timer | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #tickedMs = Number.NEGATIVE_INFINITY;
  #closed = false;
  readonly #pumpSoon: PumpRound;
  #roomPromise: Promise<void> | undefined;
  #roomResolve: (() => void) | undefined;

  constructor(options: ProposerOptions) {
    this.#options = options;
    this.#slots = options.acceptors.map((address) => ({
      address,
      name: `${address.host}:${address.port}`,
      connection: undefined,
      connecting: undefined,
      attempts: 0,
      lastEnd: undefined,
      roomWaiters: [],
    }));
    this.#core = new ProposerCore({
      tenantId: options.tenantId,
      timelineId: options.timelineId,
      pgVersion: options.pgVersion,
      systemId: options.systemId,
      segmentBytes: options.segmentBytes,
      acceptors: options.acceptors.length,
      bootstrapLsn: options.bootstrapLsn,
      protocolVersion: options.protocolVersion,
      holdAfterElection: true,
      mode: options.mode ?? "stream",
      reconnectMs: options.reconnectMs * (1 - JITTER_SHARE / 2),
      connectionTimeoutMs: options.connectionTimeoutMs,
      ...(options.protocolVersion === 3 ? { configuration: "learn" } : {}),
    });
    this.#pumpSoon = new PumpRound(options.clock, (acceptors) => {
      for (const acceptor of acceptors) this.#pump(acceptor);
      this.#checkRoom();
    });
    this.#catchUp =
      options.catchUp === undefined
        ? undefined
        : new CatchUp(this.#catchUpTarget(), options.catchUp, options.clock);
  }

  /** The pure core, for reading only. */
  get core(): Readonly<
    Pick<ProposerCore, "term" | "termStartLsn" | "commitLsn" | "truncateLsn" | "state" | "donor">
  > {
    return this.#core;
  }

  /** Connects to the acceptors and campaigns. */
  start(): void {
    this.#tick();
  }

  /**
   * Approves the election: acceptors learn of it, and from now on everything in `ring` is streamed. `ring` stays
   * with the caller, who appends to it and then calls `walAvailable`.
   */
  startStreaming(ring: WalRing): void {
    if (this.#closed) return;
    this.#ring = ring;
    this.#dispatch({ type: "start-streaming", nowMs: this.#nowMs() });
    this.walAvailable();
  }

  /** The ring has grown: sends what acceptors have room for, at once. */
  walAvailable(): void {
    if (this.#ring === undefined) return;
    this.#dispatch({ type: "wal-available", endLsn: this.#ring.endLsn, nowMs: this.#nowMs() });
  }

  /**
   * For each connected acceptor, by index, where its next byte is; undefined for the others. After the election also
   * before streaming has started: up to there its log is the adopted one.
   */
  wantedLsns(): readonly (Lsn | undefined)[] {
    return this.#slots.map((_, index) => this.#core.wantsLsn(index));
  }

  /**
   * Undefined while a quorum can follow. Otherwise a promise that resolves when it can again, or at `close`: until
   * then more WAL would only push what a quorum still needs out of the ring.
   */
  room(): Promise<void> | undefined {
    if (!this.#isFull()) return undefined;
    this.#roomPromise ??= new Promise((resolve) => {
      this.#roomResolve = resolve;
    });
    return this.#roomPromise;
  }

  /** One entry for each acceptor, in the order of the options. */
  acceptors(): readonly AcceptorStatus[] {
    const endLsn = this.#ring?.endLsn;
    return this.#slots.map((slot, index) => {
      const view = this.#core.acceptorView(index);
      const lag =
        endLsn === undefined || view.flushLsn === INVALID_LSN
          ? undefined
          : distanceBytes(view.flushLsn, endLsn);
      return {
        address: slot.name,
        state: view.state,
        nodeId: view.nodeId,
        flushLsn: view.flushLsn,
        streamingLsn: this.#core.wantsLsn(index),
        lagBytes: lag === undefined ? undefined : lag < 0n ? 0n : lag,
        catchingUp: this.#catchUp?.isRunning(index) ?? false,
        voted: view.voted,
        lastEnd: slot.lastEnd,
        queuedBytes: slot.connection?.queuedBytes ?? 0,
      };
    });
  }

  /** Closes all connections and timers at once. Nothing is said to the handlers any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    this.#pumpSoon.close();
    this.#catchUp?.close();
    for (const slot of this.#slots) {
      slot.connecting?.cancel();
      slot.connection?.close();
      wakeAll(slot);
    }
    this.#roomResolve?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }

  #tick(): void {
    this.#tickedMs = this.#nowMs();
    this.#dispatch({ type: "tick", nowMs: this.#nowMs() });
  }

  /** Sees to it that the core hears of the time when it has to. A deadline that moved away costs one early tick. */
  #armTimer(): void {
    const dueMs = Math.max(this.#core.deadlineMs, this.#tickedMs + TICK_GAP_MS);
    if (this.#closed || (this.#timer !== undefined && this.#timerDueMs <= dueMs)) return;
    this.#timer?.cancel();
    this.#timerDueMs = dueMs;
    if (!Number.isFinite(dueMs)) return;
    this.#timer = this.#options.clock.setTimer(Math.max(0, dueMs - this.#nowMs()), () => {
      this.#timer = undefined;
      this.#tick();
    });
  }

  #dispatch(event: ProposerEvent): void {
    if (this.#closed) return;
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        if (this.#isClosed()) return;
        const pumpNow = next.type === "wal-available" || next.type === "tick";
        for (const effect of this.#core.handle(next)) this.#perform(effect, pumpNow);
      }
    } finally {
      this.#handling = false;
    }
    this.#armTimer();
    this.#checkRoom();
  }

  /** A method, so that the compiler does not assume that an effect leaves it as it was. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #perform(effect: ProposerEffect, pumpNow: boolean): void {
    if (this.#closed) return;
    switch (effect.type) {
      case "connect":
        this.#connectLater(effect.acceptor);
        break;
      case "disconnect":
        this.#slots[effect.acceptor]?.connection?.close();
        this.#onClosed(effect.acceptor, `${effect.reason}: ${effect.detail}`);
        break;
      case "send":
        this.#slots[effect.acceptor]?.connection?.send(effect.message);
        break;
      case "pump":
        if (pumpNow) this.#pump(effect.acceptor);
        else this.#pumpSoon.add(effect.acceptor);
        break;
      case "elected":
        this.#onElected(effect);
        break;
      case "commit":
        this.#options.handlers.committed(effect.commitLsn);
        break;
      case "truncate":
        this.#options.handlers.truncated(effect.truncateLsn);
        break;
      case "hot-standby":
        this.#options.handlers.hotStandby(effect.feedback);
        break;
      case "synced":
        this.#onSynced(effect.lsn);
        break;
      case "alarm":
      case "transition":
      case "campaign":
        publishNotice(effectNotice(effect, (acceptor) => this.#slots[acceptor]?.name ?? ""));
        break;
      case "pageserver": // a stock PostgreSQL has no use for it
        break;
      case "restart":
        this.#onRestart(effect.reason, effect.detail);
        break;
    }
  }

  #onElected(effect: ProposerEffect & { readonly type: "elected" }): void {
    const { term, termStartLsn, history, truncateLsn } = effect;
    publishNotice({ type: "elected", term, termStartLsn });
    this.#options.handlers.elected({ term, termStartLsn, history, truncateLsn });
  }

  /** The core's last word: what was to be said to acceptors goes out before the owner hears of it. */
  #onSynced(lsn: Lsn): void {
    for (const [acceptor] of this.#slots.entries()) this.#pump(acceptor);
    this.#options.handlers.synced?.(lsn);
  }

  #onRestart(reason: RestartReason, detail: string): void {
    this.close();
    publishNotice({ type: "ended", reason, detail });
    this.#options.handlers.ended(reason, detail);
  }

  /** The first attempt is made at once, later ones a random part of JITTER_SHARE after the core has asked for them. */
  #connectLater(acceptor: number): void {
    const slot = this.#slots[acceptor];
    if (slot === undefined) return;
    slot.attempts += 1;
    if (slot.attempts === 1) {
      this.#connect(acceptor, slot);
      return;
    }
    const delayMs = JITTER_SHARE * this.#options.reconnectMs * this.#options.random();
    slot.connecting = this.#options.clock.setTimer(delayMs, () => {
      slot.connecting = undefined;
      if (!this.#closed) this.#connect(acceptor, slot);
    });
  }

  #connect(acceptor: number, slot: Slot): void {
    const { tenantId, timelineId, protocolVersion, password, connectSocket } = this.#options;
    publishNotice({ type: "acceptor-connecting", acceptor: slot.name });
    slot.connection = AcceptorConnection.open({
      address: slot.address,
      tenantId,
      timelineId,
      protocolVersion,
      handlers: {
        opened: () => {
          publishNotice({ type: "acceptor-open", acceptor: slot.name });
          this.#options.handlers.connected?.(acceptor);
          this.#dispatch({ type: "connected", acceptor, nowMs: this.#nowMs() });
        },
        message: (message: AcceptorMessage) => {
          this.#dispatch({ type: "message", acceptor, message, nowMs: this.#nowMs() });
        },
        drained: () => {
          wakeAll(slot);
          this.#pump(acceptor);
          this.#checkRoom();
        },
        closed: (reason: string) => this.#onClosed(acceptor, reason),
      },
      ...(password === undefined ? {} : { password }),
      ...(connectSocket === undefined ? {} : { connectSocket }),
    });
  }

  /** The connection, or the attempt, is over, whoever ended it: the one answer to a `connect` effect. */
  #onClosed(acceptor: number, reason: string): void {
    const slot = this.#slots[acceptor];
    if (slot === undefined) return;
    slot.connecting?.cancel();
    slot.connecting = undefined;
    slot.connection = undefined;
    slot.lastEnd = reason;
    this.#pumpSoon.delete(acceptor);
    this.#catchUp?.cancel(acceptor);
    wakeAll(slot);
    publishNotice({ type: "acceptor-closed", acceptor: slot.name, reason });
    this.#dispatch({ type: "disconnected", acceptor, reason, nowMs: this.#nowMs() });
  }

  /** Sends all that the core wants to send to one acceptor, as far as the window and what is in memory allow. */
  #pump(acceptor: number): void {
    const ring = this.#ring;
    const connection = this.#slots[acceptor]?.connection;
    if (ring === undefined || connection === undefined || this.#closed) return;
    while (connection.writable) {
      const lsn = this.#core.wantsLsn(acceptor);
      if (lsn === undefined) return;
      const fromRing = ring.contains(lsn) && this.#catchUp?.isRunning(acceptor) !== true;
      const request = this.#core.nextAppend(acceptor, fromRing ? ring.endLsn : lsn);
      if (request === undefined) {
        if (lsn < ring.startLsn) this.#catchUp?.request(acceptor);
        return;
      }
      const hasData = request.endLsn > request.beginLsn;
      connection.sendAppend(request, hasData ? ring.views(request.beginLsn, request.endLsn) : []);
    }
  }

  #catchUpTarget(): CatchUpTarget {
    return {
      wantsLsn: (acceptor) =>
        this.#slots[acceptor]?.connection === undefined ? undefined : this.#core.wantsLsn(acceptor),
      isServed: (lsn) => {
        const ring = this.#ring;
        // Half a ring ahead of its start, so that the acceptor does not fall out again while it is handed over.
        return ring !== undefined && lsn >= addBytes(ring.startLsn, Math.floor(ring.byteLength / 2));
      },
      feed: (acceptor, chunk) => this.#feed(acceptor, chunk),
      finished: (acceptor) => {
        publishNotice({ type: "catch-up-finished", acceptor: this.#slots[acceptor]?.name ?? "" });
        this.#pump(acceptor);
        this.#checkRoom();
      },
      failed: (acceptor, fromLsn, error) => {
        publishNotice({
          type: "catch-up-failed",
          acceptor: this.#slots[acceptor]?.name ?? "",
          fromLsn,
          error,
        });
      },
    };
  }

  #feed(acceptor: number, chunk: WalChunk): Promise<void> | undefined {
    const slot = this.#slots[acceptor];
    const connection = slot?.connection;
    if (slot === undefined || connection === undefined || this.#closed) return undefined;
    const endLsn = addBytes(chunk.startLsn, chunk.bytes.byteLength);
    while (connection.writable) {
      const request = this.#core.nextAppend(acceptor, endLsn);
      if (request === undefined) return undefined;
      connection.sendAppend(request, chunkParts(chunk, request));
    }
    return slot.connection === connection
      ? new Promise((resolve) => slot.roomWaiters.push(resolve))
      : undefined;
  }

  /** Whether the position up to which a quorum has been sent WAL is more than half a ring behind. */
  #isFull(): boolean {
    const ring = this.#ring;
    if (ring === undefined || this.#closed) return false;
    return distanceBytes(this.#quorumCursor(), ring.endLsn) > BigInt(Math.floor(ring.capacityBytes / 2));
  }

  #quorumCursor(): Lsn {
    const cursors = this.#slots.map((_, index) => {
      const { nodeId, flushLsn } = this.#core.acceptorView(index);
      return { nodeId, lsn: this.#core.wantsLsn(index) ?? flushLsn };
    });
    return quorumCursor(this.#core.configuration, cursors);
  }

  #checkRoom(): void {
    if (this.#roomResolve === undefined || this.#isFull()) return;
    this.#roomResolve();
    this.#roomResolve = undefined;
    this.#roomPromise = undefined;
  }
}

function wakeAll(slot: Slot): void {
  const waiters = slot.roomWaiters;
  slot.roomWaiters = [];
  for (const wake of waiters) wake();
}
