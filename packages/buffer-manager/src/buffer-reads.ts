/**
 * The calls of a buffer manager that read: single pages, reads of several blocks that are started now and waited for later,
 * prefetching, batches; and what whoever reads ahead asks about.
 *
 * They note pins in the scope that was current when the call was made, and have the parts do the work. `BufferManager`
 * inherits them. Every `x` that may have to wait has a twin `xAsync`, which does not sleep.
 */
import type { BackendParts } from "./backend-parts.js";
import { BufferUpkeep } from "./buffer-upkeep.js";
import { checksumFailureRows } from "./checksum-failures.js";
import type { ChecksumFailureRow } from "./checksum-failures.js";
import type { PrefetchResult, ReadMode } from "./page-reader.js";
import { InvalidPages } from "./invalid-pages.js";
import type { PoolScope } from "./pool-scope.js";
import { ReadOperation } from "./read-operation.js";
import { RedoReader } from "./redo-reader.js";
import type { Ring } from "./ring.js";
import type { Session } from "./session.js";
import { FORK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";

/** How a page is read. */
export interface ReadOptions {
  /** The main fork unless given. */
  readonly fork?: Fork;
  /** "normal" unless given. */
  readonly mode?: ReadMode;
  /** The ring that its buffer comes from. */
  readonly ring?: Ring | null;
}

/** The reading half of a buffer manager. */
export class BufferReads extends BufferUpkeep {
  /** What this backend has set for itself. */
  readonly session: Session;
  readonly #parts: BackendParts;

  constructor(parts: BackendParts) {
    super(parts);
    this.#parts = parts;
    this.session = parts.session;
  }

  // --- single pages ---

  /**
   * Pins a page, reading it if need be. In the modes "zeroAndLock" and "zeroAndCleanupLock" it is locked exclusively too, and
   * zeros if it was not in the pool.
   *
   * @returns the buffer: from 1, or below 0 for a temporary relation
   * @throws {BufferError} ERR_BUFFER_FILE, ERR_BUFFER_READ_FAILED, ERR_BUFFER_SHORT_READ, ERR_BUFFER_INVALID_PAGE,
   *   ERR_BUFFER_NO_UNPINNED, ERR_BUFFER_NO_LOCAL, ERR_BUFFER_WRITE (of a victim), ERR_BUFFER_WOULD_BLOCK
   */
  read(
    relation: Relation,
    block: number,
    { fork = FORK.main, mode = "normal", ring = null }: ReadOptions = {},
  ): number {
    const { pages, context, scopes } = this.#checked();
    const scope = scopes?.current;
    return note(context.waiter.run(pages.read(relation, fork, block, ring, mode, true)), scope);
  }

  /** As `read`, without sleeping. */
  async readAsync(
    relation: Relation,
    block: number,
    { fork = FORK.main, mode = "normal", ring = null }: ReadOptions = {},
  ): Promise<number> {
    const { pages, context, scopes } = this.#checked();
    const scope = scopes?.current;
    return note(await context.waiter.runAsync(pages.read(relation, fork, block, ring, mode, false)), scope);
  }

  /**
   * Lets go of a page and reads another; nothing is done if it is the same one.
   *
   * @param buffer pinned, or 0 for none
   * @throws {BufferError} as `read`; the old page is not pinned then
   */
  releaseAndRead(buffer: number, relation: Relation, block: number, options: ReadOptions = {}): number {
    if (this.#letGo(buffer, relation, block, options)) return buffer;
    return this.read(relation, block, options);
  }

  /** As `releaseAndRead`, without sleeping. */
  async releaseAndReadAsync(
    buffer: number,
    relation: Relation,
    block: number,
    options: ReadOptions = {},
  ): Promise<number> {
    if (this.#letGo(buffer, relation, block, options)) return buffer;
    return this.readAsync(relation, block, options);
  }

  /** Has the kernel read a page soon, unless the pool has it. Pins nothing. */
  prefetch(relation: Relation, block: number, fork: Fork = FORK.main): PrefetchResult {
    return this.#checked().pages.prefetch(relation, fork, block);
  }

  /**
   * Pins a page in the buffer where it was last seen, which saves looking for it.
   *
   * @returns whether it is still there, and valid; if not nothing is pinned
   */
  readRecent(relation: Relation, block: number, buffer: number, fork: Fork = FORK.main): boolean {
    const { pages, scopes } = this.#checked();
    const isThere = pages.readRecent(relation, fork, block, buffer);
    if (isThere) scopes?.current?.remember(buffer);
    return isThere;
  }

  /**
   * Makes what reads pages while a log is redone, where they may be missing.
   *
   * @param invalidPages those found missing so far, if several backends redo the log one after the other
   */
  createRedoReader(invalidPages: InvalidPages = new InvalidPages()): RedoReader {
    return new RedoReader(this.#checked(), invalidPages);
  }

  // --- several blocks at a time ---

  /** Makes an operation, for one read at a time. @param ring where its buffers come from */
  createReadOperation(relation: Relation, fork: Fork = FORK.main, ring: Ring | null = null): ReadOperation {
    return new ReadOperation(relation, fork, ring);
  }

  /**
   * Pins neighbouring blocks and starts to read those that are not there.
   *
   * @param buffers lent until the read is over. Entries from `at` on are 0, or buffers that an earlier call for these blocks
   *   has pinned and not covered; afterwards those covered are set, and perhaps more, for the next call. If it throws, the
   *   entries that are not 0 are exactly the pins that are held
   * @param flags of READ_FLAG
   * @returns blocks covered, from 1 to `count`. `operation.needWait` says whether they have to be waited for
   * @throws {BufferError} as `read`
   */
  startRead(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags = 0,
  ): number {
    const { reader, scopes } = this.#checked();
    const covered = reader.startRead(operation.begin(buffers, at, block, count, flags));
    noteRead(operation, scopes?.current);
    return covered;
  }

  /** As `startRead`, without sleeping. */
  async startReadAsync(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags = 0,
  ): Promise<number> {
    const { reader, scopes } = this.#checked();
    const scope = scopes?.current;
    const covered = await reader.startReadAsync(operation.begin(buffers, at, block, count, flags));
    noteRead(operation, scope);
    return covered;
  }

  /**
   * Waits until the blocks of a read are valid.
   *
   * @throws {BufferError} ERR_BUFFER_NO_READ: there is nothing to wait for; as `read`: the buffers stay pinned
   */
  waitRead(operation: ReadOperation): void {
    this.#parts.reader.waitRead(operation);
  }

  /** As `waitRead`, without sleeping. */
  async waitReadAsync(operation: ReadOperation): Promise<void> {
    await this.#parts.reader.waitReadAsync(operation);
  }

  /** From now on reads are only staged, until the batch is left or full, or this thread waits. */
  enterBatch(): void {
    this.#parts.context.aio.enterBatch();
  }

  /** Submits what is staged, and ends the batch. */
  exitBatch(): void {
    this.#parts.context.aio.exitBatch();
  }

  /** Submits what is staged, without ending the batch. */
  submitStaged(): void {
    this.#parts.context.aio.submitStaged();
  }

  // --- what whoever reads ahead asks ---

  /** Most blocks of one read. */
  get combineLimit(): number {
    return this.session.combineLimit;
  }

  /** Reads at a time, 0 to 1000; 0 for none ahead of their use. */
  get effectiveConcurrency(): number {
    return this.session.effectiveConcurrency;
  }

  /** The same for maintenance work. */
  get maintenanceConcurrency(): number {
    return this.session.maintenanceConcurrency;
  }

  /** Reads at a time on a relation: its tablespace's own, or one of the two above. */
  concurrencyOf({ tablespace }: Relation, isMaintenance: boolean): number {
    return this.session.concurrencyOf(tablespace, isMaintenance);
  }

  /** Whether reads are made by whoever waits for them: method sync. */
  get isSynchronous(): boolean {
    return this.#parts.context.aio.method === "sync";
  }

  /** Whether data files are opened with O_DIRECT. */
  get isDirect(): boolean {
    return this.#parts.context.files.isDirect;
  }

  /** Whether the kernel can be advised of reads to come. */
  get canAdvise(): boolean {
    return this.#parts.context.files.canAdvise;
  }

  /** Whether a relation is a temporary one of another backend, whose pages this one cannot see. */
  isForeignTemporary({ persistence, owner }: Relation): boolean {
    return persistence === "temporary" && owner !== undefined && owner !== this.#parts.context.id;
  }

  /** Wrong checksums that were found in this pool, by database. */
  checksumFailures(): ChecksumFailureRow[] {
    const { words, layout } = this.#parts.context;
    return checksumFailureRows(words, layout.checksumFailuresAt);
  }

  #checked(): BackendParts {
    this.#parts.check();
    return this.#parts;
  }

  /** @returns whether the buffer holds the wanted block, and stays pinned */
  #letGo(buffer: number, relation: Relation, block: number, { fork = FORK.main }: ReadOptions): boolean {
    if (buffer === 0) return false;
    if (this.#checked().pages.holds(buffer, relation, fork, block)) return true;
    this.#parts.release(buffer);
    return false;
  }
}

function note(buffer: number, scope: PoolScope | undefined): number {
  scope?.remember(buffer);
  return buffer;
}

/** Notes what a call has pinned. */
function noteRead({ buffers, at, known, pinned }: ReadOperation, scope: PoolScope | undefined): void {
  if (scope === undefined) return;
  for (let index = known; index < pinned; index++) scope.remember(buffers[at + index] as number);
}
