/**
 * Consumer slots: names under which a reader of WAL has its place kept while it is away.
 *
 * What stays true:
 * - a permanent slot exists for others only once its file says so, and is gone only once the file does;
 * - what holds WAL back is the position in the file, not the newer one in memory: after a crash a slot never points
 *   to WAL that was removed on its behalf;
 * - a position never moves back, and a report of 0/0 (a consumer that does not sync) moves nothing;
 * - at most one connection uses a slot; one nobody has used for `ttlMs` is dropped, so that a consumer that is gone
 *   for good cannot fill the disk;
 * - a temporary slot is nobody else's, in no file, and ends with its connection.
 *
 * After PostgreSQL's physical replication slots (slot.c), whose removal horizon runs ahead of the saved position.
 */
import { INVALID_LSN, maxLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { AsyncMutex } from "./async-mutex.js";
import type { Clock } from "./clock.js";
import { AcceptorError } from "./errors.js";
import { parseSlots, serializeSlots } from "./slot-file.js";
import type { SlotRecord } from "./slot-file.js";
import { SLOTS_RECORD } from "./timeline-records.js";
import type { TimelineRecords } from "./timeline-records.js";

/** Slots of one timeline at most, temporary ones included: as many as it may have readers. */
export const SLOTS_PER_TIMELINE_MAX = 256;
/** Time after which an unused slot is dropped, unless configured otherwise: seven days. */
export const SLOT_TTL_MS_DEFAULT: number = 7 * 24 * 3600 * 1000;
/** Expiry is looked for at least so often: also a bound on what one timer has to wait for. */
const EXPIRY_CHECK_MS: number = 3600 * 1000;
/** As in PostgreSQL, whose NAMEDATALEN is 64 with its NUL. */
const SLOT_NAME = /^[a-z0-9_]{1,63}$/;

/** One slot as a status shows it. */
export interface SlotState {
  readonly name: string;
  readonly temporary: boolean;
  /** WAL from here on is kept; 0 while nothing is. */
  readonly restartLsn: Lsn;
  /** The connection that uses it. */
  readonly activeConnectionId: number | undefined;
  /** When it was last in use, milliseconds since 1970; now, if it is. */
  readonly lastActiveMs: number;
}

interface Slot {
  readonly name: string;
  /** The connection that owns a temporary slot. */
  readonly owner: number | undefined;
  restartLsn: Lsn;
  /** What the file says; of a temporary slot the same as `restartLsn`. */
  savedLsn: Lsn;
  activeConnectionId: number | undefined;
  lastActiveMs: number;
}

/** What slots are opened with. */
export interface ConsumerSlotsOptions {
  readonly records: TimelineRecords;
  readonly clock: Clock;
  /** Default seven days. */
  readonly ttlMs?: number | undefined;
}

/** The slots of one timeline. */
export class ConsumerSlots {
  readonly #records: TimelineRecords;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #slots = new Map<string, Slot>();
  /** One change of the file at a time. */
  readonly #mutex = new AsyncMutex();

  private constructor(options: ConsumerSlotsOptions, saved: readonly SlotRecord[]) {
    this.#records = options.records;
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs ?? SLOT_TTL_MS_DEFAULT;
    for (const { name, restartLsn, lastActiveMs } of saved) {
      this.#slots.set(name, {
        name,
        owner: undefined,
        restartLsn,
        savedLsn: restartLsn,
        activeConnectionId: undefined,
        lastActiveMs,
      });
    }
  }

  /**
   * Reads the slots of a timeline.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_RECORDS_CORRUPT, ERR_ACCEPTOR_IO
   */
  static async open(options: ConsumerSlotsOptions): Promise<ConsumerSlots> {
    const bytes = await options.records.read(SLOTS_RECORD);
    return new ConsumerSlots(options, bytes === undefined ? [] : parseSlots(bytes));
  }

  get size(): number {
    return this.#slots.size;
  }

  /** All slots, in the order in which they were made. */
  list(): readonly SlotState[] {
    return [...this.#slots.values()].map((slot) => this.#stateOf(slot));
  }

  get(name: string): SlotState | undefined {
    const slot = this.#slots.get(name);
    return slot === undefined ? undefined : this.#stateOf(slot);
  }

  /**
   * Makes a slot; a permanent one is on disk when this resolves.
   *
   * @param owner the connection that a temporary slot ends with; `undefined` for a permanent one
   * @param restartLsn WAL from here on is kept; 0 keeps none until a stream uses the slot
   * @throws {AcceptorError} ERR_ACCEPTOR_SLOT_NAME, _SLOT_EXISTS, _SLOT_LIMIT; ERR_ACCEPTOR_NO_SPACE, _IO
   */
  create(name: string, restartLsn: Lsn, owner?: number): Promise<SlotState> {
    return this.#mutex.run(async () => this.#stateOf(await this.#create(name, restartLsn, owner)));
  }

  /**
   * Makes the slot keep WAL from `restartLsn` on, making it first if there is none. Never moves it back.
   *
   * @throws {AcceptorError} as `create`, without _SLOT_EXISTS
   */
  put(name: string, restartLsn: Lsn): Promise<SlotState> {
    return this.#mutex.run(async () => {
      const slot = this.#slots.get(name);
      if (slot === undefined) return this.#stateOf(await this.#create(name, restartLsn, undefined));
      slot.restartLsn = maxLsn(slot.restartLsn, restartLsn);
      slot.lastActiveMs = this.#clock.wallMs();
      await this.#save();
      return this.#stateOf(slot);
    });
  }

  /**
   * Removes a slot.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_SLOT_NOT_FOUND, _SLOT_IN_USE; ERR_ACCEPTOR_NO_SPACE, _IO: it is still there
   */
  drop(name: string, connectionId?: number): Promise<void> {
    return this.#mutex.run(async () => {
      const slot = this.#slots.get(name);
      if (slot === undefined) throw notFound(name);
      const user = slot.activeConnectionId ?? slot.owner;
      if (user !== undefined && (slot.activeConnectionId !== undefined || user !== connectionId))
        throw inUse(name, user);
      await this.#remove([slot]);
    });
  }

  /**
   * Uses a slot for a stream from `startLsn` on; a slot that is not there is made, so that a consumer can go on at
   * another acceptor under the name it has. The slot is in use until the lease is disposed.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_SLOT_IN_USE, and what `create` throws
   */
  acquire(name: string, connectionId: number, startLsn: Lsn): Promise<SlotLease> {
    return this.#mutex.run(async () => {
      const slot = this.#slots.get(name) ?? (await this.#create(name, startLsn, undefined));
      const user = slot.activeConnectionId ?? slot.owner;
      if (user !== undefined && (slot.activeConnectionId !== undefined || user !== connectionId))
        throw inUse(name, user);
      slot.activeConnectionId = connectionId;
      if (slot.restartLsn === INVALID_LSN) this.#advance(slot, startLsn);
      return new SlotLease(
        (lsn) => this.#advance(slot, lsn),
        () => {
          slot.activeConnectionId = undefined;
          slot.lastActiveMs = this.#clock.wallMs();
        },
      );
    });
  }

  /** The connection has ended: its temporary slots go. */
  dropTemporary(connectionId: number): void {
    for (const slot of this.#slots.values()) {
      if (slot.owner === connectionId) this.#slots.delete(slot.name);
    }
  }

  /** Positions from which on WAL must be kept, those of the file. */
  horizons(): readonly Lsn[] {
    return [...this.#slots.values()].flatMap(({ savedLsn }) => (savedLsn === INVALID_LSN ? [] : [savedLsn]));
  }

  /** Whether a save would let `bytes` or more of WAL go, or a slot has no position on disk yet. */
  movedBy(bytes: bigint): boolean {
    return [...this.#slots.values()].some(
      ({ restartLsn, savedLsn }) =>
        restartLsn - savedLsn >= bytes || (savedLsn === INVALID_LSN && restartLsn !== INVALID_LSN),
    );
  }

  /** Saves what has moved. @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO */
  save(): Promise<void> {
    return this.#mutex.run(async () => {
      if ([...this.#slots.values()].some(({ restartLsn, savedLsn }) => restartLsn !== savedLsn)) {
        await this.#save();
      }
    });
  }

  /**
   * Drops the slots that nobody has used for the configured time.
   *
   * @returns their names
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO: nothing was dropped
   */
  expire(): Promise<readonly string[]> {
    return this.#mutex.run(async () => {
      const now = this.#clock.wallMs();
      const expired = [...this.#slots.values()].filter(
        (slot) => this.#isIdle(slot) && now - slot.lastActiveMs >= this.#ttlMs,
      );
      if (expired.length > 0) await this.#remove(expired);
      return expired.map(({ name }) => name);
    });
  }

  /** Milliseconds after which to call `expire` again, at most an hour; `undefined` while no slot is idle. */
  nextExpiryMs(): number | undefined {
    const now = this.#clock.wallMs();
    const left = [...this.#slots.values()].flatMap((slot) =>
      this.#isIdle(slot) ? [Math.max(0, slot.lastActiveMs + this.#ttlMs - now)] : [],
    );
    return left.length === 0 ? undefined : Math.min(EXPIRY_CHECK_MS, ...left);
  }

  #isIdle(slot: Slot): boolean {
    return slot.activeConnectionId === undefined && slot.owner === undefined;
  }

  async #create(name: string, restartLsn: Lsn, owner: number | undefined): Promise<Slot> {
    if (!SLOT_NAME.test(name)) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_SLOT_NAME",
        `replication slot name "${name.slice(0, 64)}" is not 1 to 63 lower-case letters, digits and underscores`,
      );
    }
    if (this.#slots.has(name)) {
      throw new AcceptorError("ERR_ACCEPTOR_SLOT_EXISTS", `replication slot "${name}" already exists`);
    }
    if (this.#slots.size >= SLOTS_PER_TIMELINE_MAX) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_SLOT_LIMIT",
        `all ${SLOTS_PER_TIMELINE_MAX} replication slots of the timeline are in use`,
      );
    }
    const slot: Slot = {
      name,
      owner,
      restartLsn,
      savedLsn: restartLsn,
      activeConnectionId: undefined,
      lastActiveMs: this.#clock.wallMs(),
    };
    if (owner === undefined) await this.#write([...this.#permanent(), slot]);
    this.#slots.set(name, slot);
    return slot;
  }

  async #remove(slots: readonly Slot[]): Promise<void> {
    if (slots.some(({ owner }) => owner === undefined)) {
      await this.#write(this.#permanent().filter((slot) => !slots.includes(slot)));
    }
    for (const { name } of slots) this.#slots.delete(name);
  }

  async #save(): Promise<void> {
    await this.#write(this.#permanent());
  }

  // Positions may move on while the file is written: what was written is what counts as saved.
  async #write(slots: readonly Slot[]): Promise<void> {
    const now = this.#clock.wallMs();
    for (const slot of slots) if (slot.activeConnectionId !== undefined) slot.lastActiveMs = now;
    const records = slots.map(({ name, restartLsn, lastActiveMs }) => ({ name, restartLsn, lastActiveMs }));
    await this.#records.write(SLOTS_RECORD, serializeSlots(records));
    for (const [index, slot] of slots.entries()) slot.savedLsn = records[index]?.restartLsn ?? slot.savedLsn;
  }

  #permanent(): Slot[] {
    return [...this.#slots.values()].filter(({ owner }) => owner === undefined);
  }

  #advance(slot: Slot, lsn: Lsn): void {
    slot.restartLsn = maxLsn(slot.restartLsn, lsn);
    if (slot.owner !== undefined) slot.savedLsn = slot.restartLsn;
  }

  #stateOf(slot: Slot): SlotState {
    const { name, owner, restartLsn, activeConnectionId, lastActiveMs } = slot;
    const active = activeConnectionId !== undefined;
    return {
      name,
      temporary: owner !== undefined,
      restartLsn,
      activeConnectionId,
      lastActiveMs: active ? this.#clock.wallMs() : lastActiveMs,
    };
  }
}

/** The use of a slot by one stream. */
export class SlotLease implements Disposable {
  readonly #advance: (lsn: Lsn) => void;
  #release: (() => void) | undefined;

  constructor(advance: (lsn: Lsn) => void, release: () => void) {
    this.#advance = advance;
    this.#release = release;
  }

  /** The consumer has WAL below `flushLsn` on its disk; 0 and positions it has reported before change nothing. */
  advance(flushLsn: Lsn): void {
    this.#advance(flushLsn);
  }

  /** The slot is free again; twice is allowed. */
  [Symbol.dispose](): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}

function notFound(name: string): AcceptorError {
  return new AcceptorError(
    "ERR_ACCEPTOR_SLOT_NOT_FOUND",
    `replication slot "${name.slice(0, 64)}" does not exist`,
  );
}

function inUse(name: string, connectionId: number): AcceptorError {
  return new AcceptorError(
    "ERR_ACCEPTOR_SLOT_IN_USE",
    `replication slot "${name}" is active for PID ${connectionId}`,
  );
}
