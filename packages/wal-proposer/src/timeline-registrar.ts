/**
 * Tells the acceptors of PostgreSQL's timelines, and learns from them whether this PostgreSQL is still the one whose
 * log they keep.
 *
 * - Before the election every acceptor that answers is asked what it knows. A timeline that PostgreSQL's history does
 *   not have, or has elsewhere, means that another server was promoted: this one must not win a term. A majority has to
 *   answer, which meets every majority that the other server's bridge has registered its timeline on.
 * - After the election a timeline that nobody knew must not begin below the start of the term: the acceptors then hold
 *   WAL of the old timeline that the promoted server never had.
 * - Before any WAL is sent, a majority has every timeline. The others get it as soon as they connect; until then they
 *   take WAL and keep their readers below it.
 *
 * A registration that an acceptor refuses as contradicting ends the bridge: whoever is right, it is for a human to say.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { BridgeAcceptor, BridgeSettings, PgTimelineRegistry } from "./bridge-options.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";
import type { PgTimeline, PostgresHistory } from "./postgres-history.js";
import { delay, withinTime, withJitter } from "./timers.js";

/** See the members. */
export interface TimelineRegistrarOptions {
  readonly settings: Pick<
    BridgeSettings,
    "acceptors" | "pgTimelines" | "reconnectMs" | "connectionTimeoutMs" | "clock" | "random"
  >;
  readonly history: PostgresHistory;
  /** An acceptor that came late contradicts; called at most once. */
  readonly failed: (error: unknown) => void;
  readonly signal: AbortSignal;
}

/** What an acceptor knows, and whether that is all it has to. */
interface Place {
  readonly acceptor: BridgeAcceptor;
  readonly name: string;
  known: readonly PgTimeline[] | undefined;
  complete: boolean;
  /** It has had a connection, though its management side may not have answered. */
  seen: boolean;
  busy: boolean;
}

/** One for each bridge. */
export class TimelineRegistrar {
  readonly #options: TimelineRegistrarOptions;
  readonly #registry: PgTimelineRegistry | undefined;
  readonly #places: readonly Place[];
  /** A majority has every timeline. */
  #settled = false;

  /** @throws {ProposerError} ERR_BRIDGE_TIMELINE_ID: there is something to tell and no way to */
  constructor(options: TimelineRegistrarOptions) {
    const { settings, history } = options;
    this.#options = options;
    this.#registry = settings.pgTimelines;
    if (this.#registry === undefined && history.current.timelineId !== 1) {
      const message =
        `PostgreSQL is on timeline ${history.current.timelineId}, and the acceptors cannot be told where it ` +
        "begins: the option pgTimelines (in the command: --acceptor-http) is missing";
      throw new ProposerError("ERR_BRIDGE_TIMELINE_ID", message);
    }
    this.#places = settings.acceptors.map((acceptor) => ({
      acceptor,
      name: `${acceptor.host}:${acceptor.port}`,
      known: undefined,
      complete: false,
      seen: false,
      busy: false,
    }));
  }

  /**
   * Resolves when a majority has answered and nobody contradicts, or when the bridge has ended.
   *
   * @throws {ProposerError} ERR_BRIDGE_TIMELINE_CONFLICT
   */
  async check(): Promise<void> {
    await this.#withMajority(
      (place, registry) => this.#ask(place, registry),
      ({ known }) => known !== undefined,
    );
  }

  /**
   * Whether the present history may go on at the start of the term. `check` comes first.
   *
   * @param logStartLsn where the acceptors' log begins
   * @throws {ProposerError} ERR_BRIDGE_WAL_LOST
   */
  checkTermStart(logStartLsn: Lsn, termStartLsn: Lsn): void {
    if (this.#registry === undefined) return;
    const known = new Set(
      this.#places.flatMap((place) => (place.known ?? []).map(({ timelineId }) => timelineId)),
    );
    for (const { timelineId, beginLsn, parentId } of this.#options.history.timelines) {
      if (known.has(timelineId) || beginLsn <= logStartLsn || beginLsn >= termStartLsn) continue;
      throw new ProposerError(
        "ERR_BRIDGE_WAL_LOST",
        `PostgreSQL left timeline ${parentId} for ${timelineId} at ${formatLsn(beginLsn)}, and acceptors have WAL ` +
          `up to ${formatLsn(termStartLsn)} that was written before: it was promoted before it had replayed all ` +
          "of it. Nothing was changed on any acceptor; rebuild this PostgreSQL, or rewind it, from the acceptors' WAL",
      );
    }
  }

  /**
   * Resolves when a majority has every timeline, or when the bridge has ended. The rest follows when it connects.
   *
   * @throws {ProposerError} ERR_BRIDGE_TIMELINE_CONFLICT
   */
  async register(): Promise<void> {
    if (this.#registry === undefined) return;
    await this.#withMajority(
      (place, registry) => this.#complete(place, registry),
      ({ complete }) => complete,
    );
    this.#settled = true;
    for (const [index, { seen }] of this.#places.entries()) if (seen) this.connected(index);
  }

  /** The acceptor at `index` has a connection: if it was not told before, it is now. */
  connected(index: number): void {
    const place = this.#places[index];
    if (place === undefined) return;
    place.seen = true;
    const registry = this.#registry;
    if (registry === undefined || !this.#settled || place.complete || place.busy) return;
    place.busy = true;
    void this.#completeLate(place, registry);
  }

  /** Tries until it succeeds: only from then on its readers see what is above the switch. */
  async #completeLate(place: Place, registry: PgTimelineRegistry): Promise<void> {
    const { settings, signal, failed } = this.#options;
    try {
      while (!place.complete && !signal.aborted) {
        await this.#try(place, () => this.#complete(place, registry));
        if (!place.complete) await this.#pause(settings, signal);
      }
    } catch (error) {
      if (!signal.aborted) failed(error);
    } finally {
      place.busy = false;
    }
  }

  async #withMajority(
    work: (place: Place, registry: PgTimelineRegistry) => Promise<void>,
    isDone: (place: Place) => boolean,
  ): Promise<void> {
    const { settings, signal } = this.#options;
    const registry = this.#registry;
    if (registry === undefined) return;
    const majority = Math.floor(this.#places.length / 2) + 1;
    while (!signal.aborted) {
      const open = this.#places.filter((place) => !isDone(place));
      await Promise.all(open.map((place) => this.#try(place, () => work(place, registry))));
      const missing = this.#places.filter((place) => !isDone(place));
      if (this.#places.length - missing.length >= majority) return;
      const detail = `no majority of acceptors to speak of timelines with; no answer from ${missing
        .map(({ name }) => name)
        .join(", ")}`;
      publishNotice({ type: "warning", warning: "waiting_for_acceptors", detail });
      await this.#pause(settings, signal);
    }
  }

  #pause(settings: TimelineRegistrarOptions["settings"], signal: AbortSignal): Promise<void> {
    return delay(settings.clock, withJitter(settings.reconnectMs, settings.random), signal);
  }

  /** A conflict is thrown; anything else that goes wrong is published, and tried again by the caller. */
  async #try(place: Place, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isConflict(error)) throw error;
      const detail = `${place.name}: ${error instanceof Error ? error.message : String(error)}`;
      publishNotice({ type: "warning", warning: "pg_timelines", detail });
    }
  }

  async #ask(place: Place, registry: PgTimelineRegistry): Promise<void> {
    const known = await this.#limited((signal) => registry.list(place.acceptor, signal));
    checkKnown(place.name, known, this.#options.history);
    place.known = known;
  }

  async #complete(place: Place, registry: PgTimelineRegistry): Promise<void> {
    await this.#ask(place, registry);
    for (const timeline of missingTimelines(place.known ?? [], this.#options.history)) {
      await this.#limited((signal) => registry.register(place.acceptor, timeline, signal));
      const detail = `timeline ${timeline.timelineId} from ${formatLsn(timeline.beginLsn)} on ${place.name}`;
      publishNotice({ type: "timeline-registered", detail });
    }
    place.complete = true;
  }

  #limited<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { settings, signal } = this.#options;
    return withinTime(settings.clock, settings.connectionTimeoutMs, signal, work);
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_BRIDGE_TIMELINE_CONFLICT";
}

/** An acceptor that was told nothing says that all is timeline 1. */
function isImplicit({ timelineId, parentId, history }: PgTimeline): boolean {
  return timelineId === 1 && parentId === undefined && history === "";
}

/** @throws {ProposerError} ERR_BRIDGE_TIMELINE_CONFLICT */
function checkKnown(name: string, known: readonly PgTimeline[], history: PostgresHistory): void {
  for (const theirs of known) {
    const ours = history.get(theirs.timelineId);
    if (ours === undefined) {
      if (isImplicit(theirs) && known.length === 1) continue;
      throw conflict(
        `${name} knows timeline ${theirs.timelineId} from ${formatLsn(theirs.beginLsn)} on, PostgreSQL is on timeline ` +
          `${history.current.timelineId} and never was there`,
      );
    }
    const isSame = theirs.beginLsn === ours.beginLsn && theirs.parentId === ours.parentId;
    if (isSame || theirs.parentId === undefined) continue;
    throw conflict(
      `${name} knows that timeline ${theirs.timelineId} left timeline ${theirs.parentId} at ` +
        `${formatLsn(theirs.beginLsn)}, PostgreSQL's history says ${formatLsn(ours.beginLsn)}`,
    );
  }
}

/** In the order in which they have to be registered. */
function missingTimelines(known: readonly PgTimeline[], history: PostgresHistory): readonly PgTimeline[] {
  const ids = new Set(known.map(({ timelineId }) => timelineId));
  // Timeline 1 is there without being told, unless the history begins with another one.
  return history.timelines.filter((timeline) => !ids.has(timeline.timelineId));
}

function conflict(what: string): ProposerError {
  return new ProposerError(
    "ERR_BRIDGE_TIMELINE_CONFLICT",
    `${what}: another server was promoted. Nothing was changed on any acceptor; make this PostgreSQL a standby of ` +
      "that one (pg_rewind, or a new base backup)",
  );
}
