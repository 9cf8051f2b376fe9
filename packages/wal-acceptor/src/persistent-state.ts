/**
 * The state of one timeline that survives a restart, as plain immutable data.
 *
 * Only what a promise depends on is here: the term that was voted for, who wrote which part of the log, which
 * configuration counts, and positions below which nothing may change. Newer values of some positions live in
 * memory and are folded in whenever the state is persisted for another reason. Objects are never changed in place:
 * a change is a new object given to `ControlStore.persist`. Idea: TimelinePersistentState of Neon's safekeeper.
 */
import { checkSegmentBytes, formatLsn, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { checkConfiguration, EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import type { Configuration, TermHistory } from "@millrace/wal-protocol";
import { canStartWal } from "./first-segment.js";

/** What is known about the PostgreSQL cluster whose WAL this is. */
export interface ServerInfo {
  /** As server_version_num, such as 150015; 0 while unknown. */
  readonly pgVersion: number;
  /** The cluster's system identifier (u64); 0 while unknown. */
  readonly systemId: bigint;
  /** Size of a WAL segment; fixed for the timeline's life. */
  readonly segmentBytes: number;
}

/** Everything durable about one timeline except its WAL. */
export interface PersistentState {
  /** 32 lower-case hex digits. */
  readonly tenantId: string;
  /** 32 lower-case hex digits. */
  readonly timelineId: string;
  readonly configuration: Configuration;
  /** The highest term voted for or learned; no proposer is ever elected in term 0. */
  readonly term: bigint;
  /** As the last elected proposer sent it: may reach beyond the local WAL. */
  readonly termHistory: TermHistory;
  readonly server: ServerInfo;
  /** Where the timeline's WAL begins anywhere; 0 until the first election is learned. */
  readonly timelineStartLsn: Lsn;
  /** Where this node's WAL begins. */
  readonly localStartLsn: Lsn;
  readonly commitLsn: Lsn;
  /** Below this, WAL is in long-term storage. */
  readonly backupLsn: Lsn;
  /** Below this, no proposer or peer asks for WAL again; `truncateLsn` on the wire. */
  readonly peerHorizonLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  /** Wall clock at creation, milliseconds since 1970; informative. */
  readonly createdAtMs: number;
}

/** What `initialState` starts from. */
export interface InitialStateOptions {
  readonly tenantId: string;
  readonly timelineId: string;
  readonly server: ServerInfo;
  /** Generation 0 when absent. */
  readonly configuration?: Configuration;
  readonly createdAtMs: number;
  /**
   * Where the WAL begins, for an explicitly created timeline: there is a common point with any proposer from the
   * start. Absent for one created by a proposer's greeting, which learns everything from its first election.
   */
  readonly startLsn?: Lsn;
  /**
   * Committed up to here, if WAL from `startLsn` on is put in place before the timeline opens; `startLsn` when
   * absent.
   */
  readonly commitLsn?: Lsn;
}

const ID = /^[0-9a-f]{32}$/;

/**
 * The state of a timeline that has no WAL yet.
 *
 * @throws {RangeError} ids that are not 32 lower-case hex digits, an impossible segment size, a `startLsn`
 *   where no record can begin, `commitLsn` below it or without it
 * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION
 */
export function initialState(options: InitialStateOptions): PersistentState {
  const { tenantId, timelineId, server, startLsn } = options;
  if (!ID.test(tenantId)) throw new RangeError("tenant id must be 32 lower-case hexadecimal digits");
  if (!ID.test(timelineId)) throw new RangeError("timeline id must be 32 lower-case hexadecimal digits");
  checkSegmentBytes(server.segmentBytes);
  const configuration = options.configuration ?? EMPTY_CONFIGURATION;
  checkConfiguration(configuration);
  if (startLsn !== undefined && (startLsn === INVALID_LSN || !canStartWal(startLsn, server.segmentBytes))) {
    throw new RangeError(`a timeline cannot start at ${formatLsn(startLsn)}`);
  }
  const start = startLsn ?? INVALID_LSN;
  const commitLsn = options.commitLsn ?? start;
  if (commitLsn < start || (commitLsn !== INVALID_LSN && startLsn === undefined)) {
    throw new RangeError(`commit position ${formatLsn(commitLsn)} without WAL below it`);
  }
  return {
    tenantId,
    timelineId,
    configuration,
    term: 0n,
    termHistory: startLsn === undefined ? [] : [{ term: 0n, lsn: startLsn }],
    server,
    timelineStartLsn: start,
    localStartLsn: start,
    commitLsn,
    backupLsn: start,
    peerHorizonLsn: start,
    remoteConsistentLsn: INVALID_LSN,
    createdAtMs: options.createdAtMs,
  };
}

/** Whether two states say the same, member by member. */
export function sameState(a: PersistentState, b: PersistentState): boolean {
  return (
    a === b ||
    (a.tenantId === b.tenantId &&
      a.timelineId === b.timelineId &&
      a.term === b.term &&
      a.timelineStartLsn === b.timelineStartLsn &&
      a.localStartLsn === b.localStartLsn &&
      a.commitLsn === b.commitLsn &&
      a.backupLsn === b.backupLsn &&
      a.peerHorizonLsn === b.peerHorizonLsn &&
      a.remoteConsistentLsn === b.remoteConsistentLsn &&
      a.createdAtMs === b.createdAtMs &&
      a.server.pgVersion === b.server.pgVersion &&
      a.server.systemId === b.server.systemId &&
      a.server.segmentBytes === b.server.segmentBytes &&
      sameHistory(a.termHistory, b.termHistory) &&
      sameConfiguration(a.configuration, b.configuration))
  );
}

function sameHistory(a: TermHistory, b: TermHistory): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  return a.every((entry, index) => entry.term === b[index]?.term && entry.lsn === b[index].lsn);
}

function sameConfiguration(a: Configuration, b: Configuration): boolean {
  return (
    a === b ||
    (a.generation === b.generation &&
      sameMembers(a.members, b.members) &&
      sameMembers(a.newMembers, b.newMembers))
  );
}

function sameMembers(a: Configuration["members"], b: Configuration["members"]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  return a.every((member, index) => {
    const other = b[index];
    return member.nodeId === other?.nodeId && member.host === other.host && member.port === other.port;
  });
}
