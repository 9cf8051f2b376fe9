/**
 * The two lasting connections of a bridge to its PostgreSQL, slot and stream, held over any number of losses.
 *
 * - The slot is watched from the beginning. Without it another bridge may start, and WAL that acceptors need may go:
 *   before streaming its loss is the end, later it is taken again while the stream goes on.
 * - A stream that is lost is taken up again together with the slot (see primary-reconnect.ts). While there is none,
 *   `sourceLost` is aborted, so that readers for acceptors that lag do not hold up a PostgreSQL that shuts down.
 * - What was committed, and which transactions standbys need, is told to each new stream again.
 *
 * The bridge's states are moved from here only between "streaming" and "reconnecting"; the bridge owns the rest.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { HotStandbyFeedback } from "@millrace/wal-protocol";
import type { BridgeGround } from "./bridge-ground.js";
import type { BridgeSettings, BridgeState } from "./bridge-options.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";
import type { PostgresSource, SourceHandlers } from "./postgres-source.js";
import { isPassing, reconnectPrimary, renewSlot } from "./primary-reconnect.js";
import type { PrimaryOptions } from "./primary-source.js";
import type { RetainSlot } from "./retain-slot.js";
import type { StreamDecoder } from "./stream-decoder.js";
import type { WalRing } from "./wal-ring.js";

/** What the link needs of the bridge. */
export interface PrimaryLinkOptions {
  readonly settings: BridgeSettings;
  /** Given: its slot goes with the link. */
  readonly ground: BridgeGround;
  /** The term's positions as they are now. */
  readonly positions: () => {
    readonly termStartLsn: Lsn;
    readonly commitLsn: Lsn;
    readonly truncateLsn: Lsn;
  };
  readonly handlers: Pick<SourceHandlers, "wal" | "batch">;
  /** What has been received so far; only asked once a stream has begun. */
  readonly received: () => { readonly ring: WalRing; readonly decoder: StreamDecoder };
  readonly state: () => BridgeState;
  readonly move: (to: "reconnecting" | "streaming") => void;
  /** The slot is lost for good; called at most once. */
  readonly failed: (error: unknown) => void;
  /** Aborted when the bridge ends. */
  readonly signal: AbortSignal;
}

/** One for each bridge. */
export class PrimaryLink {
  readonly #options: PrimaryLinkOptions;
  #ground: BridgeGround;
  #source: PostgresSource | undefined;
  /** Aborted from the loss of the source until there is a new one. */
  #sourceLost = new AbortController();
  #reconnects = 0;
  /** Ends an attempt to take the slot again, if one is under way. */
  #cancelRenewal: () => void = () => undefined;
  #hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  /** The connections are being ended by us: that they end is no failure. */
  #finishing = false;

  constructor(options: PrimaryLinkOptions) {
    this.#options = options;
    this.#ground = options.ground;
  }

  /** Who PostgreSQL is, the slot, and what was wrong with its settings; renewed with the slot. */
  get ground(): BridgeGround {
    return this.#ground;
  }

  /** How often a connection was lost and had again. */
  get reconnects(): number {
    return this.#reconnects;
  }

  /** What PostgreSQL has been told; 0/0 without a stream. */
  get reportedLsn(): Lsn {
    return this.#source?.reportedLsn ?? INVALID_LSN;
  }

  /** Aborted while PostgreSQL is away. */
  get sourceLost(): AbortSignal {
    return this.#sourceLost.signal;
  }

  /** The connections are being ended in an orderly way. */
  get finishing(): boolean {
    return this.#finishing;
  }

  /** Begins to watch the slot. */
  watch(): void {
    void this.#watchSlot(this.#ground.slot);
  }

  /** What connections of the present term are opened with. */
  primaryOptions(): PrimaryOptions {
    return {
      settings: this.#options.settings,
      systemId: this.#ground.identity.systemId,
      history: this.#ground.history,
      reportIntervalMs: this.#ground.reportIntervalMs,
      termStartLsn: this.#options.positions().termStartLsn,
      signal: this.#options.signal,
    };
  }

  /** What a stream calls. */
  sourceHandlers(): SourceHandlers {
    return { ...this.#options.handlers, committedLsn: () => this.#options.positions().commitLsn };
  }

  /** No acceptor will ask for WAL below `truncateLsn`. */
  advance(truncateLsn: Lsn): void {
    this.#ground.slot.advance(truncateLsn);
  }

  /** The quorum has everything up to `commitLsn`. */
  committed(commitLsn: Lsn): void {
    this.#source?.committed(commitLsn);
  }

  /** Which transactions standbys still need. */
  hotStandby(feedback: HotStandbyFeedback): void {
    this.#hotStandby = feedback;
    this.#source?.hotStandby(feedback);
  }

  /** Takes the first stream, which goes with the link from now on. Call `stream` then. */
  begin(first: PostgresSource): void {
    this.#source = first;
  }

  /**
   * Reads from PostgreSQL, over any number of its restarts, until the bridge ends.
   *
   * @throws {ProposerError} why it cannot go on
   */
  async stream(first: PostgresSource): Promise<void> {
    const { settings, signal, state } = this.#options;
    let source = first;
    for (;;) {
      const lost = await connectionLoss(source);
      if (this.#finishing || signal.aborted) return;
      if (state() !== "streaming" || settings.postgresReconnectMs === 0) throw lost;
      source = await this.#reconnect(lost);
    }
  }

  /** Reports a last time on both connections and closes them. Resolves when they are closed, one way or the other. */
  async finish(): Promise<void> {
    this.#finishing = true;
    await Promise.allSettled([this.#source?.finish(), this.#ground.slot.finish()]);
  }

  /** Drops both connections at once, so that nothing can be reported any more. */
  destroy(): void {
    this.#source?.destroy();
    this.#ground.slot.destroy();
  }

  async #watchSlot(slot: RetainSlot): Promise<void> {
    const { settings, state, failed } = this.#options;
    const error = await slot.run(() => state() === "streaming" || state() === "draining");
    if (this.#finishing || slot !== this.#ground.slot || state() === "reconnecting") return;
    if (state() !== "streaming" || settings.postgresReconnectMs === 0) failed(error);
    else await this.#renewSlot(error);
  }

  async #renewSlot(lost: unknown): Promise<void> {
    const { settings, signal, failed } = this.#options;
    const cancel = new AbortController();
    const stop = (): void => cancel.abort();
    signal.addEventListener("abort", stop);
    this.#cancelRenewal = stop;
    try {
      const ground = await renewSlot({ settings, ground: this.#ground, signal: cancel.signal }, lost);
      if (cancel.signal.aborted) {
        ground.slot.destroy();
        return;
      }
      this.#holdGround(ground);
      const detail = lost instanceof Error ? lost.message : String(lost);
      publishNotice({ type: "warning", warning: "slot_renewed", detail });
    } catch (error) {
      if (!cancel.signal.aborted) failed(error);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** The slot was lost and is held again. */
  #holdGround(ground: BridgeGround): void {
    this.#ground = ground;
    this.#reconnects += 1;
    this.watch();
    ground.slot.advance(this.#options.positions().truncateLsn);
  }

  async #reconnect(lost: unknown): Promise<PostgresSource> {
    const { settings, signal, handlers, positions, received, move } = this.#options;
    move("reconnecting");
    this.#sourceLost.abort();
    this.#cancelRenewal();
    this.#ground.slot.destroy();
    void handlers.batch(); // what had arrived before the loss counts
    const { termStartLsn } = positions();
    const { ground, source } = await reconnectPrimary(
      {
        settings,
        ground: this.#ground,
        termStartLsn,
        ...received(),
        handlers: this.sourceHandlers(),
        signal,
      },
      lost,
    );
    this.#source = source;
    if (signal.aborted) {
      ground.slot.destroy();
      source.destroy();
      return source;
    }
    move("streaming");
    this.#sourceLost = new AbortController();
    this.#holdGround(ground);
    source.committed(positions().commitLsn);
    source.hotStandby(this.#hotStandby);
    return source;
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
