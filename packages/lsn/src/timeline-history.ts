/**
 * Timeline history files: the ancestry of a timeline, oldest first, one line for each switch.
 *
 * A line is `parent TLI <TAB> X/X <TAB> reason`: the parent was left at that position. Lines that are empty or
 * start with `#` say nothing. Ids strictly increase and stay below the id of the timeline whose file it is;
 * without that a reader could be led in a circle. What cannot be read is refused with the line's number.
 *
 * Format and rules are those of readTimeLineHistory and writeTimeLineHistory in PostgreSQL's timeline.c. Positions
 * are not required to increase, as they are not there. Stricter than there: a separator must be present, and
 * sizes are bounded, as a history file may have come over the network.
 */
import { TimelineHistoryError } from "./errors.js";
import { formatLsn, tryParseLsn } from "./lsn.js";
import type { Lsn } from "./lsn.js";
import { checkTimelineId, hex8, TIMELINE_ID_MAX } from "./segments.js";

/** One switch: `timelineId` was left at `switchLsn`, for `reason`. */
export interface TimelineHistoryEntry {
  /** The parent: the timeline that ends here, not the one that begins. */
  readonly timelineId: number;
  /** First position that is not on the parent any more. */
  readonly switchLsn: Lsn;
  /** For humans; never contains a line break. May be empty. */
  readonly reason: string;
}

/** Longest line with its newline, UTF-8 bytes: PostgreSQL reads lines into a buffer of 1024 with a NUL at the end. */
export const TIMELINE_HISTORY_LINE_BYTES_MAX = 1023;

/** Longest file, bytes. A promotion adds some 50 bytes, so that this is more than 10 000 promotions. */
export const TIMELINE_HISTORY_BYTES_MAX: number = 2 ** 20;

const HISTORY_NAME = /^([0-9A-F]{8})\.history$/;

/** Ids have at most ten digits; after the position comes one separator and then the reason as it stands. */
const HISTORY_LINE = /^\s*(\d{1,10})[ \t]+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:[ \t](.*))?$/su;

/**
 * The name of a timeline's history file: `00000002.history`. Timeline 1 has a name too, but PostgreSQL never
 * writes that file.
 *
 * @throws {RangeError} `timelineId` is not an integer from 1 to 2^32 - 1
 */
export function timelineHistoryFileName(timelineId: number): string {
  checkTimelineId(timelineId);
  return `${hex8(timelineId)}.history`;
}

/** Reads a history file's name: the timeline id, or undefined if it is not such a name. */
export function parseTimelineHistoryFileName(name: string): number | undefined {
  const match = HISTORY_NAME.exec(name);
  if (match === null) return undefined;
  const timelineId = Number.parseInt(match[1] ?? "", 16);
  return timelineId === 0 ? undefined : timelineId;
}

/**
 * Reads the history file of `timelineId`.
 *
 * @param text the file's contents, decoded from UTF-8
 * @param timelineId the timeline whose file it is; every ancestor's id must be smaller
 * @returns ancestors oldest first; empty for a file that says nothing
 * @throws {TimelineHistoryError} ERR_LSN_HISTORY_SYNTAX, ERR_LSN_HISTORY_ORDER, ERR_LSN_HISTORY_LIMIT, each with `line`
 * @throws {RangeError} `timelineId` is not an integer from 1 to 2^32 - 1
 */
export function parseTimelineHistory(text: string, timelineId: number): readonly TimelineHistoryEntry[] {
  checkTimelineId(timelineId);
  if (Buffer.byteLength(text) > TIMELINE_HISTORY_BYTES_MAX) {
    throw new TimelineHistoryError("ERR_LSN_HISTORY_LIMIT", 1, "the file is longer than 1 MiB");
  }
  const entries: TimelineHistoryEntry[] = [];
  let lineNumber = 0;
  let previousId = 0;
  for (const line of text.split("\n")) {
    lineNumber += 1;
    const entry = parseLine(line, lineNumber);
    if (entry === undefined) continue;
    if (entry.timelineId <= previousId) {
      throw new TimelineHistoryError(
        "ERR_LSN_HISTORY_ORDER",
        lineNumber,
        `timeline ${String(entry.timelineId)} does not follow timeline ${String(previousId)}: ids must increase`,
      );
    }
    if (entry.timelineId >= timelineId) {
      throw new TimelineHistoryError(
        "ERR_LSN_HISTORY_ORDER",
        lineNumber,
        `timeline ${String(entry.timelineId)} cannot be an ancestor of timeline ${String(timelineId)}`,
      );
    }
    previousId = entry.timelineId;
    entries.push(entry);
  }
  return entries;
}

/**
 * Writes a history file, byte for byte as PostgreSQL would after the same promotions: it puts an empty line
 * between entries, in case the file it extends lacked a final newline.
 *
 * @param entries ancestors oldest first; none gives the empty string
 * @throws {RangeError} an id or a position is out of range, ids do not increase, a reason has a line break or NUL, or
 *   a line or the file would be longer than PostgreSQL can read
 */
export function formatTimelineHistory(entries: readonly TimelineHistoryEntry[]): string {
  let previousId = 0;
  const lines: string[] = [];
  for (const { timelineId, switchLsn, reason } of entries) {
    checkTimelineId(timelineId);
    if (timelineId <= previousId) throw new RangeError(`timeline ids must increase: ${String(timelineId)}`);
    if (/[\n\r\0]/u.test(reason)) throw new RangeError("a reason must be one line of text");
    const line = `${String(timelineId)}\t${formatLsn(switchLsn)}\t${reason}\n`;
    if (Buffer.byteLength(line) > TIMELINE_HISTORY_LINE_BYTES_MAX)
      throw new RangeError("the reason is too long");
    previousId = timelineId;
    lines.push(line);
  }
  const text = lines.join("\n");
  if (Buffer.byteLength(text) > TIMELINE_HISTORY_BYTES_MAX)
    throw new RangeError("the history is longer than 1 MiB");
  return text;
}

function parseLine(line: string, lineNumber: number): TimelineHistoryEntry | undefined {
  // One byte of the bound is the newline that split() took away.
  if (Buffer.byteLength(line) >= TIMELINE_HISTORY_LINE_BYTES_MAX) {
    throw new TimelineHistoryError("ERR_LSN_HISTORY_LIMIT", lineNumber, "longer than 1023 bytes");
  }
  const content = line.endsWith("\r") ? line.slice(0, -1) : line;
  const start = content.trimStart();
  if (start === "" || start.startsWith("#")) return undefined;
  const match = HISTORY_LINE.exec(content);
  const timelineId = Number(match?.[1]);
  const switchLsn = tryParseLsn(match?.[2] ?? "");
  if (switchLsn === undefined || timelineId < 1 || timelineId > TIMELINE_ID_MAX) {
    throw new TimelineHistoryError(
      "ERR_LSN_HISTORY_SYNTAX",
      lineNumber,
      "expected a timeline id, a tab and the LSN where that timeline was left",
    );
  }
  return { timelineId, switchLsn, reason: match?.[3] ?? "" };
}
