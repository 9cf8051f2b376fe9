/**
 * What a new timeline starts from: the request, its checks, and the first state that follows from it. Pure.
 *
 * Nothing impossible may reach the disk: a timeline of a PostgreSQL version whose page format is unknown could store
 * WAL and never acknowledge it, and an id that is not an id would be a path.
 */
import { INVALID_LSN, isSegmentBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { pageMagic } from "@millrace/wal-decoder";
import { checkConfiguration, EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import type { Configuration } from "@millrace/wal-protocol";

import { isId } from "./connection-target.js";
import { AcceptorError } from "./errors.js";
import { initialState } from "./persistent-state.js";
import type { PersistentState } from "./persistent-state.js";
import type { TimelineKey } from "./timeline-storage.js";

/** What a new timeline starts from. */
export interface CreateTimelineRequest extends TimelineKey {
  /** Generation 0, without members, when absent. */
  readonly configuration?: Configuration;
  /** As server_version_num, such as 150015. */
  readonly pgVersion: number;
  /** 0 while unknown: adopted from the first greeting that has one. */
  readonly systemId: bigint;
  readonly segmentBytes: number;
  /**
   * Where the WAL begins. Absent, as in a proposer's greeting: learned from the first election. Given, every
   * proposer has a common point with this node from the start.
   */
  readonly startLsn?: Lsn;
  /** Above `startLsn` only when WAL is put in place by other means. */
  readonly commitLsn?: Lsn;
}

/**
 * The names alone, checked.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_REFUSED
 */
export function checkedKey(request: TimelineKey): TimelineKey {
  const { tenantId, timelineId } = request;
  if (!isId(tenantId)) throw refused("a tenant id that is not 32 lower-case hexadecimal digits");
  if (!isId(timelineId)) throw refused("a timeline id that is not 32 lower-case hexadecimal digits");
  return { tenantId, timelineId };
}

/**
 * The first state of a timeline whose names were checked.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_TIMELINE_REFUSED, ERR_ACCEPTOR_PG_VERSION
 * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION
 */
export function firstState(request: CreateTimelineRequest, createdAtMs: number): PersistentState {
  const { tenantId, timelineId, pgVersion, systemId, segmentBytes, startLsn, commitLsn } = request;
  checkPgVersion(pgVersion);
  if (!isSegmentBytes(segmentBytes)) throw refused(`WAL segment size ${segmentBytes}`);
  if (startLsn === INVALID_LSN) throw refused("start LSN 0/0");
  if (commitLsn !== undefined && (startLsn === undefined || commitLsn < startLsn)) {
    throw refused("a commit LSN below the start LSN");
  }
  const configuration = request.configuration ?? EMPTY_CONFIGURATION;
  checkConfiguration(configuration);
  return initialState({
    tenantId,
    timelineId,
    server: { pgVersion, systemId, segmentBytes },
    configuration,
    createdAtMs,
    ...(startLsn === undefined ? {} : { startLsn }),
    ...(commitLsn === undefined ? {} : { commitLsn }),
  });
}

function checkPgVersion(pgVersion: number): void {
  try {
    pageMagic(Math.floor(pgVersion / 10_000));
  } catch (cause) {
    throw new AcceptorError("ERR_ACCEPTOR_PG_VERSION", `cannot create a timeline for version ${pgVersion}`, {
      cause,
    });
  }
}

function refused(what: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_TIMELINE_REFUSED", `cannot create a timeline with ${what}`);
}
