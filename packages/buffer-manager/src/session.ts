/**
 * What one backend may set for itself: how its reads are combined, how many run at a time, what it makes of damaged pages.
 *
 * Names and ranges are PostgreSQL's. Tablespaces may have a concurrency of their own, as with ALTER TABLESPACE.
 */
import type { PoolSettings } from "./settings.js";
import { COMBINE_MAX, CONCURRENCY_MAX } from "./settings.js";

/** I/Os at a time for reads of a tablespace. */
export interface TablespaceConcurrency {
  readonly effective?: number;
  readonly maintenance?: number;
}

function check(value: number, min: number, max: number, what: string): number {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new RangeError(`${what}: from ${min} to ${max}, not ${value}`);
  return value;
}

/** The settings of one backend. They begin as the pool's. */
export class Session {
  /** Whether pages that cannot be made sense of are read as zeros, with a warning. */
  zeroDamagedPages: boolean;
  /** Whether a page whose only fault is its checksum is accepted, with a warning. */
  ignoreChecksumFailure: boolean;
  readonly #combineMax: number;
  readonly #tablespaces = new Map<number, TablespaceConcurrency>();
  #combineLimit: number;
  #effective: number;
  #maintenance: number;

  constructor(settings: PoolSettings) {
    this.zeroDamagedPages = settings.zeroDamagedPages;
    this.ignoreChecksumFailure = settings.ignoreChecksumFailure;
    this.#combineMax = settings.combineLimit;
    this.#combineLimit = settings.combineLimit;
    this.#effective = settings.effectiveIoConcurrency;
    this.#maintenance = settings.maintenanceIoConcurrency;
  }

  /** Most blocks of one I/O. More than the pool was made with is cut down to that. */
  get combineLimit(): number {
    return this.#combineLimit;
  }

  set combineLimit(blocks: number) {
    this.#combineLimit = Math.min(check(blocks, 1, COMBINE_MAX, "combineLimit"), this.#combineMax);
  }

  /** I/Os at a time, 0 to 1000; 0 for none ahead of their use. */
  get effectiveConcurrency(): number {
    return this.#effective;
  }

  set effectiveConcurrency(count: number) {
    this.#effective = check(count, 0, CONCURRENCY_MAX, "effectiveConcurrency");
  }

  /** The same for maintenance work, such as a vacuum. */
  get maintenanceConcurrency(): number {
    return this.#maintenance;
  }

  set maintenanceConcurrency(count: number) {
    this.#maintenance = check(count, 0, CONCURRENCY_MAX, "maintenanceConcurrency");
  }

  /** Gives a tablespace its own concurrency; what is left out is the session's. @throws {RangeError} out of range */
  setTablespace(tablespace: number, concurrency: TablespaceConcurrency): void {
    for (const count of [concurrency.effective, concurrency.maintenance])
      if (count !== undefined) check(count, 0, CONCURRENCY_MAX, "concurrency");
    this.#tablespaces.set(tablespace, concurrency);
  }

  /** I/Os at a time on a tablespace. */
  concurrencyOf(tablespace: number, isMaintenance: boolean): number {
    const own = this.#tablespaces.get(tablespace);
    return isMaintenance ? (own?.maintenance ?? this.#maintenance) : (own?.effective ?? this.#effective);
  }
}
