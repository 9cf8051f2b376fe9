/**
 * Real PostgreSQL servers for tests, and for the server's all-in-one mode, which bundles this package.
 */
export { PostgresCluster, freePort } from "./cluster.js";
export type { ClusterOptions, CreateClusterOptions, StopMode } from "./cluster.js";
export { writeEveryRecord } from "./every-record.js";
export type { EveryRecordOptions } from "./every-record.js";
export { PostgresProcessError } from "./errors.js";
export type { PostgresProcessErrorCode } from "./errors.js";
export { findPostgres, postgresOrSkip, SUPPORTED_MAJORS } from "./installation.js";
export type { PostgresChoice, PostgresInstallation, PostgresOrSkip } from "./installation.js";
export { temporaryDirectory } from "./temporary-directory.js";
export type { TemporaryDirectory } from "./temporary-directory.js";
export { runPostgresTool } from "./tool.js";
export type { ToolOptions, ToolResult } from "./tool.js";
export { firstUnreachable, spawnIdentity } from "./unprivileged-user.js";
export type { SpawnIdentity } from "./unprivileged-user.js";
