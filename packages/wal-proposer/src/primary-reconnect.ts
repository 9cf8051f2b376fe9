/**
 * Carries one term over a restart of PostgreSQL: connects again, takes the slot again, and goes on where the stream
 * had stopped if what PostgreSQL has now is what it had sent before.
 *
 * Why that is safe: a walsender only sends WAL that PostgreSQL has made durable, so an honest server still has all
 * of it after a crash, byte for byte; a record of which only a part was sent is replaced from the first page that
 * was not. So the stream begins again at the start of the segment that holds the last record boundary, as far as the
 * ring reaches back, and everything up to the end of the ring is compared with it before anything new is taken. A
 * server that has less, or other bytes, has lost its log: the term ends, and the next election compares more.
 *
 * The order is that of a first start: identity, slot, stream. Who comes second finds the slot taken. On the new
 * connection everything starts anew: nothing is reported that has not arrived on it. Attempts are spaced
 * by a growing delay and end after `postgresReconnectMs`.
 */
import {
  addBytes,
  distanceBytes,
  formatLsn,
  maxLsn,
  minLsn,
  segmentNumber,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { prepareGround } from "./bridge-ground.js";
import type { BridgeGround } from "./bridge-ground.js";
import type { BridgeSettings } from "./bridge-options.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";
import type { PostgresSource, SourceHandlers } from "./postgres-source.js";
import { openSourceAt } from "./primary-source.js";
import type { StreamDecoder } from "./stream-decoder.js";
import { delay, withJitter } from "./timers.js";
import type { WalRing } from "./wal-ring.js";

/** Wait before the second attempt; the first is made at once. */
const RETRY_MIN_MS = 100;
/** Longest wait: PostgreSQL may be in recovery for minutes, and commits wait for us once it is not. */
const RETRY_MAX_MS = 2000;

/** See the members. */
export interface ReconnectOptions {
  readonly settings: BridgeSettings;
  /** What the term was begun with. */
  readonly ground: BridgeGround;
  readonly termStartLsn: Lsn;
  /** Ends where the stream had stopped; not written to here. */
  readonly ring: WalRing;
  /** Has seen all that the ring has. */
  readonly decoder: Pick<StreamDecoder, "boundaryLsn">;
  /** `wal` gets only what lies behind the end of the ring. */
  readonly handlers: SourceHandlers;
  readonly signal: AbortSignal;
}

/** Both connections, opened anew. The caller closes them. */
export interface Reconnected {
  readonly ground: BridgeGround;
  readonly source: PostgresSource;
}

/**
 * Tries until PostgreSQL is there again.
 *
 * @param lost how the connection ended, for the error if no attempt succeeds
 * @throws {ProposerError} ERR_BRIDGE_WAL_CHANGED; ERR_BRIDGE_POSTGRES or ERR_BRIDGE_SLOT_ACTIVE after
 *   `postgresReconnectMs` or when aborted; at
 *   once what waiting does not help: ERR_BRIDGE_SYSTEM_ID, ERR_BRIDGE_TIMELINE_ID, ERR_BRIDGE_VERSION,
 *   ERR_BRIDGE_SETTING, ERR_BRIDGE_SLOT, ERR_BRIDGE_WAL_LOST, ERR_BRIDGE_WAL_REMOVED
 */
export function reconnectPrimary(options: ReconnectOptions, lost: unknown): Promise<Reconnected> {
  return retry(options, lost, () => attempt(options));
}

/**
 * Takes the slot again, on a new connection, while the stream goes on: PostgreSQL has invalidated it or its connection
 * broke. Not by way of the stream's end: without a slot PostgreSQL may remove what a new stream would begin with.
 *
 * @throws {ProposerError} as `reconnectPrimary`, but for what concerns the stream
 */
export function renewSlot(
  options: Pick<ReconnectOptions, "settings" | "ground" | "signal">,
  lost: unknown,
): Promise<BridgeGround> {
  return retry(options, lost, () => sameGround(options));
}

async function retry<T>(
  { settings, signal }: Pick<ReconnectOptions, "settings" | "signal">,
  lost: unknown,
  once: () => Promise<T>,
): Promise<T> {
  const { clock, random, postgresReconnectMs } = settings;
  const deadlineMs = clock.monotonicMs() + postgresReconnectMs;
  let failure = lost;
  for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(2 * waitMs, RETRY_MAX_MS)) {
    if (signal.aborted || clock.monotonicMs() >= deadlineMs) throw failure;
    try {
      return await once();
    } catch (error) {
      if (!isPassing(error) && !isSlotActive(error)) throw error;
      failure = error;
      const detail = error instanceof Error ? error.message : String(error);
      publishNotice({ type: "warning", warning: "postgres_unreachable", detail });
    }
    await delay(clock, withJitter(waitMs, random), signal);
  }
}

/** Whether the stream of a term that ended like this may be taken up again. */
export function isPassing(error: unknown): boolean {
  return error instanceof ProposerError && error.code === "ERR_BRIDGE_POSTGRES";
}

/** The walsender of a connection that broke silently keeps the slot until PostgreSQL notices. */
function isSlotActive(error: unknown): boolean {
  return error instanceof ProposerError && error.code === "ERR_BRIDGE_SLOT_ACTIVE";
}

/** Identity and slot, of the server that the term was begun with. */
async function sameGround(
  options: Pick<ReconnectOptions, "settings" | "ground" | "signal">,
): Promise<BridgeGround> {
  const { identity } = options.ground;
  const settings = { ...options.settings, expectSystemId: identity.systemId };
  const ground = await prepareGround(settings, options.signal, identity.timelineId);
  if (ground.identity.segmentBytes === identity.segmentBytes && ground.identity.major === identity.major) {
    return ground;
  }
  ground.slot.destroy();
  throw new ProposerError("ERR_BRIDGE_VERSION", "PostgreSQL came back with another WAL format");
}

async function attempt(options: ReconnectOptions): Promise<Reconnected> {
  const { ring } = options;
  const ground = await sameGround(options);
  try {
    if (ground.identity.flushLsn < ring.endLsn) throw changedError(ground.identity.flushLsn, ring.endLsn);
    return { ground, source: await resumeSource(options, ground) };
  } catch (error) {
    ground.slot.destroy();
    throw error;
  }
}

/** Starts low enough to compare a good stretch; where PostgreSQL has that no longer, at the last record boundary. */
async function resumeSource(options: ReconnectOptions, ground: BridgeGround): Promise<PostgresSource> {
  const { ring, decoder } = options;
  const boundaryLsn = maxLsn(ring.startLsn, minLsn(decoder.boundaryLsn, ring.endLsn));
  const startLsn = comparisonStart(ring, boundaryLsn, ground.identity.segmentBytes);
  try {
    return await resumeAt(options, ground, startLsn);
  } catch (error) {
    const isRemoved = error instanceof ProposerError && error.code === "ERR_BRIDGE_WAL_REMOVED";
    if (!isRemoved || startLsn === boundaryLsn) throw error;
    return await resumeAt(options, ground, boundaryLsn);
  }
}

function comparisonStart(ring: WalRing, boundaryLsn: Lsn, segmentBytes: number): Lsn {
  if (boundaryLsn <= ring.startLsn) return ring.startLsn;
  const segment = segmentNumber(addBytes(boundaryLsn, -1), segmentBytes);
  return maxLsn(ring.startLsn, segmentStart(segment, segmentBytes));
}

function resumeAt(options: ReconnectOptions, ground: BridgeGround, startLsn: Lsn): Promise<PostgresSource> {
  const { settings, termStartLsn, ring, signal, handlers } = options;
  const overlap = new Overlap(ring, startLsn);
  const primary = {
    settings,
    systemId: ground.identity.systemId,
    history: ground.history,
    reportIntervalMs: ground.reportIntervalMs,
    termStartLsn,
    signal,
  };
  return openSourceAt(primary, () => startLsn, {
    ...handlers,
    wal: (bytes) => {
      const rest = overlap.take(bytes);
      if (rest.byteLength > 0) handlers.wal(rest);
    },
  });
}

/** Compares what comes again with what came before. Reads the ring only as long as it has not been appended to. */
export class Overlap {
  readonly #ring: WalRing;
  readonly #endLsn: Lsn;
  #nextLsn: Lsn;

  /** @param startLsn where the bytes begin, inside the ring; its present end is where they become new */
  constructor(ring: WalRing, startLsn: Lsn) {
    this.#ring = ring;
    this.#nextLsn = startLsn;
    this.#endLsn = ring.endLsn;
  }

  /**
   * Takes the bytes that follow.
   *
   * @returns those of them that are new, a view
   * @throws {ProposerError} ERR_BRIDGE_WAL_CHANGED
   */
  take(bytes: Uint8Array): Uint8Array {
    if (this.#nextLsn >= this.#endLsn) return bytes;
    const known = Math.min(bytes.byteLength, Number(distanceBytes(this.#nextLsn, this.#endLsn)));
    const untilLsn = addBytes(this.#nextLsn, known);
    let at = 0;
    for (const view of this.#ring.views(this.#nextLsn, untilLsn)) {
      if (Buffer.compare(view, bytes.subarray(at, at + view.byteLength)) !== 0) {
        throw changedError(this.#nextLsn, untilLsn);
      }
      at += view.byteLength;
    }
    this.#nextLsn = untilLsn;
    return bytes.subarray(known);
  }
}

function changedError(fromLsn: Lsn, untilLsn: Lsn): ProposerError {
  return new ProposerError(
    "ERR_BRIDGE_WAL_CHANGED",
    `PostgreSQL came back without the WAL that it had sent between ${formatLsn(fromLsn)} and ${formatLsn(untilLsn)}; ` +
      "a new election will compare its log with the acceptors'",
  );
}
