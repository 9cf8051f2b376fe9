/**
 * What is left of an acceptor when its process is gone: a control file and WAL on a disk.
 *
 * Two kinds, with the package's own stores on top: in memory (fast, crash model of MemoryWalDisk and
 * MemoryControlStore) and as files on a simulated file system (every system call of the production stores, with a
 * harsher crash model). A power cut loses any part of what was not synced; a killed process leaves what the kernel
 * has seen.
 */
import {
  AcceptorError,
  createDiskControlFile,
  createMemoryControlStore,
  createMemoryWalStore,
  MemoryWalDisk,
  openDiskControlStore,
  openDiskWalStore,
} from "@millrace/wal-acceptor";
import type {
  ControlStore,
  MemoryControlStore,
  MemoryWalStep,
  PersistentState,
  WalStore,
} from "@millrace/wal-acceptor";
import { AlignedArena } from "@millrace/aligned-buffers";
import type { DiskBehaviour, StepKind } from "./disk-behaviour.js";
import type { Random } from "./random.js";
import { SimulatedFileSystem } from "./simulated-file-system.js";

/** The stores of one life of a process. */
export interface OpenStores {
  readonly control: ControlStore;
  readonly wal: WalStore;
}

/** One node's disk content. */
export interface NodeStorage {
  /**
   * Opens both stores; recovery included.
   *
   * @param onFatal called when a sync has failed and the process has to die
   */
  open(onFatal: () => void): Promise<OpenStores>;
  /** The power fails: stores that are open go dead, unsynced data survives in part or not at all. */
  powerCut(random: Random): void;
  /** The process dies alone. */
  kill(random: Random): void;
}

/** Stores in memory. */
export class MemoryNodeStorage implements NodeStorage {
  readonly #behaviour: DiskBehaviour;
  readonly #disk = new MemoryWalDisk();
  #state: PersistentState;
  #control: MemoryControlStore | undefined;
  #wal: WalStore | undefined;

  constructor(state: PersistentState, behaviour: DiskBehaviour) {
    this.#state = state;
    this.#behaviour = behaviour;
  }

  open(onFatal: () => void): Promise<OpenStores> {
    const control = createMemoryControlStore(this.#state, { beforePersist: () => this.#beforePersist() });
    const wal = createMemoryWalStore({
      control,
      disk: this.#disk,
      beforeStep: (step) => this.#behaviour.before(STEP_KINDS[step]),
      onFatal,
    });
    this.#control = control;
    this.#wal = wal;
    return Promise.resolve({ control, wal });
  }

  powerCut(random: Random): void {
    const draw = (): number => random.next();
    this.#closeStores(draw);
    this.#disk.crash(draw);
  }

  kill(random: Random): void {
    this.#closeStores(() => random.next());
    // The store on files syncs what it finds when it opens; the one in memory leaves that to its disk.
    this.#disk.sync();
  }

  // The store in memory takes errors as they are; the one on files would have wrapped this one.
  #beforePersist(): Promise<void> | undefined {
    try {
      return this.#behaviour.before("control");
    } catch (cause) {
      throw new AcceptorError("ERR_ACCEPTOR_NO_SPACE", "control file: no room", { cause });
    }
  }

  #closeStores(draw: () => number): void {
    this.#control?.crash(draw);
    this.#state = this.#control?.durable ?? this.#state;
    this.#control = undefined;
    void this.#wal?.close();
    this.#wal = undefined;
  }
}

const STEP_KINDS: Readonly<Record<MemoryWalStep, StepKind>> = {
  write: "write",
  sync: "sync",
  "create-segment": "write",
  "remove-segment": "name",
  cut: "name",
};

const DIRECTORY = "/timeline";
/** For the stores of a living process and those of some dead ones that are not closed yet. */
const ARENA_BYTES: number = 32 * 1024 * 1024;

/** Production stores over a simulated file system. */
export class FileNodeStorage implements NodeStorage {
  readonly #fileSystem: SimulatedFileSystem;
  #wal: WalStore | undefined;

  private constructor(fileSystem: SimulatedFileSystem) {
    this.#fileSystem = fileSystem;
  }

  /** A directory with a first control file in it, all durable. */
  static async create(state: PersistentState, behaviour: DiskBehaviour): Promise<FileNodeStorage> {
    const arena = new AlignedArena({ bytes: ARENA_BYTES });
    const fileSystem = new SimulatedFileSystem((kind) => behaviour.before(kind), DIRECTORY, arena);
    await createDiskControlFile({ directory: DIRECTORY, state, fileSystem: fileSystem.newProcess() });
    return new FileNodeStorage(fileSystem);
  }

  async open(onFatal: () => void): Promise<OpenStores> {
    const options = { directory: DIRECTORY, fileSystem: this.#fileSystem.newProcess(), onFatal };
    const control = await openDiskControlStore(options);
    const wal = await openDiskWalStore({ ...options, control });
    this.#wal = wal;
    return { control, wal };
  }

  powerCut(random: Random): void {
    this.#fileSystem.powerCut(() => random.next());
    this.#letGo();
  }

  kill(): void {
    this.#fileSystem.kill();
    this.#letGo();
  }

  // Nothing that a store of the dead process does takes effect any more; closing gives its memory back.
  #letGo(): void {
    void this.#wal?.close();
    this.#wal = undefined;
  }
}
