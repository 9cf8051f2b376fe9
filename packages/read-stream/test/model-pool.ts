/**
 * The dumbest pool that does what a stream needs: every block has a buffer of its own, for ever, and nothing is stored.
 *
 * A block is valid, in flight, or neither. What it keeps exactly are the rules a stream can notice: where a read is cut,
 * which pins are forwarded, what a wait for one's own staged I/O would do, how many pins are left. I/O completes when it
 * is waited for, or before that when the test says so, in whatever order it likes. Misuse by the
 * stream (a pin too many let go, a batch entered twice, a wait that can never end) is an exception.
 */
import { READ_FLAG } from "../src/pool.js";
import type { ReadOperation, StreamFork, StreamPool, StreamRelation, StreamRing } from "../src/pool.js";

export const RELATION: StreamRelation = { tablespace: 1663, database: 5, relation: 16_384 };
export const LOCAL_RELATION: StreamRelation = { ...RELATION, persistence: "temporary" };
/** Array slots for pins that every backend is taken to have filled. */
const FREE_PINS = 8;

export interface ModelOptions {
  readonly method?: "worker" | "sync";
  readonly combineLimit?: number;
  readonly effectiveConcurrency?: number;
  readonly maintenanceConcurrency?: number;
  readonly tablespaceConcurrency?: number;
  readonly isDirect?: boolean;
  readonly canAdvise?: boolean;
  readonly buffersCount?: number;
  readonly pinLimit?: number;
  /** Size of the backend's own buffers. */
  readonly localCount?: number;
  /** What `additionalPins` always answers, instead of the formula. */
  readonly additionalPins?: number;
  readonly segmentBlocks?: number;
  readonly isCached?: (block: number) => boolean;
  /** False makes every wait that would take time an error. */
  readonly mayBlock?: boolean;
}

interface ModelIo {
  readonly block: number;
  readonly count: number;
  state: "staged" | "submitted" | "done";
  error: Error | undefined;
  readonly waiters: (() => void)[];
}

class ModelOperation implements ReadOperation {
  needWait = false;
  ring: StreamRing | null;
  io: ModelIo | undefined;
  block = 0;
  count = 0;

  readonly isLocal: boolean;

  constructor(ring: StreamRing | null, isLocal: boolean) {
    this.ring = ring;
    this.isLocal = isLocal;
  }
}

/** An error as the pool above would throw. */
export class ModelError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const WOULD_BLOCK = "ERR_MODEL_WOULD_BLOCK";

export class ModelPool implements StreamPool {
  readonly isSynchronous: boolean;
  readonly combineLimit: number;
  readonly effectiveConcurrency: number;
  readonly maintenanceConcurrency: number;
  readonly isDirect: boolean;
  readonly canAdvise: boolean;
  readonly buffersCount: number;
  mayBlock: boolean;
  /** Reads and advice in order, as in `R7+8 A40+1`; reads of method sync when they are executed. */
  readonly log: string[] = [];
  /** How many I/Os each submission had. */
  readonly submissions: number[] = [];
  /** The ring and the flags of each call of `startRead`. */
  readonly starts: { readonly ring: StreamRing | null; readonly flags: number; readonly block: number }[] =
    [];
  readonly corrupt: Set<number> = new Set();
  readonly pins: Map<number, number> = new Map();
  readonly inFlight: Map<number, ModelIo> = new Map();
  /** Called at the beginning of every `startRead`; may throw. */
  onStart: (() => void) | undefined;
  isInBatch = false;
  inProgressMax = 0;
  blocksRead = 0;
  readonly #options: ModelOptions;
  readonly #valid = new Map<number, boolean>();
  #staged: ModelIo[] = [];

  constructor(options: ModelOptions = {}) {
    this.#options = options;
    this.isSynchronous = options.method === "sync";
    this.combineLimit = options.combineLimit ?? 16;
    this.effectiveConcurrency = options.effectiveConcurrency ?? 16;
    this.maintenanceConcurrency = options.maintenanceConcurrency ?? 16;
    this.isDirect = options.isDirect ?? false;
    this.canAdvise = options.canAdvise ?? true;
    this.buffersCount = options.buffersCount ?? 16_384;
    this.mayBlock = options.mayBlock ?? true;
  }

  get stagedCount(): number {
    return this.#staged.length;
  }

  /** Pins held, by anybody. */
  get pinsHeld(): number {
    let sum = 0;
    for (const count of this.pins.values()) sum += count;
    return sum;
  }

  static blockOf(buffer: number): number {
    return Math.abs(buffer) - 1;
  }

  isValid(block: number): boolean {
    return this.#valid.get(block) ?? this.#options.isCached?.(block) ?? false;
  }

  concurrencyOf(_relation: StreamRelation, isMaintenance: boolean): number {
    return (
      this.#options.tablespaceConcurrency ??
      (isMaintenance ? this.maintenanceConcurrency : this.effectiveConcurrency)
    );
  }

  isForeignTemporary(relation: StreamRelation): boolean {
    return relation.persistence === "temporary" && (relation.owner ?? 0) !== 0;
  }

  pinLimit(isLocal: boolean): number {
    return isLocal ? Math.floor((this.#options.localCount ?? 1024) / 4) : (this.#options.pinLimit ?? 94);
  }

  additionalPins(isLocal: boolean): number {
    const { additionalPins } = this.#options;
    if (additionalPins !== undefined) return additionalPins;
    let held = 0;
    for (const buffer of this.pins.keys()) if (buffer < 0 === isLocal) held += 1;
    if (isLocal) return Math.max(0, this.pinLimit(true) - held);
    return Math.max(0, this.pinLimit(false) - FREE_PINS - Math.max(0, held - FREE_PINS));
  }

  createReadOperation(
    relation: StreamRelation,
    _fork?: StreamFork,
    ring: StreamRing | null = null,
  ): ModelOperation {
    return new ModelOperation(ring, relation.persistence === "temporary");
  }

  startRead(
    operation: ModelOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): number {
    this.onStart?.();
    this.starts.push({ ring: operation.ring, flags, block });
    let n = count;
    for (let index = 0; index < n; index += 1) {
      const buffer = this.#bufferOf(operation, block + index);
      if (buffers[at + index] === 0) {
        this.pin(buffer);
        buffers[at + index] = buffer;
      } else if (buffers[at + index] !== buffer) throw new Error("forwarded pin is of another block");
      if (this.isValid(block + index)) {
        if (index === 0) {
          operation.needWait = false;
          return 1;
        }
        n = index;
      } else if (index === 0) n = Math.min(n, this.#untilSegmentEnd(block));
    }
    operation.block = block;
    if (this.isSynchronous) {
      if ((flags & READ_FLAG.issueAdvice) !== 0) this.log.push(`A${block}+${n}`);
      operation.needWait = true;
      operation.count = n;
      return n;
    }
    return this.#startIo(operation, block, n, flags);
  }

  startReadAsync(
    operation: ModelOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): Promise<number> {
    const io = this.inFlight.get(block);
    const start = (): number => this.startRead(operation, buffers, at, block, count, flags);
    if (io === undefined || this.mayBlock) return new Promise((resolve) => resolve(start()));
    this.submitStaged();
    return new Promise<void>((resolve) => io.waiters.push(resolve)).then(start);
  }

  waitRead(operation: ModelOperation): boolean {
    if (!operation.needWait) throw new Error("nothing to wait for");
    if (this.isSynchronous) {
      this.#readNow(operation.block, operation.count);
      return true;
    }
    const { io } = operation;
    if (io === undefined) throw new Error("no I/O to wait for");
    if (io.state === "staged") throw new Error("waiting for own staged I/O never ends");
    const hadToWait = io.state !== "done";
    if (hadToWait && !this.mayBlock) throw new ModelError(WOULD_BLOCK, "this thread must not sleep");
    this.complete(io);
    operation.io = undefined;
    if (io.error !== undefined) throw io.error;
    return hadToWait;
  }

  async waitReadAsync(operation: ModelOperation): Promise<boolean> {
    const { io } = operation;
    if (this.isSynchronous || io === undefined || io.state === "done" || this.mayBlock)
      return this.waitRead(operation);
    if (io.state === "staged") throw new Error("waiting for own staged I/O never ends");
    await new Promise<void>((resolve) => io.waiters.push(resolve));
    this.waitRead(operation);
    return true;
  }

  pin(buffer: number): void {
    this.pins.set(buffer, (this.pins.get(buffer) ?? 0) + 1);
  }

  release(buffer: number): void {
    const count = this.pins.get(buffer);
    if (count === undefined) throw new Error(`buffer ${buffer} is not pinned`);
    if (count === 1) this.pins.delete(buffer);
    else this.pins.set(buffer, count - 1);
  }

  enterBatch(): void {
    if (this.isInBatch) throw new Error("batch entered twice");
    this.isInBatch = true;
  }

  exitBatch(): void {
    if (!this.isInBatch) throw new Error("batch left without being entered");
    this.submitStaged();
    this.isInBatch = false;
  }

  submitStaged(): void {
    if (this.#staged.length === 0) return;
    this.submissions.push(this.#staged.length);
    for (const io of this.#staged) io.state = "submitted";
    this.#staged = [];
  }

  /** Another backend reads these blocks; it will be done when somebody waits for it. */
  startForeign(block: number, count: number): void {
    const io: ModelIo = { block, count, state: "submitted", error: undefined, waiters: [] };
    for (let index = 0; index < count; index += 1) this.inFlight.set(block + index, io);
  }

  /** I/Os that were submitted and are not done. */
  submitted(): ModelIo[] {
    return [...new Set(this.inFlight.values())].filter((io) => io.state === "submitted");
  }

  /** Ends one I/O: its blocks become valid unless they are corrupt. */
  complete(io: ModelIo): void {
    if (io.state === "done") return;
    io.state = "done";
    for (let block = io.block; block < io.block + io.count; block += 1) {
      this.inFlight.delete(block);
      if (this.corrupt.has(block))
        io.error ??= new ModelError("ERR_MODEL_INVALID_PAGE", `block ${block} is invalid`);
      else this.#valid.set(block, true);
    }
    for (const waiter of io.waiters) waiter();
  }

  #untilSegmentEnd(block: number): number {
    const segment = this.#options.segmentBlocks ?? 131_072;
    return segment - (block % segment);
  }

  #bufferOf(operation: ModelOperation, block: number): number {
    return operation.isLocal ? -block - 1 : block + 1;
  }

  #startIo(operation: ModelOperation, block: number, n: number, flags: number): number {
    const running = this.inFlight.get(block);
    if (running !== undefined) {
      if (!this.mayBlock) throw new ModelError(WOULD_BLOCK, "this thread must not sleep");
      this.submitStaged();
      this.complete(running);
      if (running.error !== undefined) throw running.error;
      operation.needWait = false;
      return 1;
    }
    let count = 1;
    while (count < n && !this.inFlight.has(block + count) && !this.isValid(block + count)) count += 1;
    const io: ModelIo = { block, count, state: "staged", error: undefined, waiters: [] };
    for (let index = 0; index < count; index += 1) this.inFlight.set(block + index, io);
    this.log.push(`R${block}+${count}`);
    this.blocksRead += count;
    this.inProgressMax = Math.max(this.inProgressMax, new Set(this.inFlight.values()).size);
    this.#staged.push(io);
    operation.io = io;
    operation.needWait = true;
    if ((flags & READ_FLAG.synchronously) !== 0) {
      this.submitStaged();
      this.complete(io);
    } else if (!this.isInBatch) this.submitStaged();
    return count;
  }

  /** Method sync: reads what has not become valid since, in runs. */
  #readNow(block: number, count: number): void {
    const end = block + count;
    for (let at = block; at < end;) {
      if (this.isValid(at)) {
        at += 1;
        continue;
      }
      let n = 1;
      while (at + n < end && !this.isValid(at + n)) n += 1;
      this.log.push(`R${at}+${n}`);
      this.blocksRead += n;
      for (let index = 0; index < n; index += 1) {
        if (this.corrupt.has(at + index))
          throw new ModelError("ERR_MODEL_INVALID_PAGE", `block ${at + index} is invalid`);
        this.#valid.set(at + index, true);
      }
      at += n;
    }
  }
}
