/**
 * Stores that tell the ledger what they are about to do: thin wrappers around the real ones.
 *
 * Only calls that change bytes or the control file are reported, before and after, so that the ledger knows what a
 * crash in between may leave. Behaviour and errors are the wrapped store's.
 */
import type { Lsn } from "@millrace/lsn";
import type { ControlStore, PersistentState, WalReader, WalStore } from "@millrace/wal-acceptor";
import type { Ledger } from "./ledger.js";

/** A control store whose replacements the ledger sees. */
export class ObservedControlStore implements ControlStore {
  readonly #inner: ControlStore;
  readonly #ledger: Ledger;
  readonly #nodeId: bigint;

  constructor(inner: ControlStore, ledger: Ledger, nodeId: bigint) {
    this.#inner = inner;
    this.#ledger = ledger;
    this.#nodeId = nodeId;
  }

  get(): PersistentState {
    return this.#inner.get();
  }

  async persist(next: PersistentState): Promise<void> {
    this.#ledger.onPersist(this.#nodeId, this.#inner.get(), next);
    await this.#inner.persist(next);
  }
}

/** A WAL store whose writes and cuts the ledger sees. */
export class ObservedWalStore implements WalStore {
  readonly #inner: WalStore;
  readonly #ledger: Ledger;
  readonly #nodeId: bigint;
  /** What this acceptor knows to be committed. */
  readonly #commitLsn: () => Lsn;
  /** Whether the process still lives; a dead one's last call says nothing. */
  readonly #isAlive: () => boolean;

  constructor(inner: WalStore, ledger: Ledger, nodeId: bigint, commitLsn: () => Lsn, isAlive: () => boolean) {
    this.#inner = inner;
    this.#ledger = ledger;
    this.#nodeId = nodeId;
    this.#commitLsn = commitLsn;
    this.#isAlive = isAlive;
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
      if (this.#isAlive()) this.#ledger.logs.onWritten(this.#nodeId, undefined);
      throw error;
    }
    if (this.#isAlive()) this.#ledger.logs.onWritten(this.#nodeId, this.#inner.writeLsn);
  }

  flush(): Promise<void> {
    return this.#inner.flush();
  }

  async truncate(endLsn: Lsn): Promise<void> {
    this.#ledger.logs.onTruncate(this.#nodeId, endLsn, this.#commitLsn());
    await this.#inner.truncate(endLsn);
    if (this.#isAlive()) this.#ledger.logs.onTruncated(this.#nodeId, endLsn);
  }

  removeUpTo(segno: bigint): Promise<number> {
    return this.#inner.removeUpTo(segno);
  }

  openReader(lsn: Lsn): WalReader {
    return this.#inner.openReader(lsn);
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
