/**
 * PostgreSQL's timelines in the WAL of one acceptor timeline: which begins where, and their history files.
 *
 * An acceptor stores one line of WAL. PostgreSQL changes the timeline id inside it at each promotion, and standbys
 * ask for WAL by that id. Registrations say where each begins; they form one chain in which every timeline ends where
 * its successor begins. As long as nothing was registered, everything is timeline 1.
 *
 * The set is a value: `with` gives a new one, so that a failed save leaves the old one in force. A registration that
 * contradicts an earlier one is refused: standbys may already have been served by the earlier.
 */
import {
  formatLsn,
  INVALID_LSN,
  LsnError,
  parseTimelineHistory,
  TIMELINE_HISTORY_BYTES_MAX,
  tryParseLsn,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { parseJson, stringifyJson } from "./bigint-json.js";
import type { JsonValue } from "./bigint-json.js";
import { AcceptorError } from "./errors.js";

/** Timelines of one log at most: a promotion each, and a bound on the file. */
export const PG_TIMELINES_MAX = 1024;

/** One of PostgreSQL's timelines. */
export interface PgTimeline {
  readonly timelineId: number;
  /** Where it begins, which is where its parent ends. 0 for the first one. */
  readonly beginLsn: Lsn;
  /** `undefined` for the first one of this log. */
  readonly parentId: number | undefined;
  /** Contents of the history file; "" where there is none. */
  readonly history: string;
}

const IMPLICIT: PgTimeline = { timelineId: 1, beginLsn: INVALID_LSN, parentId: undefined, history: "" };
const U32_MAX = 2 ** 32 - 1;
const FORMAT_VERSION = 1;

/** The registered timelines of one log, oldest first. Immutable. */
export class PgTimelines {
  /** Never empty. */
  readonly #chain: readonly PgTimeline[];
  readonly #implicit: boolean;

  constructor(registered: readonly PgTimeline[] = []) {
    this.#implicit = registered.length === 0;
    this.#chain = this.#implicit ? [IMPLICIT] : registered;
  }

  /** All of them, oldest first; timeline 1 alone if nothing was registered. */
  list(): readonly PgTimeline[] {
    return this.#chain;
  }

  get(timelineId: number): PgTimeline | undefined {
    return this.#chain.find((timeline) => timeline.timelineId === timelineId);
  }

  /** The timeline that WAL at `lsn` belongs to: the newest that begins at or before it. */
  at(lsn: Lsn): PgTimeline {
    return this.#chain.findLast(({ beginLsn }) => beginLsn <= lsn) ?? (this.#chain[0] as PgTimeline);
  }

  /** Where the timeline was left, and for which; `undefined` for the newest one. */
  successorOf(timelineId: number): PgTimeline | undefined {
    return this.#chain.find(({ parentId }) => parentId === timelineId);
  }

  /**
   * The set with one more; the same set if it is registered exactly so already.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_PG_TIMELINE_REFUSED (impossible in itself),
   *   ERR_ACCEPTOR_PG_TIMELINE_CONFLICT (contradicts what is registered)
   */
  with(added: PgTimeline): PgTimelines {
    checkAlone(added);
    const present = this.#implicit && added.parentId === undefined ? undefined : this.get(added.timelineId);
    if (present !== undefined) {
      if (sameTimeline(present, added)) return this;
      throw conflict(`timeline ${added.timelineId} is registered with other properties`);
    }
    if (added.parentId === undefined) {
      if (!this.#implicit) throw conflict(`the first timeline is ${this.#first.timelineId}`);
      return new PgTimelines([added]);
    }
    const newest = this.#chain.at(-1) ?? IMPLICIT;
    if (added.parentId !== newest.timelineId) {
      throw conflict(`the newest timeline is ${newest.timelineId}, the parent would be ${added.parentId}`);
    }
    if (added.beginLsn < newest.beginLsn) {
      throw conflict(`timeline ${newest.timelineId} begins at ${formatLsn(newest.beginLsn)}`);
    }
    if (this.#chain.length >= PG_TIMELINES_MAX) throw refused("too many timelines");
    checkHistory(added, this.#chain);
    return new PgTimelines([...this.#chain, added]);
  }

  /** As bytes of a JSON document. */
  serialize(): Uint8Array {
    const timelines = this.#implicit
      ? []
      : this.#chain.map(({ timelineId, beginLsn, parentId, history }) => ({
          timeline_id: timelineId,
          begin_lsn: formatLsn(beginLsn),
          parent_tli: parentId ?? null,
          history,
        }));
    return Buffer.from(`${stringifyJson({ version: FORMAT_VERSION, timelines })}\n`, "utf8");
  }

  /**
   * Reads what `serialize` wrote.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_RECORDS_CORRUPT
   */
  static parse(bytes: Uint8Array): PgTimelines {
    try {
      const document = parseJson(Buffer.from(bytes).toString("utf8"));
      const { version, timelines } = asObject(document);
      if (version !== FORMAT_VERSION || !Array.isArray(timelines)) throw refused("not a list of version 1");
      // Each is checked as when it was registered.
      let parsed = new PgTimelines();
      for (const timeline of timelines as readonly JsonValue[]) parsed = parsed.with(parseOne(timeline));
      return parsed;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new AcceptorError("ERR_ACCEPTOR_RECORDS_CORRUPT", `list of PostgreSQL's timelines: ${reason}`, {
        cause: error,
      });
    }
  }

  get #first(): PgTimeline {
    return this.#chain[0] ?? IMPLICIT;
  }
}

function checkAlone({ timelineId, beginLsn, parentId, history }: PgTimeline): void {
  if (!Number.isInteger(timelineId) || timelineId < 1 || timelineId > U32_MAX)
    throw refused(`timeline id ${timelineId}`);
  if (parentId !== undefined && (!Number.isInteger(parentId) || parentId < 1 || parentId >= timelineId))
    throw refused(`parent ${parentId} of timeline ${timelineId}`);
  if (parentId !== undefined && beginLsn === INVALID_LSN) throw refused(`timeline ${timelineId} at 0/0`);
  if (Buffer.byteLength(history) > TIMELINE_HISTORY_BYTES_MAX) throw refused("a history file above 1 MiB");
}

// A standby believes the history file: it must tell the same as the registrations, as far as these go back.
function checkHistory(added: PgTimeline, chain: readonly PgTimeline[]): void {
  let entries;
  try {
    entries = parseTimelineHistory(added.history, added.timelineId);
  } catch (error) {
    if (!(error instanceof LsnError)) throw error;
    throw refused(`history file of timeline ${added.timelineId}: ${error.message}`, error);
  }
  const expected = [...chain, added].flatMap(({ parentId, beginLsn }) =>
    parentId === undefined ? [] : [{ parentId, beginLsn }],
  );
  const found = entries.slice(-expected.length);
  const agrees =
    found.length === expected.length &&
    expected.every(({ parentId, beginLsn }, index) => {
      const entry = found[index];
      return entry?.timelineId === parentId && entry.switchLsn === beginLsn;
    });
  if (!agrees)
    throw conflict(`the history file of timeline ${added.timelineId} tells of other switch points`);
}

function parseOne(value: JsonValue): PgTimeline {
  const { timeline_id: timelineId, begin_lsn: begin, parent_tli: parent, history } = asObject(value);
  const beginLsn = typeof begin === "string" ? tryParseLsn(begin) : undefined;
  if (typeof timelineId !== "number" || beginLsn === undefined || typeof history !== "string")
    throw refused("a member is missing");
  if (parent !== null && typeof parent !== "number") throw refused("bad parent");
  return { timelineId, beginLsn, parentId: parent ?? undefined, history };
}

function asObject(value: JsonValue | undefined): { readonly [key: string]: JsonValue } {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refused("an object is missing");
  return value as { readonly [key: string]: JsonValue };
}

function sameTimeline(a: PgTimeline, b: PgTimeline): boolean {
  return a.beginLsn === b.beginLsn && a.parentId === b.parentId && a.history === b.history;
}

function refused(what: string, cause?: unknown): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_PG_TIMELINE_REFUSED", `cannot register: ${what}`, { cause });
}

function conflict(what: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_PG_TIMELINE_CONFLICT", `contradicts what is registered: ${what}`);
}
