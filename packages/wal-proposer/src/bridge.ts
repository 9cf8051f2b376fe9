/**
 * The bridge from a stock PostgreSQL: its WAL goes to a quorum of acceptors, the quorum's position goes back, and
 * commits that wait for the synchronous standby `applicationName` return when the quorum is durable.
 *
 * The order of a life, which is that of one term: look at PostgreSQL (a primary, timeline 1, a version we know),
 * take the retain slot (nobody else may work on this PostgreSQL), see to it that the timeline exists on all
 * acceptors, win an election, compare PostgreSQL's log with theirs, and only then tell the acceptors and stream. A restart of PostgreSQL does not end the term, if it
 * comes back with the same log. Whatever ends a bridge is final and says why in `closed`; the owner opens a new one, with a delay that grows if
 * lives are short, since every one adds an entry to the term history.
 *
 * Not here yet: timelines above 1.
 */
import { strict as assert } from "node:assert";
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { HotStandbyFeedback } from "@millrace/wal-protocol";
import { prepareGround, TIMELINE_ID } from "./bridge-ground.js";
import type { BridgeGround } from "./bridge-ground.js";
import { bridgeSettings, isLegalMove } from "./bridge-options.js";
import type {
  BridgeEnd,
  BridgeOptions,
  BridgeSettings,
  BridgeState,
  BridgeStatus,
} from "./bridge-options.js";
import { ensureTimeline } from "./bridge-timeline.js";
import { CatchUpReader } from "./catch-up-reader.js";
import { compareWithAcceptors } from "./bridge-divergence.js";
import { catchUpSource, endedWith } from "./catch-up-source.js";
import type { Donor } from "./catch-up-source.js";
import { publishNotice } from "./diagnostics.js";
import { DonorReader } from "./donor-reader.js";
import { ProposerError } from "./errors.js";
import type { ProposerErrorCode } from "./errors.js";
import type { PostgresSource, SourceHandlers } from "./postgres-source.js";
import { isPassing, reconnectPrimary, renewSlot } from "./primary-reconnect.js";
import { openSource } from "./primary-source.js";
import type { PrimaryOptions } from "./primary-source.js";
import { Proposer } from "./proposer.js";
import type { ElectionResult } from "./proposer-options.js";
import type { RetainSlot } from "./retain-slot.js";
import { StreamDecoder } from "./stream-decoder.js";
import { delay } from "./timers.js";
import { WalRing } from "./wal-ring.js";

/** How long connections to PostgreSQL may take to end in an orderly close. */
const FINISH_TIMEOUT_MS = 2000;

/** One bridge, one term. */
export class Bridge implements AsyncDisposable {
  readonly #settings: BridgeSettings;
  #ground: BridgeGround;
  readonly #abort = new AbortController();
  readonly #proposer: Proposer;
  #state: BridgeState = "bootstrapping";
  #source: PostgresSource | undefined;
  /** Aborted from the loss of the source until there is a new one; ends the catch-ups from PostgreSQL. */
  #sourceLost = new AbortController();
  #streamingSinceMs: number | undefined;
  #reconnects = 0;
  /** Ends an attempt to take the slot again, if one is under way. */
  #cancelRenewal: () => void = () => undefined;
  #hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  #ring: WalRing | undefined;
  #decoder: StreamDecoder | undefined;
  /** What acceptors had committed before the election, as far as they said. */
  #knownCommitLsn: Lsn = INVALID_LSN;
  /** Chunks that are on their way to the acceptors and not yet decoded. */
  #undecoded: Uint8Array[] = [];
  #end: BridgeEnd | undefined;
  #commitWaiter: { readonly lsn: Lsn; readonly resolve: () => void } | undefined;
  #closing: Promise<void> | undefined;
  /** The connections to PostgreSQL are being ended by us: that they end is no failure. */
  #finishing = false;
  readonly #closed: Promise<BridgeEnd>;
  #resolveClosed: (end: BridgeEnd) => void = () => undefined;
  readonly #streaming: Promise<void>;
  #resolveStreaming: () => void = () => undefined;
  #rejectStreaming: (error: Error) => void = () => undefined;

  private constructor(settings: BridgeSettings, ground: BridgeGround) {
    this.#settings = settings;
    this.#ground = ground;
    this.#closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#streaming = new Promise((resolve, reject) => {
      this.#resolveStreaming = resolve;
      this.#rejectStreaming = reject;
    });
    this.#streaming.catch(() => undefined); // whoever does not ask is told by `closed`
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
    const bridge = new Bridge(settings, ground);
    void bridge.#live();
    return bridge;
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
    const { identity, warnings } = this.#ground;
    const core = this.#proposer.core;
    return {
      state: this.#state,
      systemId: identity.systemId,
      pgVersion: identity.versionNumber,
      segmentBytes: identity.segmentBytes,
      term: core.term,
      termStartLsn: core.termStartLsn,
      reconnects: this.#reconnects,
      restarts: this.#settings.tally?.counts ?? {},
      receivedLsn: this.#ring?.endLsn ?? INVALID_LSN,
      commitLsn: core.commitLsn,
      reportedLsn: this.#source?.reportedLsn ?? INVALID_LSN,
      truncateLsn: core.truncateLsn,
      ringStartLsn: this.#ring?.startLsn,
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
    const source = this.#source;
    if (this.#state === "streaming" && source !== undefined && this.#decoder !== undefined) {
      this.#move("draining");
      await Promise.race([this.#committed(this.#decoder.recordEndLsn), delay(clock, closeTimeoutMs, signal)]);
      if (!signal.aborted) {
        this.#finishing = true;
        const finished = Promise.allSettled([source.finish(), this.#ground.slot.finish()]);
        await Promise.race([finished, delay(clock, FINISH_TIMEOUT_MS, signal)]);
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

  #createProposer(): Proposer {
    const { identity } = this.#ground;
    const { acceptorPassword, connectSocket, ...settings } = this.#settings;
    return new Proposer({
      acceptors: settings.acceptors,
      tenantId: settings.tenantId,
      timelineId: settings.timelineId,
      pgVersion: identity.versionNumber,
      systemId: identity.systemId,
      segmentBytes: identity.segmentBytes,
      // Timelines are created with a beginning, so that no log is ever begun by a vote.
      bootstrapLsn: INVALID_LSN,
      protocolVersion: settings.protocolVersion,
      reconnectMs: settings.reconnectMs,
      connectionTimeoutMs: settings.connectionTimeoutMs,
      catchUp: catchUpSource({
        fromPostgres: endedWith(
          (fromLsn, signal) => this.#openReader(fromLsn, signal),
          () => this.#sourceLost.signal,
        ),
        fromDonor: (donor, fromLsn, signal) => this.#openDonor(donor, fromLsn, signal),
        donor: () => this.#proposer.core.donor,
      }),
      clock: settings.clock,
      random: settings.random,
      handlers: {
        elected: (result) => void this.#onElected(result),
        committed: (commitLsn) => {
          this.#source?.committed(commitLsn);
          if (this.#commitWaiter !== undefined && commitLsn >= this.#commitWaiter.lsn)
            this.#commitWaiter.resolve();
        },
        truncated: (truncateLsn) => this.#ground.slot.advance(truncateLsn),
        hotStandby: (feedback) => {
          this.#hotStandby = feedback;
          this.#source?.hotStandby(feedback);
        },
        ended: (reason, detail) => this.#finish({ reason, detail }),
      },
      ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
      ...(connectSocket === undefined ? {} : { connectSocket }),
    });
  }

  #openReader(fromLsn: Lsn, signal: AbortSignal): Promise<CatchUpReader> {
    return CatchUpReader.open({
      postgres: this.#settings.postgres,
      applicationName: `${this.#settings.applicationName}_catchup`,
      fromLsn,
      timelineId: TIMELINE_ID,
      reportIntervalMs: this.#ground.reportIntervalMs,
      clock: this.#settings.clock,
      signal,
    });
  }

  #openDonor(donor: Donor, fromLsn: Lsn, signal: AbortSignal): Promise<DonorReader> {
    const { acceptors, tenantId, timelineId, clock, acceptorPassword, connectSocket } = this.#settings;
    const address = acceptors[donor.acceptor];
    assert(address !== undefined, "a donor is one of the acceptors");
    return DonorReader.open({
      address,
      tenantId,
      timelineId,
      term: this.#proposer.core.term,
      fromLsn,
      reportIntervalMs: this.#ground.reportIntervalMs,
      clock,
      signal,
      ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
      ...(connectSocket === undefined ? {} : { connectSocket }),
    });
  }

  async #live(): Promise<void> {
    void this.#watchSlot(this.#ground.slot);
    try {
      this.#knownCommitLsn = await ensureTimeline({
        settings: this.#settings,
        identity: this.#ground.identity,
        openReader: (fromLsn, signal) => this.#openReader(fromLsn, signal),
        signal: this.#abort.signal,
      });
      if (this.#abort.signal.aborted) return;
      this.#move("electing");
      this.#proposer.start();
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Without the slot another bridge may start, and WAL that acceptors need may go: before streaming that is the end,
   * later it is taken again.
   */
  async #watchSlot(slot: RetainSlot): Promise<void> {
    const error = await slot.run(() => this.#state === "streaming" || this.#state === "draining");
    if (this.#finishing || slot !== this.#ground.slot || this.#state === "reconnecting") return;
    if (this.#state !== "streaming" || this.#settings.postgresReconnectMs === 0) this.#fail(error);
    else await this.#renewSlot(error);
  }

  async #renewSlot(lost: unknown): Promise<void> {
    const cancel = new AbortController();
    const stop = (): void => cancel.abort();
    this.#abort.signal.addEventListener("abort", stop);
    this.#cancelRenewal = stop;
    try {
      const renewal = { settings: this.#settings, ground: this.#ground, signal: cancel.signal };
      const ground = await renewSlot(renewal, lost);
      if (cancel.signal.aborted) {
        ground.slot.destroy();
        return;
      }
      this.#holdGround(ground);
      const detail = lost instanceof Error ? lost.message : String(lost);
      publishNotice({ type: "warning", warning: "slot_renewed", detail });
    } catch (error) {
      if (!cancel.signal.aborted) this.#fail(error);
    } finally {
      this.#abort.signal.removeEventListener("abort", stop);
    }
  }

  /** The slot was lost and is held again. */
  #holdGround(ground: BridgeGround): void {
    this.#ground = ground;
    this.#reconnects += 1;
    void this.#watchSlot(ground.slot);
    ground.slot.advance(this.#proposer.core.truncateLsn);
  }

  async #onElected(result: ElectionResult): Promise<void> {
    try {
      this.#move("checking");
      this.#ground.slot.advance(result.truncateLsn);
      const primary = this.#primaryOptions(result.termStartLsn);
      this.#decoder = await compareWithAcceptors({
        primary,
        settings: this.#settings,
        identity: this.#ground.identity,
        result,
        commonLsns: () => this.#proposer.wantedLsns(),
        commitLsn: this.#knownCommitLsn,
      });
      const source = await openSource(primary, () => this.#proposer.wantedLsns(), this.#sourceHandlers());
      if (this.#abort.signal.aborted) {
        source.destroy();
        return;
      }
      this.#startStreaming(source);
      await this.#stream(source);
    } catch (error) {
      if (!this.#finishing) this.#fail(error);
    }
  }

  /** Reads from PostgreSQL, over any number of its restarts, until the bridge is closed or cannot go on. */
  async #stream(first: PostgresSource): Promise<void> {
    let source = first;
    for (;;) {
      const lost = await connectionLoss(source);
      if (this.#finishing || this.#abort.signal.aborted) return;
      if (this.#state !== "streaming" || this.#settings.postgresReconnectMs === 0) throw lost;
      source = await this.#reconnect(lost);
    }
  }

  async #reconnect(lost: unknown): Promise<PostgresSource> {
    const [ring, decoder] = [this.#ring, this.#decoder];
    assert(ring !== undefined && decoder !== undefined, "a stream that was lost had begun");
    this.#move("reconnecting");
    this.#sourceLost.abort();
    this.#cancelRenewal();
    this.#ground.slot.destroy();
    void this.#onBatch(); // what had arrived before the loss counts
    const { ground, source } = await reconnectPrimary(
      {
        settings: this.#settings,
        ground: this.#ground,
        termStartLsn: this.#proposer.core.termStartLsn,
        ring,
        decoder,
        handlers: this.#sourceHandlers(),
        signal: this.#abort.signal,
      },
      lost,
    );
    this.#source = source;
    if (this.#abort.signal.aborted) {
      ground.slot.destroy();
      source.destroy();
      return source;
    }
    this.#move("streaming");
    this.#sourceLost = new AbortController();
    this.#holdGround(ground);
    source.committed(this.#proposer.core.commitLsn);
    source.hotStandby(this.#hotStandby);
    return source;
  }

  #sourceHandlers(): SourceHandlers {
    return {
      wal: (bytes) => this.#onWal(bytes),
      batch: () => this.#onBatch(),
      committedLsn: () => this.#proposer.core.commitLsn,
    };
  }

  #primaryOptions(termStartLsn: Lsn): PrimaryOptions {
    return {
      settings: this.#settings,
      systemId: this.#ground.identity.systemId,
      reportIntervalMs: this.#ground.reportIntervalMs,
      termStartLsn,
      signal: this.#abort.signal,
    };
  }

  #startStreaming(source: PostgresSource): void {
    const { identity } = this.#ground;
    const startLsn = source.receivedLsn;
    this.#source = source;
    this.#ring = new WalRing({ startLsn, capacityBytes: this.#settings.ringBytes });
    this.#decoder ??= new StreamDecoder(identity, TIMELINE_ID, startLsn, "record");
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

  #fail(error: unknown): void {
    const detail = error instanceof Error ? error.message : String(error);
    this.#finish({ reason: endReason(error), detail, error });
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
    this.#source?.destroy();
    this.#ground.slot.destroy();
    this.#proposer.close();
    this.#abort.abort();
    this.#move("ended");
    publishNotice({ type: "ended", reason: end.reason, detail: end.detail });
    this.#commitWaiter?.resolve();
    this.#rejectStreaming(new ProposerError("ERR_PROPOSER_CLOSED", `the bridge ended: ${end.detail}`));
    this.#resolveClosed(end);
  }
}

/** Reads until the connection ends. @returns how; @throws what is more than the end of a connection */
async function connectionLoss(source: PostgresSource): Promise<unknown> {
  try {
    await source.run();
  } catch (error) {
    if (!isPassing(error)) throw error;
    return error;
  }
  const message = "PostgreSQL ended the stream, as it does when it shuts down";
  return new ProposerError("ERR_BRIDGE_POSTGRES", message);
}

/** The reasons that are not just "failed": what they have in common is what an operator does about them. */
const END_REASONS: Partial<Record<ProposerErrorCode, BridgeEnd["reason"]>> = {
  ERR_BRIDGE_WAL_LOST: "divergence",
  ERR_BRIDGE_DIVERGED: "divergence",
  ERR_BRIDGE_WAL_CHANGED: "divergence",
  ERR_BRIDGE_WAL_GAP: "divergence",
  ERR_BRIDGE_WAL_INVALID: "divergence",
  ERR_BRIDGE_POSTGRES: "pg_lost",
};

function endReason(error: unknown): BridgeEnd["reason"] {
  return (error instanceof ProposerError ? END_REASONS[error.code] : undefined) ?? "failed";
}
