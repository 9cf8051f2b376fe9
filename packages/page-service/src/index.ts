/**
 * The public face of @millrace/page-service: Neon's pagestream protocol, versions 2 and 3, both sides as pure sessions.
 */
export { PagestreamSession } from "./session.js";
export type { PagestreamSessionOptions } from "./session.js";
export type { PageSource } from "./page-source.js";
export { effectiveLsn, LATEST_LSN, positionToAwait } from "./positions.js";
export type { TimelinePositions } from "./positions.js";
export { PagestreamClient } from "./client.js";
export type { AnswerTo, PagestreamPositions } from "./client.js";
export { parseCommand } from "./command.js";
export type { PageServiceCommand, TimelineName } from "./command.js";
export {
  encodePagestreamRequest,
  encodePagestreamResponse,
  PAGE_BYTES,
  parsePagestreamRequest,
  parsePagestreamResponse,
  REQUEST_BYTES_MAX,
  SLRU_SEGMENT_BLOCKS,
} from "./messages.js";
export type {
  PagestreamAnswer,
  PagestreamHeader,
  PagestreamQuestion,
  PagestreamRequest,
  PagestreamResponse,
  PagestreamVersion,
  RelTag,
  SlruKind,
} from "./messages.js";
export { PagestreamError, StreamEnd } from "./errors.js";
export type { PagestreamErrorCode } from "./errors.js";
