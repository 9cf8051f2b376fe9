/**
 * The public face of @millrace/lsn: positions in PostgreSQL's write-ahead log, the names of the files that hold
 * them, and timeline history files. Pure functions; nothing here touches a disk.
 */
export {
  addBytes,
  alignLsn,
  BLOCK_BYTES,
  blockOffset,
  blockStart,
  distanceBytes,
  formatLsn,
  INVALID_LSN,
  MAX_LSN,
  maxLsn,
  minLsn,
  parseLsn,
  toLsn,
  tryParseLsn,
} from "./lsn.js";
export type { Lsn } from "./lsn.js";
export {
  checkSegmentBytes,
  isSegmentBytes,
  parseSegmentFileName,
  PARTIAL_SUFFIX,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
  TIMELINE_ID_MAX,
} from "./segments.js";
export type { SegmentFile } from "./segments.js";
export {
  formatTimelineHistory,
  parseTimelineHistory,
  parseTimelineHistoryFileName,
  TIMELINE_HISTORY_BYTES_MAX,
  TIMELINE_HISTORY_LINE_BYTES_MAX,
  timelineHistoryFileName,
} from "./timeline-history.js";
export type { TimelineHistoryEntry } from "./timeline-history.js";
export { LsnError, TimelineHistoryError } from "./errors.js";
export type { LsnErrorCode } from "./errors.js";
