/**
 * Timelines that were deleted here and must not come back by themselves.
 *
 * A proposer that still runs would otherwise create the timeline again with its next greeting and find an empty log
 * that votes. A tombstone of a deletion is permanent; one of an exclusion from the membership carries the generation
 * of the configuration that left this node out, and a later configuration that includes it again may create the
 * timeline. Neon keeps them in memory for a day; here the set is saved before the deletion it announces begins, and
 * a deletion cut short by a crash is finished at the next start.
 *
 * The set is a value: `with` and `without` give a new one, so that a failed save leaves the old one in force.
 */
import { isId } from "./connection-target.js";
import { AcceptorError } from "./errors.js";
import { parseJson, stringifyJson } from "./bigint-json.js";
import type { JsonValue } from "./bigint-json.js";
import type { TimelineKey } from "./timeline-storage.js";

/** Tombstones kept; beyond that the oldest goes, a megabyte of file being enough. */
export const TOMBSTONES_MAX = 8192;

/** One deleted timeline. */
export interface Tombstone extends TimelineKey {
  /** Generation up to which it counts; `undefined`: for ever. */
  readonly generation: number | undefined;
  /** Milliseconds since 1970; informative. */
  readonly deletedAtMs: number;
}

/** An immutable set of tombstones, at most one per timeline, oldest first. */
export class Tombstones {
  readonly #byKey: ReadonlyMap<string, Tombstone>;

  constructor(tombstones: Iterable<Tombstone> = []) {
    const byKey = new Map<string, Tombstone>();
    for (const tombstone of tombstones) byKey.set(keyText(tombstone), tombstone);
    for (const key of byKey.keys()) {
      if (byKey.size <= TOMBSTONES_MAX) break;
      byKey.delete(key);
    }
    this.#byKey = byKey;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Whether the timeline must not exist under a configuration of this generation. */
  blocks(key: TimelineKey, generation: number): boolean {
    const tombstone = this.#byKey.get(keyText(key));
    if (tombstone === undefined) return false;
    return tombstone.generation === undefined || generation <= tombstone.generation;
  }

  /** The set with one more; an existing one of the timeline is replaced unless it is permanent. */
  with(tombstone: Tombstone): Tombstones {
    const present = this.#byKey.get(keyText(tombstone));
    if (present !== undefined && present.generation === undefined) return this;
    return new Tombstones([...this.without(tombstone).#byKey.values(), tombstone]);
  }

  /** The set without that of the timeline. */
  without(key: TimelineKey): Tombstones {
    const text = keyText(key);
    return new Tombstones([...this.#byKey.values()].filter((tombstone) => keyText(tombstone) !== text));
  }

  /** As bytes of a JSON document. */
  serialize(): Uint8Array {
    const tombstones = [...this.#byKey.values()].map(({ tenantId, timelineId, generation, deletedAtMs }) => ({
      tenant_id: tenantId,
      timeline_id: timelineId,
      generation: generation ?? null,
      deleted_at_ms: deletedAtMs,
    }));
    return Buffer.from(`${stringifyJson({ version: FORMAT_VERSION, tombstones })}\n`, "utf8");
  }

  /**
   * Reads what `serialize` wrote.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_TOMBSTONES_CORRUPT: starting without them could bring deleted timelines
   *   back, so the node does not start
   */
  static parse(bytes: Uint8Array): Tombstones {
    try {
      const document = parseJson(
        Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"),
      );
      const { version, tombstones } = asObject(document);
      if (version !== FORMAT_VERSION || !Array.isArray(tombstones)) throw corrupt("not a list of version 1");
      return new Tombstones((tombstones as readonly JsonValue[]).map(parseTombstone));
    } catch (error) {
      throw corrupt(error instanceof Error ? error.message : String(error), error);
    }
  }
}

const FORMAT_VERSION = 1;

function parseTombstone(value: JsonValue): Tombstone {
  const {
    tenant_id: tenantId,
    timeline_id: timelineId,
    generation,
    deleted_at_ms: deletedAtMs,
  } = asObject(value);
  if (typeof tenantId !== "string" || !isId(tenantId)) throw corrupt("bad tenant id");
  if (typeof timelineId !== "string" || !isId(timelineId)) throw corrupt("bad timeline id");
  if (typeof deletedAtMs !== "number") throw corrupt("bad time of deletion");
  if (generation !== null && typeof generation !== "number") throw corrupt("bad generation");
  return { tenantId, timelineId, generation: generation ?? undefined, deletedAtMs };
}

function asObject(value: JsonValue | undefined): { readonly [key: string]: JsonValue } {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw corrupt("an object is missing");
  return value as { readonly [key: string]: JsonValue };
}

function keyText(key: TimelineKey): string {
  return `${key.tenantId}/${key.timelineId}`;
}

function corrupt(what: string, cause?: unknown): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TOMBSTONES_CORRUPT", `list of deleted timelines: ${what}`, {
    cause,
  });
}
