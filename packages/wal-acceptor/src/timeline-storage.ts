/**
 * Where the timelines of a node live: directories, or anything else that can create, open and remove them.
 *
 * The interface is what the registry needs and no more, so that a simulator can run a whole node in memory. The disk
 * layout is Neon's: `<directory>/<tenant>/<timeline>/` with the control file and segments inside, and
 * `<directory>/tmp/` for what is being created. A timeline appears under its final name by one rename of a complete
 * directory, after everything inside it is durable: after a crash it is there as a whole or not at all.
 */
import * as path from "node:path";
import { syncDirectory } from "@millrace/virtual-file";

import type { Clock } from "./clock.js";
import { isId } from "./connection-target.js";
import type { ControlStore } from "./control-store.js";
import { createDiskControlFile, openDiskControlStore } from "./disk-control-store.js";
import { openDiskWalStore } from "./disk-wal-store.js";
import { AcceptorError, storageError } from "./errors.js";
import { withFatalSync } from "./fatal-sync.js";
import { environmentOf, withoutSync } from "./file-system.js";
import type { FileSystem } from "./file-system.js";
import type { AcceptorMeasures } from "./measures.js";
import type { PersistentState } from "./persistent-state.js";
import { ensureDirectory, readSmallFile, removeTree, writeFileDurably } from "./small-files.js";
import { RECORD_BYTES_MAX } from "./timeline-records.js";
import type { TimelineRecords } from "./timeline-records.js";
import type { WalStore } from "./wal-store.js";

/** Names of a timeline, 32 lower-case hex digits each. */
export interface TimelineKey {
  readonly tenantId: string;
  readonly timelineId: string;
}

/** The stores of an opened timeline; the caller closes `wal`. */
export interface TimelineStores {
  readonly control: ControlStore;
  readonly wal: WalStore;
  /** Notes of the reading side. Absent: it starts without any, and keeps them in memory. */
  readonly records?: TimelineRecords;
}

/** Everything the registry asks of a disk. Calls for one timeline never overlap. */
export interface TimelineStorage {
  /** Removes what unfinished creations left behind and lists what is there, loadable or not. */
  list(): Promise<readonly TimelineKey[]>;
  /** Whether anything exists under the name of the timeline. */
  exists(key: TimelineKey): Promise<boolean>;
  /**
   * Makes a timeline that has no WAL, durably.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_EXISTS, _NO_SPACE, _IO, _POISONED
   */
  create(state: PersistentState): Promise<void>;
  /**
   * Recovers a timeline. What it reports afterwards is durable, its name included. Several may be opened at a time.
   *
   * @throws {AcceptorError} why it cannot be opened; nothing on disk has been removed
   */
  open(key: TimelineKey): Promise<TimelineStores>;
  /** Removes a closed timeline, durably. @returns whether anything was there */
  remove(key: TimelineKey): Promise<boolean>;
  /** The list of deleted timelines as last written, or undefined. */
  readTombstones(): Promise<Uint8Array | undefined>;
  /** Replaces the list of deleted timelines, durably, in one step. `bytes` is lent until the promise settles. */
  writeTombstones(bytes: Uint8Array): Promise<void>;
}

/** What `createDiskTimelineStorage` works with. */
export interface DiskTimelineStorageOptions {
  /** The node's data directory, existing and locked. */
  readonly directory: string;
  readonly fileSystem: FileSystem;
  /** Skip every sync. */
  readonly noSync: boolean;
  readonly clock: Clock;
  /** Called when a sync has failed: the process must not go on. */
  readonly onFatal: (error: Error) => void;
  /** Where times and sizes of disk accesses go; nowhere when absent. */
  readonly measures?: AcceptorMeasures;
}

const TEMPORARY_DIRECTORY = "tmp";
const TOMBSTONES_FILE = "tombstones.json";
/** Far above what the registry writes; a larger file is not ours. */
const TOMBSTONES_BYTES_MAX: number = 16 * 1024 * 1024;

/** Timelines as directories below `options.directory`. */
export function createDiskTimelineStorage(options: DiskTimelineStorageOptions): TimelineStorage {
  return new DiskTimelineStorage(options);
}

class DiskTimelineStorage implements TimelineStorage {
  readonly #directory: string;
  readonly #fileSystem: FileSystem;
  readonly #options: DiskTimelineStorageOptions;
  #created = 0;
  /** Directories whose names, as this process found them, are or are being made durable. */
  readonly #settled = new Map<string, Promise<void>>();

  constructor(options: DiskTimelineStorageOptions) {
    this.#directory = options.directory;
    const { fileSystem, noSync, onFatal } = options;
    this.#fileSystem = withFatalSync(noSync ? withoutSync(fileSystem) : fileSystem, onFatal);
    this.#options = options;
  }

  async list(): Promise<readonly TimelineKey[]> {
    await removeTree(this.#fileSystem, path.join(this.#directory, TEMPORARY_DIRECTORY));
    const keys: TimelineKey[] = [];
    for (const tenantId of await this.#names(this.#directory)) {
      if (!isId(tenantId)) continue;
      const timelineIds = (await this.#names(path.join(this.#directory, tenantId))).filter(isId);
      for (const timelineId of timelineIds) keys.push({ tenantId, timelineId });
    }
    return keys;
  }

  async exists(key: TimelineKey): Promise<boolean> {
    const directory = this.#path(key);
    try {
      return (await this.#fileSystem.stat(directory)) !== undefined;
    } catch (error) {
      throw storageError(`look for ${directory}`, error);
    }
  }

  async create(state: PersistentState): Promise<void> {
    const directory = this.#path(state);
    if (await this.exists(state)) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_TIMELINE_EXISTS",
        `${directory} exists and is not a loaded timeline`,
      );
    }
    // The number keeps apart two creations of one name, of which the first failed and could not be cleaned up.
    this.#created += 1;
    const temporary = path.join(
      this.#directory,
      TEMPORARY_DIRECTORY,
      `${state.tenantId}_${state.timelineId}_${this.#created}`,
    );
    await ensureDirectory(this.#fileSystem, temporary);
    try {
      await createDiskControlFile({ ...this.#storeOptions(temporary), state });
      await ensureDirectory(this.#fileSystem, path.dirname(directory));
      await this.#syncDirectory(this.#directory); // the tenant may exist by a creation cut short
      await this.#fileSystem.rename(temporary, directory);
    } catch (error) {
      await removeTree(this.#fileSystem, temporary).catch(() => undefined); // the next start removes it
      throw storageError(`create ${directory}`, error);
    }
    await this.#syncDirectory(path.dirname(directory));
  }

  async open(key: TimelineKey): Promise<TimelineStores> {
    await this.#settleNames(key.tenantId);
    const options = this.#storeOptions(this.#path(key));
    const control = await openDiskControlStore(options);
    const { tenantId, timelineId } = control.get();
    if (tenantId !== key.tenantId || timelineId !== key.timelineId) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_CONTROL_CORRUPT",
        `${options.directory} holds the control file of ${tenantId}/${timelineId}`,
      );
    }
    const wal = await openDiskWalStore({ ...options, control });
    return { control, wal, records: this.#records(options.directory) };
  }

  async remove(key: TimelineKey): Promise<boolean> {
    const directory = this.#path(key);
    const existed = await removeTree(this.#fileSystem, directory);
    if (existed) await this.#syncDirectory(path.dirname(directory));
    return existed;
  }

  readTombstones(): Promise<Uint8Array | undefined> {
    return readSmallFile(this.#fileSystem, path.join(this.#directory, TOMBSTONES_FILE), TOMBSTONES_BYTES_MAX);
  }

  writeTombstones(bytes: Uint8Array): Promise<void> {
    return writeFileDurably(this.#fileSystem, path.join(this.#directory, TOMBSTONES_FILE), bytes);
  }

  #records(directory: string): TimelineRecords {
    return {
      read: (name) => readSmallFile(this.#fileSystem, path.join(directory, name), RECORD_BYTES_MAX),
      write: (name, bytes) => writeFileDurably(this.#fileSystem, path.join(directory, name), bytes),
    };
  }

  #path(key: TimelineKey): string {
    return path.join(this.#directory, key.tenantId, key.timelineId);
  }

  #storeOptions(directory: string): {
    readonly directory: string;
    readonly fileSystem: FileSystem;
    readonly noSync: boolean;
    readonly onFatal: (error: Error) => void;
    readonly measures?: AcceptorMeasures;
  } {
    const { fileSystem, noSync, onFatal, measures } = this.#options;
    return { directory, fileSystem, noSync, onFatal, ...(measures === undefined ? {} : { measures }) };
  }

  async #syncDirectory(directory: string): Promise<void> {
    try {
      await syncDirectory(directory, environmentOf(this.#fileSystem));
    } catch (error) {
      throw storageError(`sync ${directory}`, error);
    }
  }

  async #names(directory: string): Promise<readonly string[]> {
    try {
      const status = await this.#fileSystem.stat(directory);
      return status?.isDirectory === true ? (await this.#fileSystem.readdir(directory)).sort() : [];
    } catch (error) {
      throw storageError(`list ${directory}`, error);
    }
  }

  // The names themselves are made durable before anybody relies on what is behind them: a process that was killed
  // between a rename and the sync that follows it left a name which a power cut could still take back. Once for each
  // directory and process: what is named later is synced by whoever names it.
  async #settleNames(tenantId: string): Promise<void> {
    for (const directory of [path.join(this.#directory, tenantId), this.#directory]) {
      let settled = this.#settled.get(directory);
      if (settled === undefined) {
        settled = this.#syncDirectory(directory);
        this.#settled.set(directory, settled);
      }
      await settled;
    }
  }
}
