/**
 * PostgreSQL's own history: the timelines that its log has run through, from the first to the one it is on now.
 *
 * A promotion begins a new timeline in the middle of the log. Positions go on, but WAL below the switch is served under
 * the old id only, and standbys ask by id. So whoever reads needs to know which timeline a position belongs to, and the
 * acceptors need to know where each begins.
 *
 * One history file tells of all ancestors, as PostgreSQL copies the parent's file into the child's. The files of the
 * ancestors are derived from it rather than fetched, because a server that was made of a base backup may lack them.
 * All are written the way PostgreSQL writes them, so that two bridges at any two times register the same bytes.
 */
import { formatTimelineHistory, INVALID_LSN, parseTimelineHistory } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { ProposerError } from "./errors.js";
import { firstRow, sqlstateOf } from "./postgres-connection.js";

/** One of PostgreSQL's timelines, as acceptors keep it. */
export interface PgTimeline {
  readonly timelineId: number;
  /** Where it begins, which is where its parent ends; 0/0 for the first one. */
  readonly beginLsn: Lsn;
  /** Undefined for the first one. */
  readonly parentId: number | undefined;
  /** Contents of its history file; "" for the first one. */
  readonly history: string;
}

const UNDEFINED_FILE = "58P01";

/** The chain of timelines of one server, at one moment. */
export class PostgresHistory {
  /** Oldest first, never empty; each one's parent is the one before it. */
  readonly timelines: readonly PgTimeline[];
  readonly ids: ReadonlySet<number>;

  private constructor(timelines: readonly PgTimeline[]) {
    this.timelines = timelines;
    this.ids = new Set(timelines.map(({ timelineId }) => timelineId));
  }

  /**
   * The history of a server on `timelineId`.
   *
   * @param text its history file; "" for a server that was never promoted
   * @throws {ProposerError} ERR_BRIDGE_TIMELINE_ID if it is not a history file of that timeline
   */
  static parse(timelineId: number, text: string): PostgresHistory {
    try {
      const entries = parseTimelineHistory(text, timelineId);
      const ids = [...entries.map((entry) => entry.timelineId), timelineId];
      return new PostgresHistory(
        ids.map((id, index) => {
          const parent = entries[index - 1];
          return {
            timelineId: id,
            beginLsn: parent?.switchLsn ?? INVALID_LSN,
            parentId: parent?.timelineId,
            history: formatTimelineHistory(entries.slice(0, index)),
          };
        }),
      );
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      const message = `PostgreSQL's history of timeline ${timelineId} cannot be used: ${detail}`;
      throw new ProposerError("ERR_BRIDGE_TIMELINE_ID", message, { cause: error });
    }
  }

  /** The timeline that the server writes. */
  get current(): PgTimeline {
    return this.timelines.at(-1) as PgTimeline;
  }

  get(timelineId: number): PgTimeline | undefined {
    return this.timelines.find((timeline) => timeline.timelineId === timelineId);
  }

  /** The timeline that the byte at `lsn` belongs to. */
  at(lsn: Lsn): PgTimeline {
    return this.timelines.findLast(({ beginLsn }) => beginLsn <= lsn) ?? (this.timelines[0] as PgTimeline);
  }

  /** Where a timeline was left; undefined for the present one. */
  endOf(timelineId: number): Lsn | undefined {
    return this.timelines.find(({ parentId }) => parentId === timelineId)?.beginLsn;
  }
}

/**
 * Asks a server for its history. Timeline 1 has none, and is not asked about.
 *
 * @throws {ProposerError} ERR_BRIDGE_TIMELINE_ID if the file is missing or damaged, ERR_BRIDGE_POSTGRES
 */
export async function fetchHistory(
  connection: ClientConnection,
  timelineId: number,
): Promise<PostgresHistory> {
  if (timelineId === 1) return PostgresHistory.parse(1, "");
  try {
    const row = await firstRow(connection, `TIMELINE_HISTORY ${timelineId}`);
    return PostgresHistory.parse(timelineId, row?.[1] ?? "");
  } catch (error) {
    if (sqlstateOf(error) !== UNDEFINED_FILE) throw error;
    const message = `PostgreSQL is on timeline ${timelineId} and has no history file of it`;
    throw new ProposerError("ERR_BRIDGE_TIMELINE_ID", message, { cause: error });
  }
}
