/**
 * Every timeline of a node, from loading at boot to deletion; nothing else creates, opens or removes one.
 *
 * A name is in at most one state: to be loaded, being created, loaded, unloadable, being deleted, or absent. What
 * stays true:
 * - the names on disk are known before the first request; their timelines are loaded in the background, and a request
 *   for one that is not there yet waits for that one alone;
 * - a timeline is seen by others only when it is complete on disk, recovered and synced;
 * - a timeline that failed to load is reported and its name cannot be taken, so nothing overwrites what may be
 *   repaired; the others load;
 * - a deletion is announced by a durable tombstone before anything is removed; whatever interrupts it, the next
 *   start finishes it, and a proposer that still runs cannot bring the timeline back.
 *
 * After GlobalTimelines of Neon's safekeeper, whose tombstones live in memory only.
 */
import { Gate } from "@millrace/duplex";

import { AsyncMutex } from "./async-mutex.js";
import type { Clock } from "./clock.js";
import type { SystemIdMismatchPolicy } from "./core-greeting.js";
import { publish } from "./diagnostics.js";
import { AcceptorError } from "./errors.js";
import { LoadQueue } from "./load-queue.js";
import type { PersistentState } from "./persistent-state.js";
import { Timeline } from "./timeline.js";
import { checkedKey, firstState } from "./timeline-creation.js";
import type { CreateTimelineRequest } from "./timeline-creation.js";
import { TimelineReaders } from "./timeline-readers.js";
import type { ReaderSettings } from "./timeline-readers.js";
import { createMemoryRecords } from "./timeline-records.js";
import type { TimelineKey, TimelineStorage } from "./timeline-storage.js";
import { Tombstones } from "./tombstones.js";

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
  | { readonly state: "loading" }
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
  readonly #loads: LoadQueue<TimelineKey> = new LoadQueue((key) => this.#loadOne(key));
  readonly #tombstonesMutex = new AsyncMutex();
  #tombstones = new Tombstones();
  #closed: Promise<void> | undefined;

  private constructor(options: TimelineRegistryOptions) {
    this.#options = options;
    this.#storage = options.storage;
  }

  /**
   * Learns what is there and begins to load it. Deletions that a crash interrupted are finished on the way.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TOMBSTONES_CORRUPT, ERR_ACCEPTOR_IO: the node cannot run. A single timeline
   *   that fails to open does not fail this; see `unloadable`
   */
  static async open(options: TimelineRegistryOptions): Promise<TimelineRegistry> {
    const registry = new TimelineRegistry(options);
    await registry.#startLoading();
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

  /** The timelines on disk that are not loaded yet; one that is asked for comes next. */
  loading(): readonly TimelineKey[] {
    return [...this.#entries.values()].flatMap((entry) => (entry.state === "loading" ? [entry.key] : []));
  }

  /** Resolves when nothing is left to load: every timeline that was on disk is loaded, unloadable or deleted. */
  whenLoaded(): Promise<void> {
    return this.#loads.whenIdle();
  }

  /** The timelines that failed to load. Their names stay taken until they are deleted or the node is restarted. */
  unloadable(): readonly UnloadableTimeline[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.state === "unloadable" ? [{ ...entry.key, error: entry.error }] : [],
    );
  }

  /**
   * The timeline of that name. One that is still to be loaded comes before the others and is waited for.
   *
   * @throws {AcceptorError} as `get`, without _TIMELINE_LOADING; ERR_ACCEPTOR_SHUTTING_DOWN if the registry is closed
   *   meanwhile
   */
  async load(tenantId: string, timelineId: string): Promise<Timeline> {
    await this.#settled({ tenantId, timelineId });
    return this.get(tenantId, timelineId);
  }

  /**
   * The loaded timeline of that name.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_NOT_FOUND, _TIMELINE_LOADING, _TIMELINE_CREATING, _TIMELINE_DELETED
   *   (being deleted, or deleted for good), ERR_ACCEPTOR_BROKEN (could not be loaded; `cause` says why)
   */
  get(tenantId: string, timelineId: string): Timeline {
    const key = { tenantId, timelineId };
    const found = this.#find(key);
    if (found !== undefined) return found;
    if (this.#tombstones.blocks(key, Number.POSITIVE_INFINITY)) throw deletedError(key);
    throw new AcceptorError("ERR_ACCEPTOR_TIMELINE_NOT_FOUND", `timeline ${nameOf(key)} not found`);
  }

  /**
   * Creates a timeline, or gives that of that name, loading it first, whatever the rest of the request says.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_REFUSED, ERR_ACCEPTOR_PG_VERSION (it would be created and cannot be
   *   with these parameters), _TIMELINE_CREATING, _TIMELINE_DELETED, _TIMELINE_EXISTS, ERR_ACCEPTOR_BROKEN,
   *   ERR_ACCEPTOR_SHUTTING_DOWN, ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO
   */
  async create(request: CreateTimelineRequest): Promise<Timeline> {
    const key = checkedKey(request);
    await this.#settled(key);
    const found = this.#find(key);
    if (found !== undefined) return found;
    const state = firstState(request, this.#options.clock.wallMs());
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
    const key = checkedKey({ tenantId, timelineId });
    const entry = this.#entries.get(nameOf(key));
    // What is being opened cannot be removed; and what an exclusion may do depends on the timeline's generation.
    if (entry?.state === "loading") {
      return this.#settled(key).then(() => this.delete(tenantId, timelineId, generation));
    }
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

  /** Begins no more loads; who waits for one that has not begun is refused. The first step of closing. */
  stopLoading(): void {
    void this.#loads.stop();
  }

  /**
   * Closes every timeline, saving its state; waits for creations and deletions under way. What is not loaded by then
   * stays as it is on disk. Streams must have ended.
   *
   * @throws {AcceptorError} what the first timeline failed with; all are closed all the same
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([this.#loads.stop(), this.#gate.close()]);
    const results = await Promise.allSettled(this.list().map((timeline) => timeline.close(true)));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #startLoading(): Promise<void> {
    const bytes = await this.#storage.readTombstones();
    if (bytes !== undefined) this.#tombstones = Tombstones.parse(bytes);
    for (const key of await this.#storage.list()) {
      this.#set(key, { state: "loading" });
      this.#loads.add(nameOf(key), key);
    }
    this.#loads.start();
  }

  // Returns once the name is not to be loaded any more, at once if it never was. One that was deleted for good is not
  // waited for: it is not opened either.
  async #settled(key: TimelineKey): Promise<void> {
    if (this.#entries.get(nameOf(key))?.state !== "loading") return;
    await this.#loads.demand(nameOf(key));
    if (this.#entries.get(nameOf(key))?.state === "loading") throw shuttingDownError();
  }

  async #loadOne(key: TimelineKey): Promise<void> {
    try {
      // Deleted for good: not even opened. Infinity stands for the highest generation there can be.
      if (this.#tombstones.blocks(key, Number.POSITIVE_INFINITY)) {
        await this.#storage.remove(key);
        this.#entries.delete(nameOf(key));
        return;
      }
      const timeline = await this.#open(key);
      if (this.#tombstones.blocks(key, timeline.state.configuration.generation)) {
        await timeline.close(false);
        await this.#storage.remove(key);
        this.#entries.delete(nameOf(key));
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
    if (entry.state === "loading") throw loadingError(key);
    if (entry.state === "creating") throw creatingError(key);
    if (entry.state === "deleting") throw deletedError(key);
    const message = `timeline ${nameOf(key)} could not be loaded`;
    throw new AcceptorError("ERR_ACCEPTOR_BROKEN", message, { cause: entry.error });
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

function nameOf(key: TimelineKey): string {
  return `${key.tenantId}/${key.timelineId}`;
}

function loadingError(key: TimelineKey): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TIMELINE_LOADING", `timeline ${nameOf(key)} is still being loaded`);
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
