/**
 * The public face of @millrace/pg-wire: both sides of PostgreSQL's protocol 3.0, as pure sessions and as connections
 * on sockets.
 */
export { acceptConnection, LOGIN_TIMEOUT_MS, ServerConnection } from "./server-connection.js";
export type { AcceptOptions } from "./server-connection.js";
export { COPY_DATA_BYTES_MAX, PASSWORD_BYTES_MAX, QUERY_BYTES_MAX, ServerSession } from "./server-session.js";
export type { ServerEvent, ServerSessionOptions, StartupRequest } from "./server-session.js";
export { jwtAuthenticator } from "./jwt.js";
export type { JwtOptions } from "./jwt.js";
export type { Timers } from "./timers.js";
export type { Authenticator, Identity } from "./authenticator.js";
export type { Column, ColumnType } from "./columns.js";
export { ClientConnection, connect, RESULT_BYTES_MAX, RESULT_ROWS_MAX } from "./client-connection.js";
export type { CopyBothStream, QueryResult } from "./client-connection.js";
export { CONNECT_TIMEOUT_MS, DEFAULT_PORT } from "./client-options.js";
export type { ClientOptions, SslMode } from "./client-options.js";
export { ClientSession } from "./client-session.js";
export type { ClientEvent, ClientSessionOptions } from "./client-session.js";
export { parseConnectionUrl } from "./connection-url.js";
export { FrameReader, STARTUP_PACKET_BYTES_MAX, STARTUP_PACKET_BYTES_MIN } from "./framing.js";
export type { FrameLimit } from "./framing.js";
export { parseOptions } from "./options.js";
export { quoteIdentifier, quoteLiteral } from "./quoting.js";
export { CLOSE_WAIT_MS, READ_HIGH_WATER_BYTES, SEND_HIGH_WATER_BYTES } from "./socket-transport.js";
export type { CopyDataEvent, CopyEvent, CopyReader, CopyWriter } from "./copy-stream.js";
export {
  fromPgTimestamp,
  parseReplicationMessage,
  parseStandbyMessage,
  PG_EPOCH_MS,
  serializeHotStandbyFeedback,
  serializeKeepalive,
  serializePageserverFeedbackHeader,
  serializeStandbyStatus,
  serializeXLogDataHeader,
  toPgTimestamp,
  XLOG_DATA_HEADER_BYTES,
} from "./replication-messages.js";
export type {
  HotStandbyFeedbackMessage,
  Keepalive,
  PageserverMessage,
  StandbyStatus,
  UnknownReplicationMessage,
  XLogData,
} from "./replication-messages.js";
export { ServerError, WireError } from "./errors.js";
export type { ErrorFields, WireErrorCode } from "./errors.js";
export { SQLSTATE } from "./sqlstate.js";
