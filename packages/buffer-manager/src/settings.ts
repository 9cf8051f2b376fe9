/**
 * The settings of a pool: fixed when it is made, the same in every thread.
 *
 * Names and defaults are PostgreSQL's. Concurrency and the combine limit can be overridden by a session in its own thread.
 */
import { BACKENDS_MAX, BUFFERS_MAX, BUFFERS_MIN } from "./layout.js";

/** PostgreSQL's processes that have pins and are no client's: 6 of its own, 32 I/O workers. */
export const AUXILIARY_BACKENDS = 38;
export const PAGE_BYTES = 8192;
/** Blocks of a relation's segment file: 1 GiB. */
export const SEGMENT_BLOCKS = 131_072;
export const BUFFERS_DEFAULT = 16_384;
export const BACKENDS_DEFAULT = 8;
export const COMBINE_DEFAULT = 16;
export const COMBINE_MAX = 128;
export const CONCURRENCY_DEFAULT = 16;
export const CONCURRENCY_MAX = 1000;
/** PostgreSQL's temp_buffers, in pages. */
export const LOCAL_BUFFERS_DEFAULT = 1024;
export const LOCAL_BUFFERS_MIN = 100;

/** What a ring's size is said as, in KiB: -1 for the computed size, 0 for no ring. */
export interface RingSizes {
  readonly bulkread: number;
  readonly bulkwrite: number;
  readonly vacuum: number;
}

/** Settings of a pool. */
export interface PoolSettings {
  /** Buffers to begin with. */
  readonly buffers: number;
  /** Buffers that it may be resized to. */
  readonly buffersMax: number;
  /** Backends of the pool at a time. */
  readonly backends: number;
  /** Backends that share the pins: what the advisory limit is computed from. */
  readonly pinBackends: number;
  /** Whether pages have checksums: set when written, compared when read. */
  readonly checksums: boolean;
  readonly rings: RingSizes;
  /** Most blocks of one I/O. */
  readonly combineLimit: number;
  readonly effectiveIoConcurrency: number;
  readonly maintenanceIoConcurrency: number;
  /** Whether data files are opened with O_DIRECT. */
  readonly direct: boolean;
  /** Whether combined reads look for frames that lie side by side. */
  readonly contiguous: boolean;
  readonly segmentBlocks: number;
  /** Pages of temporary relations that each backend can have in its own memory at most. */
  readonly localBuffers: number;
  /** Read pages that cannot be made sense of as zeros, with a warning. */
  readonly zeroDamagedPages: boolean;
  /** Accept pages whose only fault is their checksum, with a warning. */
  readonly ignoreChecksumFailure: boolean;
}

function checkRange(value: number, min: number, max: number, what: string): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${what}: from ${min} to ${max}, not ${value}`);
  }
  return value;
}

/** A ring's size in KiB: at most 16 GiB, as PostgreSQL allows. */
const RING_KIB_MAX = 16 * 1024 * 1024;

/**
 * Settings with everything filled in.
 *
 * @throws {RangeError} one is out of its range
 */
export function completeSettings(wish: Partial<PoolSettings>): PoolSettings {
  const buffers = checkRange(wish.buffers ?? BUFFERS_DEFAULT, BUFFERS_MIN, BUFFERS_MAX, "buffers");
  const buffersMax = checkRange(wish.buffersMax ?? buffers, buffers, BUFFERS_MAX, "buffersMax");
  const backends = checkRange(wish.backends ?? BACKENDS_DEFAULT, 1, BACKENDS_MAX, "backends");
  const rings = { bulkread: -1, bulkwrite: -1, vacuum: -1, ...wish.rings };
  for (const [kind, kib] of Object.entries(rings)) checkRange(kib, -1, RING_KIB_MAX, `ring ${kind} in KiB`);
  const direct = wish.direct ?? false;
  return {
    buffers,
    buffersMax,
    backends,
    pinBackends: checkRange(wish.pinBackends ?? backends, 1, 2 ** 18, "pinBackends"),
    checksums: wish.checksums ?? true,
    rings,
    combineLimit: checkRange(wish.combineLimit ?? COMBINE_DEFAULT, 1, COMBINE_MAX, "combineLimit"),
    effectiveIoConcurrency: checkRange(
      wish.effectiveIoConcurrency ?? CONCURRENCY_DEFAULT,
      0,
      CONCURRENCY_MAX,
      "effectiveIoConcurrency",
    ),
    maintenanceIoConcurrency: checkRange(
      wish.maintenanceIoConcurrency ?? CONCURRENCY_DEFAULT,
      0,
      CONCURRENCY_MAX,
      "maintenanceIoConcurrency",
    ),
    direct,
    contiguous: wish.contiguous ?? direct,
    segmentBlocks: checkRange(wish.segmentBlocks ?? SEGMENT_BLOCKS, 1, SEGMENT_BLOCKS, "segmentBlocks"),
    localBuffers: checkRange(
      wish.localBuffers ?? LOCAL_BUFFERS_DEFAULT,
      LOCAL_BUFFERS_MIN,
      BUFFERS_MAX,
      "localBuffers",
    ),
    zeroDamagedPages: wish.zeroDamagedPages ?? false,
    ignoreChecksumFailure: wish.ignoreChecksumFailure ?? false,
  };
}
