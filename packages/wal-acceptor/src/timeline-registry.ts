/**
 * Every timeline of a node, from loading at boot to deletion; nothing else creates, opens or removes one.
 *
 * A name is in at most one state: being created, loaded, unloadable, being deleted, or absent. What stays true:
 * - a timeline is seen by others only when it is complete on disk and recovered;
 * - a timeline that failed to load is reported and its name cannot be taken, so nothing overwrites what may be
 *   repaired; the others load;
 * - a deletion is announced by a durable tombstone before anything is removed; whatever interrupts it, the next
 *   start finishes it, and a proposer that still runs cannot bring the timeline back.
 *
 * After GlobalTimelines of Neon's safekeeper, whose tombstones live in memory only.
 */
import { Gate } from "@millrace/duplex";
import { INVALID_LSN, isSegmentBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { pageMagic } from "@millrace/wal-decoder";
import { checkConfiguration, EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import type { Configuration } from "@millrace/wal-protocol";

import { AsyncMutex } from "./async-mutex.js";
import type { Clock } from "./clock.js";
import { isId } from "./connection-target.js";
import type { SystemIdMismatchPolicy } from "./core-greeting.js";
import { publish } from "./diagnostics.js";
import { AcceptorError } from "./errors.js";
import { initialState } from "./persistent-state.js";
import type { PersistentState } from "./persistent-state.js";
import { Timeline } from "./timeline.js";
import { TimelineReaders } from "./timeline-readers.js";
import type { ReaderSettings } from "./timeline-readers.js";
import { createMemoryRecords } from "./timeline-records.js";
import type { TimelineKey, TimelineStorage } from "./timeline-storage.js";
import { Tombstones } from "./tombstones.js";

/** Timelines recovered at the same time at boot: enough to keep a disk busy, few enough descriptors. */
const LOAD_CONCURRENCY = 8;

/** What a new timeline starts from. */
export interface CreateTimelineRequest extends TimelineKey {
  /** Generation 0, without members, when absent. */
  readonly configuration?: Configuration;
  /** As server_version_num, such as 150015. */
  readonly pgVersion: number;
  /** 0 while unknown: adopted from the first greeting that has one. */
  readonly systemId: bigint;
  readonly segmentBytes: number;
  /**
   * Where the WAL begins. Absent, as in a proposer's greeting: learned from the first election. Given, every
   * proposer has a common point with this node from the start.
   */
  readonly startLsn?: Lsn;
  /** Above `startLsn` only when WAL is put in place by other means. */
  readonly commitLsn?: Lsn;
}

/** A timeline on disk that could not be opened. */
export interface UnloadableTimeline extends TimelineKey {
  readonly error: unknown;
}

/** What a deletion found. */
export interface DeleteResult {
  /** False: there was nothing; a tombstone was left all the same. */
  readonly existed: boolean;
}

/** What a registry works with. */
export interface TimelineRegistryOptions {
  readonly storage: TimelineStorage;
  readonly nodeId: bigint;
  readonly clock: Clock;
  readonly onSystemIdMismatch?: SystemIdMismatchPolicy | undefined;
  readonly controlSaveIntervalMs?: number | undefined;
  readonly readers?: ReaderSettings | undefined;
}

type Entry =
  | { readonly state: "creating" }
  | { readonly state: "loaded"; readonly timeline: Timeline }
  | { readonly state: "unloadable"; readonly error: unknown }
  | { readonly state: "deleting"; readonly done: Promise<DeleteResult> };

/** The timelines of a node, by name. */
export class TimelineRegistry {
  readonly #options: TimelineRegistryOptions;
  readonly #storage: TimelineStorage;
  readonly #entries = new Map<string, Entry & { readonly key: TimelineKey }>();
  /** Creations and deletions under way; closing waits for them. */
  readonly #gate = new Gate();
  readonly #tombstonesMutex = new AsyncMutex();
  #tombstones = new Tombstones();
  #closed: Promise<void> | undefined;

  private constructor(options: TimelineRegistryOptions) {
    this.#options = options;
    this.#storage = options.storage;
  }

  /**
   * Loads everything that is there. Deletions that a crash interrupted are finished.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TOMBSTONES_CORRUPT, ERR_ACCEPTOR_IO: the node cannot run. A single timeline
   *   that fails to open does not fail this; see `unloadable`
   */
  static async open(options: TimelineRegistryOptions): Promise<TimelineRegistry> {
    const registry = new TimelineRegistry(options);
    await registry.#load();
    return registry;
  }

  /** How many timelines are loaded. */
  get size(): number {
    return this.list().length;
  }

  /** The loaded timelines, in the order in which they were loaded or created. */
  list(): readonly Timeline[] {
    return [...this.#entries.values()].flatMap((entry) => (entry.state === "loaded" ? [entry.timeline] : []));
  }

  /** The timelines that failed to load. Their names stay taken until they are deleted or the node is restarted. */
  unloadable(): readonly UnloadableTimeline[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.state === "unloadable" ? [{ ...entry.key, error: entry.error }] : [],
    );
  }

  /**
   * The loaded timeline of that name.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_NOT_FOUND, _TIMELINE_CREATING, _TIMELINE_DELETED (being deleted, or
   *   deleted for good), ERR_ACCEPTOR_BROKEN (could not be loaded; `cause` says why)
   */
  get(tenantId: string, timelineId: string): Timeline {
    const key = { tenantId, timelineId };
    const found = this.#find(key);
    if (found !== undefined) return found;
    if (this.#tombstones.blocks(key, Number.POSITIVE_INFINITY)) throw deletedError(key);
    throw new AcceptorError("ERR_ACCEPTOR_TIMELINE_NOT_FOUND", `timeline ${nameOf(key)} not found`);
  }

  /**
   * Creates a timeline, or gives the loaded one of that name whatever the rest of the request says.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_REFUSED, ERR_ACCEPTOR_PG_VERSION (it would be created and cannot be
   *   with these parameters), _TIMELINE_CREATING, _TIMELINE_DELETED, _TIMELINE_EXISTS, ERR_ACCEPTOR_BROKEN,
   *   ERR_ACCEPTOR_SHUTTING_DOWN, ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO
   */
  async create(request: CreateTimelineRequest): Promise<Timeline> {
    const key = keyOf(request);
    const found = this.#find(key);
    if (found !== undefined) return found;
    const state = this.#newState(request);
    if (this.#tombstones.blocks(key, state.configuration.generation)) throw deletedError(key);
    return await this.#whileOpen(() => this.#create(key, state));
  }

  /**
   * Deletes a timeline: leaves a durable tombstone, ends its streams, waits for its users and removes it. Also works
   * for one that could not be loaded, and for one that is not there.
   *
   * @param generation for an exclusion from the membership: the generation that left this node out. The tombstone
   *   then counts up to it. Absent: for ever
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_CREATING; ERR_ACCEPTOR_GENERATION_MISMATCH: the timeline has a
   *   higher generation than the exclusion; ERR_ACCEPTOR_SHUTTING_DOWN, ERR_ACCEPTOR_NO_SPACE (not begun),
   *   ERR_ACCEPTOR_IO (call again to finish)
   */
  delete(tenantId: string, timelineId: string, generation?: number): Promise<DeleteResult> {
    const key = keyOf({ tenantId, timelineId });
    const entry = this.#entries.get(nameOf(key));
    if (entry?.state === "deleting") return entry.done;
    if (entry?.state === "creating") return Promise.reject(creatingError(key));
    if (this.#gate.closing) return Promise.reject(shuttingDownError());
    if (entry?.state === "loaded" && generation !== undefined) {
      const ours = entry.timeline.state.configuration.generation;
      if (ours > generation) {
        const message = `generation mismatch: the timeline has ${ours}, the exclusion ${generation}`;
        return Promise.reject(new AcceptorError("ERR_ACCEPTOR_GENERATION_MISMATCH", message));
      }
    }
    // The state changes before the deletion takes its first step, so that the step finds itself announced.
    const done = Promise.resolve().then(() => this.#whileOpen(() => this.#delete(key, entry, generation)));
    this.#set(key, { state: "deleting", done });
    return done;
  }

  /**
   * Closes every timeline, saving its state; waits for creations and deletions under way. Streams must have ended.
   *
   * @throws {AcceptorError} what the first timeline failed with; all are closed all the same
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#gate.close();
    const results = await Promise.allSettled(this.list().map((timeline) => timeline.close(true)));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #load(): Promise<void> {
    const bytes = await this.#storage.readTombstones();
    if (bytes !== undefined) this.#tombstones = Tombstones.parse(bytes);
    const queue = [...(await this.#storage.list())];
    const worker = async (): Promise<void> => {
      for (let key = queue.shift(); key !== undefined; key = queue.shift()) await this.#loadOne(key);
    };
    await Promise.all(Array.from({ length: LOAD_CONCURRENCY }, worker));
  }

  async #loadOne(key: TimelineKey): Promise<void> {
    try {
      // Deleted for good: not even opened. Infinity stands for the highest generation there can be.
      if (this.#tombstones.blocks(key, Number.POSITIVE_INFINITY)) {
        await this.#storage.remove(key);
        return;
      }
      const timeline = await this.#open(key);
      if (this.#tombstones.blocks(key, timeline.state.configuration.generation)) {
        await timeline.close(false);
        await this.#storage.remove(key);
        return;
      }
      this.#set(key, { state: "loaded", timeline });
    } catch (error) {
      this.#set(key, { state: "unloadable", error });
      publish(() => ({ ...key, type: "timeline-unloadable", level: "error", error }));
    }
  }

  async #open(key: TimelineKey): Promise<Timeline> {
    const { nodeId, clock, onSystemIdMismatch, controlSaveIntervalMs } = this.#options;
    const { control, wal, records = createMemoryRecords() } = await this.#storage.open(key);
    let readers: TimelineReaders;
    try {
      readers = await TimelineReaders.open({ records, clock, settings: this.#options.readers });
    } catch (error) {
      await wal.close();
      throw error;
    }
    return new Timeline({ control, wal, readers, nodeId, clock, onSystemIdMismatch, controlSaveIntervalMs });
  }

  // The loaded timeline, undefined if the name is free, or why neither.
  #find(key: TimelineKey): Timeline | undefined {
    const entry = this.#entries.get(nameOf(key));
    if (entry === undefined) return undefined;
    if (entry.state === "loaded") return entry.timeline;
    if (entry.state === "creating") throw creatingError(key);
    if (entry.state === "deleting") throw deletedError(key);
    const message = `timeline ${nameOf(key)} could not be loaded`;
    throw new AcceptorError("ERR_ACCEPTOR_BROKEN", message, { cause: entry.error });
  }

  #newState(request: CreateTimelineRequest): PersistentState {
    const { tenantId, timelineId, pgVersion, systemId, segmentBytes, startLsn, commitLsn } = request;
    checkPgVersion(pgVersion);
    if (!isSegmentBytes(segmentBytes)) throw refused(`WAL segment size ${segmentBytes}`);
    if (startLsn === INVALID_LSN) throw refused("start LSN 0/0");
    if (commitLsn !== undefined && (startLsn === undefined || commitLsn < startLsn)) {
      throw refused("a commit LSN below the start LSN");
    }
    const configuration = request.configuration ?? EMPTY_CONFIGURATION;
    checkConfiguration(configuration);
    return initialState({
      tenantId,
      timelineId,
      server: { pgVersion, systemId, segmentBytes },
      configuration,
      createdAtMs: this.#options.clock.wallMs(),
      ...(startLsn === undefined ? {} : { startLsn }),
      ...(commitLsn === undefined ? {} : { commitLsn }),
    });
  }

  async #create(key: TimelineKey, state: PersistentState): Promise<Timeline> {
    this.#set(key, { state: "creating" });
    let created = false;
    try {
      await this.#storage.create(state);
      created = true;
      const timeline = await this.#open(key);
      this.#set(key, { state: "loaded", timeline });
      publish(() => ({ ...key, type: "timeline-created", level: "info" }));
      return timeline;
    } catch (error) {
      if (created) this.#set(key, { state: "unloadable", error });
      else this.#entries.delete(nameOf(key));
      throw error;
    }
  }

  async #delete(
    key: TimelineKey,
    entry: Entry | undefined,
    generation: number | undefined,
  ): Promise<DeleteResult> {
    try {
      await this.#bury(key, generation);
      if (entry?.state === "loaded") {
        // A broken or poisoned timeline must still be removable: closing it is only about descriptors here.
        await entry.timeline.close(false).catch(() => undefined);
      }
      const existed = await this.#storage.remove(key);
      this.#entries.delete(nameOf(key));
      publish(() => ({ ...key, type: "timeline-deleted", level: "info" }));
      return { existed };
    } catch (error) {
      this.#restore(key, entry, error);
      throw error;
    }
  }

  // After a failed deletion: a timeline that was not touched goes on, one that was cancelled cannot.
  #restore(key: TimelineKey, entry: Entry | undefined, error: unknown): void {
    if (entry === undefined) this.#entries.delete(nameOf(key));
    else if (entry.state === "loaded" && entry.timeline.cancelSignal.aborted) {
      this.#set(key, { state: "unloadable", error });
    } else this.#set(key, entry);
  }

  // One writer at a time; the set in memory changes only once the file has.
  #bury(key: TimelineKey, generation: number | undefined): Promise<void> {
    return this.#tombstonesMutex.run(async () => {
      const next = this.#tombstones.with({ ...key, generation, deletedAtMs: this.#options.clock.wallMs() });
      if (next === this.#tombstones) return;
      await this.#storage.writeTombstones(next.serialize());
      this.#tombstones = next;
    });
  }

  // Closing waits for the body; one that comes too late does not run. The body's first step is taken at once.
  async #whileOpen<T>(body: () => Promise<T>): Promise<T> {
    if (this.#gate.closing) throw shuttingDownError();
    const guard = this.#gate.enter();
    try {
      return await body();
    } finally {
      guard.release();
    }
  }

  #set(key: TimelineKey, entry: Entry): void {
    this.#entries.set(nameOf(key), { ...entry, key });
  }
}

function keyOf(request: TimelineKey): TimelineKey {
  const { tenantId, timelineId } = request;
  if (!isId(tenantId)) throw refused("a tenant id that is not 32 lower-case hexadecimal digits");
  if (!isId(timelineId)) throw refused("a timeline id that is not 32 lower-case hexadecimal digits");
  return { tenantId, timelineId };
}

// The WAL of a version whose page format is unknown could be stored and never acknowledged.
function checkPgVersion(pgVersion: number): void {
  try {
    pageMagic(Math.floor(pgVersion / 10_000));
  } catch (cause) {
    throw new AcceptorError("ERR_ACCEPTOR_PG_VERSION", `cannot create a timeline for version ${pgVersion}`, {
      cause,
    });
  }
}

function nameOf(key: TimelineKey): string {
  return `${key.tenantId}/${key.timelineId}`;
}

function refused(what: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TIMELINE_REFUSED", `cannot create a timeline with ${what}`);
}

function creatingError(key: TimelineKey): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TIMELINE_CREATING", `timeline ${nameOf(key)} is being created`);
}

function deletedError(key: TimelineKey): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TIMELINE_DELETED", `timeline ${nameOf(key)} was deleted`);
}

function shuttingDownError(): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_SHUTTING_DOWN", "the acceptor is shutting down");
}
