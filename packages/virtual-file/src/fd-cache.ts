/**
 * A bounded number of descriptors for any number of files.
 *
 * Slots are found by the clock: the hand passes over what is pinned or being changed, takes the used mark from what was used
 * since it came by, and evicts the first slot without one. A file knows its slot and the generation that the slot had
 * then; the generation changes before anything else does, so that a file whose descriptor has gone finds that out.
 * A slot is pinned during every I/O, so that no descriptor is closed under one. Who finds no slot waits in line.
 *
 * A file has at most one descriptor at a time, and the old one is closed before it gets a new one: what a last sync on the
 * old one had to report has then been reported.
 *
 * Idea: VirtualFile's OpenFiles of Neon's pageserver, which follows PostgreSQL's fd.c. Different: waiting is in order.
 */
import type { FileDescriptor } from "./file-engine.js";

const SLOTS_DEFAULT = 100;
/** The hand takes all used marks in the first round, so that it finds a victim in the second one if there is any. */
const ROUNDS_MAX = 2;

/** What a cache asks of a file. */
export interface CachedFile {
  /** Opens it again. */
  reopen(): Promise<FileDescriptor>;
  /** Its descriptor is about to be closed for another file. Must not reject. */
  beforeEviction(descriptor: FileDescriptor): Promise<void>;
  /** The close of its evicted descriptor has failed. */
  onCloseFailure(error: unknown): void;
}

/** A file's place in a cache. */
export class CacheEntry {
  readonly file: CachedFile;
  slot: Slot | undefined;
  generation = 0;
  /** While a descriptor of the file is being opened or evicted. */
  changing: Promise<unknown> | undefined;

  constructor(file: CachedFile) {
    this.file = file;
  }
}

/** Invariant: `isChanging` and `pins > 0` exclude each other; `descriptor` and `entry` are set together. */
interface Slot {
  descriptor: FileDescriptor | undefined;
  entry: CacheEntry | undefined;
  generation: number;
  pins: number;
  isUsed: boolean;
  isChanging: boolean;
  /** The end of the last eviction here. */
  emptied: Promise<void> | undefined;
}

/** What a cache has done. */
export interface FdCacheStats {
  /** Descriptors open now. */
  readonly open: number;
  readonly evictions: number;
  readonly reopens: number;
}

/** The descriptors of many files. Has nothing to close: files close theirs. */
export class FdCache {
  readonly #slots: readonly Slot[];
  readonly #line: ((slot: Slot) => void)[] = [];
  #hand = 0;
  #evictions = 0;
  #reopens = 0;

  /**
   * @param slots descriptors that are open at a time, at most
   * @throws {RangeError} not an integer from 1
   */
  constructor(slots: number = SLOTS_DEFAULT) {
    if (!Number.isInteger(slots) || slots < 1)
      throw new RangeError(`not a number of slots: ${String(slots)}`);
    const empty = {
      descriptor: undefined,
      entry: undefined,
      generation: 0,
      pins: 0,
      isUsed: false,
      isChanging: false,
      emptied: undefined,
    };
    this.#slots = Array.from({ length: slots }, () => ({ ...empty }));
  }

  get stats(): FdCacheStats {
    const open = this.#slots.filter(({ descriptor }) => descriptor !== undefined).length;
    return { open, evictions: this.#evictions, reopens: this.#reopens };
  }

  /** For {@link VirtualFile}: opens a file for the first time. */
  async open(entry: CacheEntry, open: () => Promise<FileDescriptor>): Promise<void> {
    await this.#fill(entry, open);
    this.unpin(entry);
  }

  /** For {@link VirtualFile}: its descriptor, pinned, if it is open. */
  tryPin(entry: CacheEntry): FileDescriptor | undefined {
    const slot = slotOf(entry);
    if (slot === undefined) return undefined;
    slot.pins += 1;
    slot.isUsed = true;
    return slot.descriptor;
  }

  /** For {@link VirtualFile}: its descriptor, pinned; opened again if necessary, once for all who ask meanwhile. */
  async pin(entry: CacheEntry): Promise<FileDescriptor> {
    for (;;) {
      const pinned = this.tryPin(entry);
      if (pinned !== undefined) return pinned;
      if (entry.changing === undefined) {
        this.#reopens += 1;
        return await this.#fill(entry, () => entry.file.reopen());
      }
      await entry.changing;
    }
  }

  /** For {@link VirtualFile}: ends a pin. */
  unpin(entry: CacheEntry): void {
    const { slot } = entry;
    // A pinned slot never changes, so it is the one that was pinned.
    if (slot === undefined) return;
    slot.pins -= 1;
    if (slot.pins === 0) this.#serve();
  }

  /** For {@link VirtualFile}: closes its descriptor. Nothing of the file is pinned, and nothing will be. */
  async close(entry: CacheEntry): Promise<void> {
    // Without a step of the event loop between the last look and the claim: an eviction might begin in it.
    while (entry.changing !== undefined) await entry.changing;
    const slot = slotOf(entry);
    if (slot?.descriptor === undefined) return;
    claim(slot);
    try {
      await slot.descriptor.close();
    } finally {
      this.#empty(slot);
    }
  }

  /** Gives a file a slot and a descriptor, pinned. */
  async #fill(entry: CacheEntry, open: () => Promise<FileDescriptor>): Promise<FileDescriptor> {
    const filling = this.#openInSlot(entry, open);
    // Others wait for the end, and learn from their own attempt how it was.
    entry.changing = filling.then(ignore, ignore);
    try {
      return await filling;
    } finally {
      entry.changing = undefined;
    }
  }

  async #openInSlot(entry: CacheEntry, open: () => Promise<FileDescriptor>): Promise<FileDescriptor> {
    const slot = await this.#claimVictim();
    await slot.emptied;
    try {
      const descriptor = await open();
      slot.descriptor = descriptor;
      slot.entry = entry;
      slot.pins = 1;
      slot.isUsed = true;
      slot.isChanging = false;
      entry.slot = slot;
      entry.generation = slot.generation;
      return descriptor;
    } catch (error) {
      this.#empty(slot);
      throw error;
    }
  }

  /**
   * Claims a slot and begins to close what is in it. From this very moment its file says that it is changing: otherwise it could
   * be opened again, or be taken for closed, while its old descriptor is there.
   */
  #claimAndEvict(slot: Slot): Slot {
    claim(slot);
    const { descriptor, entry } = slot;
    if (descriptor === undefined || entry === undefined) return slot;
    this.#evictions += 1;
    slot.emptied = closeEvicted(entry.file, descriptor).then(() => {
      entry.changing = undefined;
      slot.descriptor = undefined;
      slot.entry = undefined;
    });
    entry.changing = slot.emptied;
    return slot;
  }

  /**
   * A slot, as soon as one is free or can be made free, in the order of the calls: a slot that becomes free goes to the line
   * at once, so that there is none for others while somebody waits.
   */
  #claimVictim(): Slot | Promise<Slot> {
    const slot = this.#findVictim();
    if (slot !== undefined) return this.#claimAndEvict(slot);
    return new Promise((resolve) => {
      this.#line.push(resolve);
    });
  }

  #findVictim(): Slot | undefined {
    const empty = this.#slots.find(({ descriptor, isChanging }) => descriptor === undefined && !isChanging);
    if (empty !== undefined) return empty;
    for (let step = 0; step < ROUNDS_MAX * this.#slots.length; step++) {
      const slot = this.#slots[this.#hand] as Slot;
      this.#hand = (this.#hand + 1) % this.#slots.length;
      if (slot.isChanging || slot.pins > 0) continue;
      if (!slot.isUsed) return slot;
      slot.isUsed = false;
    }
    return undefined;
  }

  #empty(slot: Slot): void {
    slot.descriptor = undefined;
    slot.entry = undefined;
    slot.isChanging = false;
    this.#serve();
  }

  /** A slot may have become free: the first in line gets it. */
  #serve(): void {
    if (this.#line.length === 0) return;
    const slot = this.#findVictim();
    if (slot !== undefined) this.#line.shift()?.(this.#claimAndEvict(slot));
  }
}

/** The slot that has the file's descriptor; undefined if it was given to another file since, or is about to be. */
function slotOf({ slot, generation }: CacheEntry): Slot | undefined {
  return slot?.generation === generation ? slot : undefined;
}

/** From here on nobody pins what is in the slot. */
function claim(slot: Slot): Slot {
  slot.isChanging = true;
  slot.generation += 1;
  return slot;
}

async function closeEvicted(file: CachedFile, descriptor: FileDescriptor): Promise<void> {
  await file.beforeEviction(descriptor);
  try {
    await descriptor.close();
  } catch (error) {
    file.onCloseFailure(error);
  }
}

function ignore(): void {
  // The one who has started it hears of it.
}
