/**
 * Stores that tell the ledger what they are about to do: thin wrappers around the real ones.
 *
 * Only calls that change bytes or the control file are reported, before and after, so that the ledger knows what a
 * crash in between may leave. Reads for whoever serves WAL take time. Behaviour and errors are the wrapped store's.
 */
import type { Lsn } from "@millrace/lsn";
import type { ControlStore, PersistentState, WalReader, WalStore } from "@millrace/wal-acceptor";
import type { Ledger } from "./ledger.js";

/** Whose store it is, and who is told. */
export interface Observer {
  readonly ledger: Ledger;
  readonly nodeId: bigint;
  /** Whether the process still lives; a dead one's last call says nothing. */
  readonly isAlive: () => boolean;
}

/** What readers of WAL need besides. */
export interface WalObserver extends Observer {
  /** What this acceptor knows to be committed. */
  readonly commitLsn: () => Lsn;
  /** Waited for around every read: a disk takes its time, and everything may happen meanwhile. */
  readonly readDelay: () => Promise<void> | undefined;
}

/** A control store whose replacements the ledger sees. */
export class ObservedControlStore implements ControlStore {
  readonly #inner: ControlStore;
  readonly #ledger: Ledger;
  readonly #nodeId: bigint;
  readonly #isAlive: () => boolean;

  constructor(inner: ControlStore, { ledger, nodeId, isAlive }: Observer) {
    this.#inner = inner;
    this.#ledger = ledger;
    this.#nodeId = nodeId;
    this.#isAlive = isAlive;
  }

  get(): PersistentState {
    return this.#inner.get();
  }

  async persist(next: PersistentState): Promise<void> {
    this.#ledger.onPersist(this.#nodeId, this.#inner.get(), next);
    await this.#inner.persist(next);
    if (this.#isAlive()) this.#ledger.onPersisted(this.#nodeId, next);
  }
}

/** A WAL store whose writes and cuts the ledger sees. */
export class ObservedWalStore implements WalStore {
  readonly #inner: WalStore;
  readonly #observer: WalObserver;
  readonly #ledger: Ledger;
  readonly #nodeId: bigint;

  constructor(inner: WalStore, observer: WalObserver) {
    this.#inner = inner;
    this.#observer = observer;
    this.#ledger = observer.ledger;
    this.#nodeId = observer.nodeId;
  }

  get writeLsn(): Lsn {
    return this.#inner.writeLsn;
  }

  get writeRecordLsn(): Lsn {
    return this.#inner.writeRecordLsn;
  }

  get flushLsn(): Lsn {
    return this.#inner.flushLsn;
  }

  get unflushedBytes(): number {
    return this.#inner.unflushedBytes;
  }

  get needsTruncation(): boolean {
    return this.#inner.needsTruncation;
  }

  get poisoned(): boolean {
    return this.#inner.poisoned;
  }

  get oldestSegment(): bigint | undefined {
    return this.#inner.oldestSegment;
  }

  initFirstSegment(lsn: Lsn): Promise<void> {
    return this.#inner.initFirstSegment(lsn);
  }

  async write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    if (this.#inner.needsTruncation) return await this.#inner.write(beginLsn, buffers); // which refuses
    this.#ledger.logs.onWrite(this.#nodeId, beginLsn, buffers);
    try {
      await this.#inner.write(beginLsn, buffers);
    } catch (error) {
      if (this.#observer.isAlive()) this.#ledger.logs.onWritten(this.#nodeId, undefined);
      throw error;
    }
    if (this.#observer.isAlive()) this.#ledger.logs.onWritten(this.#nodeId, this.#inner.writeLsn);
  }

  flush(): Promise<void> {
    return this.#inner.flush();
  }

  async truncate(endLsn: Lsn): Promise<void> {
    this.#ledger.logs.onTruncate(this.#nodeId, endLsn, this.#observer.commitLsn());
    await this.#inner.truncate(endLsn);
    if (this.#observer.isAlive()) this.#ledger.logs.onTruncated(this.#nodeId, endLsn);
  }

  removeUpTo(segno: bigint): Promise<number> {
    return this.#inner.removeUpTo(segno);
  }

  openReader(lsn: Lsn): WalReader {
    return new SlowWalReader(this.#inner.openReader(lsn), this.#observer.readDelay);
  }

  takeTransactionEnd(): boolean {
    return this.#inner.takeTransactionEnd();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A cursor that may wait before it reads, and before it gives away what it has read. */
class SlowWalReader implements WalReader {
  readonly #inner: WalReader;
  readonly #delay: () => Promise<void> | undefined;

  constructor(inner: WalReader, delay: () => Promise<void> | undefined) {
    this.#inner = inner;
    this.#delay = delay;
  }

  get lsn(): Lsn {
    return this.#inner.lsn;
  }

  async read(target: Uint8Array): Promise<number> {
    await this.#delay();
    const count = await this.#inner.read(target);
    await this.#delay();
    return count;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
