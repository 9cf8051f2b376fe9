/**
 * The disk under a simulated node's WAL: pages, and what a power cut does to them.
 *
 * It outlives the store on it, as a disk outlives a process. Pages that were written since the last sync lie above
 * those that are durable; a crash keeps any subset of them, some torn at a sector. Cutting and removing are durable at
 * once, because the store they stand for syncs them before it goes on.
 */
import { BLOCK_BYTES, blockOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** Bytes that a disk writes in one piece. */
const SECTOR_BYTES = 512;
/** One page in so many that survive a crash at all does so only up to a sector. */
const TORN_ONE_IN = 4;

/** The disk under one timeline's WAL. Pages are numbered by LSN / 8192. */
export class MemoryWalDisk {
  readonly #durable = new Map<number, Uint8Array>();
  readonly #cached = new Map<number, Uint8Array>();
  #life = 0;

  /** Grows with every crash: a store of an earlier life must not touch the disk any more. */
  get life(): number {
    return this.#life;
  }

  /** Copies `bytes` to `lsn`, into the page cache. */
  write(lsn: Lsn, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength;) {
      const position = (lsn + BigInt(at)) as Lsn;
      const inPage = blockOffset(position);
      const count = Math.min(bytes.byteLength - at, BLOCK_BYTES - inPage);
      this.#writable(pageNumber(position)).set(bytes.subarray(at, at + count), inPage);
      at += count;
    }
  }

  /** The page as a running process sees it, borrowed; undefined where nothing was ever written. */
  page(lsn: Lsn): Uint8Array | undefined {
    const number = pageNumber(lsn);
    return this.#cached.get(number) ?? this.#durable.get(number);
  }

  /** Everything written is durable. */
  sync(): void {
    for (const [number, page] of this.#cached) this.#durable.set(number, page);
    this.#cached.clear();
  }

  /** Everything from `lsn` on is gone, durably. */
  cut(lsn: Lsn): void {
    const first = pageNumber(lsn);
    for (const pages of [this.#cached, this.#durable]) {
      for (const [number, page] of pages) {
        if (number > first || (number === first && blockOffset(lsn) === 0)) pages.delete(number);
        else if (number === first) page.fill(0, blockOffset(lsn));
      }
    }
  }

  /** Everything below `lsn`, a segment's start, is gone, durably. */
  removeBelow(lsn: Lsn): void {
    const first = pageNumber(lsn);
    for (const pages of [this.#cached, this.#durable]) {
      for (const number of pages.keys()) if (number < first) pages.delete(number);
    }
  }

  /** Position of the first page there is, or undefined. */
  get firstPageLsn(): Lsn | undefined {
    let first = Infinity;
    for (const pages of [this.#cached, this.#durable]) {
      for (const number of pages.keys()) first = Math.min(first, number);
    }
    return first === Infinity ? undefined : ((BigInt(first) * BigInt(BLOCK_BYTES)) as Lsn);
  }

  /**
   * A power cut: every page that was not synced is kept, lost, or torn.
   *
   * @param random gives numbers in [0, 1)
   */
  crash(random: () => number): void {
    this.#life += 1;
    for (const [number, page] of this.#cached) {
      if (random() < 0.5) continue;
      const sectors = BLOCK_BYTES / SECTOR_BYTES;
      const torn = random() < 1 / TORN_ONE_IN;
      const keep = torn ? Math.floor(random() * sectors) * SECTOR_BYTES : BLOCK_BYTES;
      const survivor = this.#durable.get(number)?.slice() ?? new Uint8Array(BLOCK_BYTES);
      survivor.set(page.subarray(0, keep));
      this.#durable.set(number, survivor);
    }
    this.#cached.clear();
  }

  #writable(number: number): Uint8Array {
    const cached = this.#cached.get(number);
    if (cached !== undefined) return cached;
    const page = this.#durable.get(number)?.slice() ?? new Uint8Array(BLOCK_BYTES);
    this.#cached.set(number, page);
    return page;
  }
}

function pageNumber(lsn: Lsn): number {
  return Number(lsn / BigInt(BLOCK_BYTES));
}
