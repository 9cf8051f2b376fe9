/**
 * The bridge from a stock PostgreSQL: its WAL goes to a quorum of acceptors, the quorum's position goes back, and
 * commits that wait for the synchronous standby `applicationName` return when the quorum is durable.
 *
 * The order of a life, which is that of one term: look at PostgreSQL (a primary, a version we know, its history), take
 * the retain slot (nobody else may work on this PostgreSQL), see to it that the timeline exists on all acceptors and
 * that they know of no other promotion, win an election, compare PostgreSQL's log with theirs, register PostgreSQL's
 * timelines, and only then tell the acceptors and stream. A restart of PostgreSQL does not end the term, if it comes
 * back with the same log (primary-link.ts). Whatever ends a bridge is final and says why in `closed`; the owner opens
 * a new one, with a delay that grows if lives are short, since every one adds an entry to the term history.
 */
import { strict as assert } from "node:assert";
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { compareWithAcceptors, divergenceResultOf } from "./bridge-divergence.js";
import type { DivergenceResult } from "./bridge-divergence.js";
import { endOf } from "./bridge-end.js";
import { prepareGround } from "./bridge-ground.js";
import type { BridgeGround } from "./bridge-ground.js";
import { bridgeSettings, isLegalMove } from "./bridge-options.js";
import type {
  BridgeEnd,
  BridgeOptions,
  BridgeSettings,
  BridgeState,
  BridgeStatus,
} from "./bridge-options.js";
import { createBridgeProposer, openReader } from "./bridge-proposer.js";
import { ensureTimeline } from "./bridge-timeline.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";
import type { PostgresSource } from "./postgres-source.js";
import { PrimaryLink } from "./primary-link.js";
import { openSource } from "./primary-source.js";
import type { PrimaryOptions } from "./primary-source.js";
import type { Proposer } from "./proposer.js";
import type { ElectionResult } from "./proposer-options.js";
import { StreamDecoder } from "./stream-decoder.js";
import { TimelineRegistrar } from "./timeline-registrar.js";
import { delay } from "./timers.js";
import { WalRing } from "./wal-ring.js";

/** How long connections to PostgreSQL may take to end in an orderly close. */
const FINISH_TIMEOUT_MS = 2000;

/** One bridge, one term. */
export class Bridge implements AsyncDisposable {
  readonly #settings: BridgeSettings;
  readonly #abort = new AbortController();
  readonly #link: PrimaryLink;
  readonly #registrar: TimelineRegistrar;
  readonly #proposer: Proposer;
  #state: BridgeState = "bootstrapping";
  #divergence: DivergenceResult | undefined;
  #streamingSinceMs: number | undefined;
  #ring: WalRing | undefined;
  #decoder: StreamDecoder | undefined;
  /** What acceptors had committed before the election, as far as they said. */
  #knownCommitLsn: Lsn = INVALID_LSN;
  /** Chunks that are on their way to the acceptors and not yet decoded. */
  #undecoded: Uint8Array[] = [];
  #end: BridgeEnd | undefined;
  #commitWaiter: { readonly lsn: Lsn; readonly resolve: () => void } | undefined;
  #closing: Promise<void> | undefined;
  readonly #closed: Promise<BridgeEnd>;
  #resolveClosed: (end: BridgeEnd) => void = () => undefined;
  readonly #streaming: Promise<void>;
  #resolveStreaming: () => void = () => undefined;
  #rejectStreaming: (error: Error) => void = () => undefined;

  private constructor(settings: BridgeSettings, ground: BridgeGround) {
    this.#settings = settings;
    this.#closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#streaming = new Promise((resolve, reject) => {
      this.#resolveStreaming = resolve;
      this.#rejectStreaming = reject;
    });
    this.#streaming.catch(() => undefined); // whoever does not ask is told by `closed`
    this.#registrar = new TimelineRegistrar({
      settings,
      history: ground.history,
      failed: (error) => this.#finish(endOf(error)),
      signal: this.#abort.signal,
    });
    this.#link = this.#createLink(ground);
    this.#proposer = this.#createProposer();
  }

  /**
   * Checks PostgreSQL, takes the retain slot and starts. Resolves then; acceptors need not be there yet.
   *
   * @throws {ProposerError} ERR_BRIDGE_POSTGRES, ERR_BRIDGE_VERSION, ERR_BRIDGE_SETTING, ERR_BRIDGE_SYSTEM_ID,
   *   ERR_BRIDGE_TIMELINE_ID, ERR_BRIDGE_SLOT_ACTIVE, ERR_BRIDGE_SLOT
   * @throws {RangeError} options that cannot be meant
   */
  static async open(options: BridgeOptions): Promise<Bridge> {
    const settings = bridgeSettings(options);
    const ground = await prepareGround(settings);
    for (const warning of ground.warnings) publishNotice({ type: "warning", ...warning });
    const bridge = Bridge.#on(settings, ground);
    void bridge.#live();
    return bridge;
  }

  static #on(settings: BridgeSettings, ground: BridgeGround): Bridge {
    try {
      return new Bridge(settings, ground);
    } catch (error) {
      ground.slot.destroy();
      throw error;
    }
  }

  /** Resolves, never rejects, when the bridge has ended; it holds nothing any more by then. */
  get closed(): Promise<BridgeEnd> {
    return this.#closed;
  }

  /** Resolves when WAL flows for the first time; rejects with ERR_PROPOSER_CLOSED if the bridge ends before that. */
  get streaming(): Promise<void> {
    return this.#streaming;
  }

  status(): BridgeStatus {
    const { identity, warnings } = this.#link.ground;
    const core = this.#proposer.core;
    return {
      state: this.#state,
      systemId: identity.systemId,
      pgVersion: identity.versionNumber,
      pgTimelineId: identity.timelineId,
      segmentBytes: identity.segmentBytes,
      term: core.term,
      termStartLsn: core.termStartLsn,
      reconnects: this.#link.reconnects,
      restarts: this.#settings.tally?.counts ?? {},
      receivedLsn: this.#ring?.endLsn ?? INVALID_LSN,
      commitLsn: core.commitLsn,
      reportedLsn: this.#link.reportedLsn,
      truncateLsn: core.truncateLsn,
      ringStartLsn: this.#ring?.startLsn,
      divergence: this.#divergence,
      acceptors: this.#proposer.acceptors(),
      warnings,
    };
  }

  /**
   * Ends the bridge. While streaming it first waits, up to `closeTimeoutMs`, until the quorum has every record that
   * PostgreSQL has sent by now, and reports that; `immediate` drops everything as it is, which is as safe.
   */
  async close(options?: { readonly immediate?: boolean }): Promise<void> {
    if (options?.immediate === true) this.#finish({ reason: "closed", detail: "closed at once" });
    this.#closing ??= this.#closeInOrder();
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #closeInOrder(): Promise<void> {
    const { clock, closeTimeoutMs } = this.#settings;
    const { signal } = this.#abort;
    if (this.#state === "streaming" && this.#decoder !== undefined) {
      this.#move("draining");
      await Promise.race([this.#committed(this.#decoder.recordEndLsn), delay(clock, closeTimeoutMs, signal)]);
      if (!signal.aborted) {
        await Promise.race([this.#link.finish(), delay(clock, FINISH_TIMEOUT_MS, signal)]);
      }
    }
    this.#finish({ reason: "closed", detail: "closed" });
  }

  #committed(lsn: Lsn): Promise<void> {
    if (this.#proposer.core.commitLsn >= lsn) return Promise.resolve();
    return new Promise((resolve) => {
      this.#commitWaiter = { lsn, resolve };
    });
  }

  #createLink(ground: BridgeGround): PrimaryLink {
    return new PrimaryLink({
      settings: this.#settings,
      ground,
      positions: () => this.#proposer.core,
      handlers: { wal: (bytes) => this.#onWal(bytes), batch: () => this.#onBatch() },
      received: () => {
        const [ring, decoder] = [this.#ring, this.#decoder];
        assert(ring !== undefined && decoder !== undefined, "a stream that was lost had begun");
        return { ring, decoder };
      },
      state: () => this.#state,
      move: (to) => this.#move(to),
      failed: (error) => this.#finish(endOf(error)),
      signal: this.#abort.signal,
    });
  }

  #createProposer(): Proposer {
    return createBridgeProposer({
      settings: this.#settings,
      ground: () => this.#link.ground,
      sourceLost: () => this.#link.sourceLost,
      handlers: {
        elected: (result) => void this.#onElected(result),
        committed: (commitLsn) => {
          this.#link.committed(commitLsn);
          if (this.#commitWaiter !== undefined && commitLsn >= this.#commitWaiter.lsn)
            this.#commitWaiter.resolve();
        },
        truncated: (truncateLsn) => this.#link.advance(truncateLsn),
        hotStandby: (feedback) => this.#link.hotStandby(feedback),
        connected: (acceptor) => this.#registrar.connected(acceptor),
        ended: (reason, detail) => this.#finish({ reason, detail }),
      },
    });
  }

  async #live(): Promise<void> {
    const { ground } = this.#link;
    this.#link.watch();
    try {
      this.#knownCommitLsn = await ensureTimeline({
        settings: this.#settings,
        identity: ground.identity,
        openReader: (fromLsn, signal) => openReader(this.#settings, ground, fromLsn, signal),
        signal: this.#abort.signal,
      });
      await this.#registrar.check();
      if (this.#abort.signal.aborted) return;
      this.#move("electing");
      this.#proposer.start();
    } catch (error) {
      this.#finish(endOf(error));
    }
  }

  async #onElected(result: ElectionResult): Promise<void> {
    try {
      this.#move("checking");
      this.#link.advance(result.truncateLsn);
      const primary = { ...this.#link.primaryOptions(), termStartLsn: result.termStartLsn };
      await this.#compare(result, primary);
      await this.#registrar.register();
      const source = await openSource(
        primary,
        () => this.#proposer.wantedLsns(),
        this.#link.sourceHandlers(),
      );
      if (this.#abort.signal.aborted) {
        source.destroy();
        return;
      }
      this.#startStreaming(source);
      await this.#link.stream(source);
    } catch (error) {
      if (!this.#link.finishing) this.#finish(endOf(error));
    }
  }

  /** Nothing has been told to any acceptor yet. @throws {ProposerError} PostgreSQL's log is not theirs */
  async #compare(result: ElectionResult, primary: PrimaryOptions): Promise<void> {
    try {
      const logStartLsn = result.history[0]?.lsn ?? result.termStartLsn;
      this.#registrar.checkTermStart(logStartLsn, result.termStartLsn);
      const comparison = await compareWithAcceptors({
        primary,
        settings: this.#settings,
        identity: this.#link.ground.identity,
        result,
        commonLsns: () => this.#proposer.wantedLsns(),
        commitLsn: this.#knownCommitLsn,
      });
      this.#decoder = comparison.decoder;
      this.#divergence = comparison.result;
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#divergence = divergenceResultOf(error);
      throw error;
    }
  }

  #startStreaming(source: PostgresSource): void {
    const { identity, history } = this.#link.ground;
    const startLsn = source.receivedLsn;
    this.#link.begin(source);
    this.#ring = new WalRing({ startLsn, capacityBytes: this.#settings.ringBytes });
    this.#decoder ??= new StreamDecoder(identity, history.ids, startLsn, "record");
    this.#decoder.resumeAt(startLsn);
    this.#move("streaming");
    this.#streamingSinceMs = this.#settings.clock.monotonicMs();
    this.#proposer.startStreaming(this.#ring);
    this.#resolveStreaming();
  }

  #onWal(bytes: Uint8Array): void {
    this.#ring?.append(bytes);
    this.#undecoded.push(bytes);
  }

  /** Acceptors come first; then the decoder looks at what was just sent, and ends the bridge if it is not WAL. */
  #onBatch(): Promise<void> | undefined {
    if (this.#undecoded.length > 0) {
      this.#proposer.walAvailable();
      const chunks = this.#undecoded;
      this.#undecoded = [];
      for (const bytes of chunks) this.#decoder?.feed(bytes);
    }
    return this.#proposer.room();
  }

  #move(to: BridgeState): void {
    const from = this.#state;
    if (!isLegalMove(from, to)) throw new RangeError(`a bridge cannot go from ${from} to ${to}`);
    this.#state = to;
    publishNotice({ type: "bridge-state", from, to });
  }

  /** The one way out. Both connections to PostgreSQL go at once, so that nothing can be reported any more. */
  #finish(end: BridgeEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    const { clock, tally } = this.#settings;
    tally?.record(
      end.reason,
      this.#streamingSinceMs === undefined ? 0 : clock.monotonicMs() - this.#streamingSinceMs,
    );
    this.#link.destroy();
    this.#proposer.close();
    this.#abort.abort();
    this.#move("ended");
    publishNotice({ type: "ended", reason: end.reason, detail: end.detail });
    this.#commitWaiter?.resolve();
    this.#rejectStreaming(new ProposerError("ERR_PROPOSER_CLOSED", `the bridge ended: ${end.detail}`));
    this.#resolveClosed(end);
  }
}
