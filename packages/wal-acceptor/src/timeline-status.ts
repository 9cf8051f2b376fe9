/**
 * What an acceptor says about a timeline: typed values inside, Neon's JSON shape outside.
 *
 * Inside everything keeps its type: bigint for u64, branded LSNs. The JSON mapper is the only place where LSNs become
 * "X/X" strings and members get snake_case names; terms and system ids stay bigints there, and `stringifyJson` writes
 * them as bare numbers. Names and nesting are those of TimelineStatus in Neon's safekeeper_api, so that its tools
 * can read them; members it does not know come after its own.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { Configuration, Member, TermHistory } from "@millrace/wal-protocol";

import type { ReceiverState } from "./compute-registry.js";
import type { SlotState } from "./consumer-slots.js";
import type { ServerInfo } from "./persistent-state.js";
import type { PgTimeline } from "./pg-timelines.js";
import type { SenderState } from "./walsender-registry.js";

/** One timeline at one moment. */
export interface TimelineStatus {
  readonly tenantId: string;
  readonly timelineId: string;
  readonly configuration: Configuration;
  readonly acceptorState: {
    readonly term: bigint;
    /** Term of the last record; Neon calls it `epoch`. */
    readonly lastLogTerm: bigint;
    /** As the last elected proposer sent it, uncut: may reach beyond the local WAL. */
    readonly termHistory: TermHistory;
  };
  readonly server: ServerInfo;
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly timelineStartLsn: Lsn;
  readonly localStartLsn: Lsn;
  /** In memory; what a restart would fall back to is `persistedCommitLsn`. */
  readonly commitLsn: Lsn;
  readonly persistedCommitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly walReceivers: readonly ReceiverState[];
  readonly walSenders: readonly SenderState[];
  readonly slots: readonly SlotState[];
  /** PostgreSQL's timelines, oldest first. */
  readonly pgTimelines: readonly PgTimeline[];
  /** Whether a proposer is connected or committed WAL is still to be taken away from here. */
  readonly active: boolean;
  /** Why the timeline refuses every message; `undefined` while it does not. */
  readonly brokenReason: string | undefined;
}

/** The status as the management API writes it; give it to `stringifyJson`, as it contains bigints. */
export function timelineStatusJson(status: TimelineStatus): Record<string, unknown> {
  const { acceptorState, server } = status;
  return {
    tenant_id: status.tenantId,
    timeline_id: status.timelineId,
    mconf: configurationJson(status.configuration),
    acceptor_state: {
      term: acceptorState.term,
      epoch: acceptorState.lastLogTerm,
      term_history: acceptorState.termHistory.map(({ term, lsn }) => ({ term, lsn: formatLsn(lsn) })),
    },
    pg_info: {
      pg_version: server.pgVersion,
      system_id: server.systemId,
      wal_seg_size: server.segmentBytes,
    },
    flush_lsn: formatLsn(status.flushLsn),
    timeline_start_lsn: formatLsn(status.timelineStartLsn),
    local_start_lsn: formatLsn(status.localStartLsn),
    commit_lsn: formatLsn(status.commitLsn),
    backup_lsn: formatLsn(status.backupLsn),
    peer_horizon_lsn: formatLsn(status.peerHorizonLsn),
    remote_consistent_lsn: formatLsn(status.remoteConsistentLsn),
    // Nobody gossips with this node: the list is truly empty.
    peers: [],
    walsenders: status.walSenders.map(senderJson),
    walreceivers: status.walReceivers.map(({ connectionId, phase }) => ({
      conn_id: connectionId ?? null,
      status: phase === "voting" ? "Voting" : "Streaming",
    })),
    write_lsn: formatLsn(status.writeLsn),
    persisted_commit_lsn: formatLsn(status.persistedCommitLsn),
    active: status.active,
    broken_reason: status.brokenReason ?? null,
    consumer_slots: status.slots.map(slotJson),
    pg_timelines: status.pgTimelines.map(pgTimelineJson),
  };
}

function senderJson(sender: SenderState): Record<string, unknown> {
  return {
    conn_id: sender.connectionId,
    appname: sender.applicationName,
    kind: sender.peer,
    status: sender.phase,
    term: sender.term ?? null,
    slot: sender.slot ?? null,
    sent_lsn: formatLsn(sender.sentLsn),
    write_lsn: formatLsn(sender.writeLsn),
    flush_lsn: formatLsn(sender.flushLsn),
    apply_lsn: formatLsn(sender.applyLsn),
    remote_consistent_lsn: formatLsn(sender.remoteConsistentLsn),
  };
}

/** A consumer slot as the management API writes it. */
export function slotJson(slot: SlotState): Record<string, unknown> {
  return {
    name: slot.name,
    temporary: slot.temporary,
    restart_lsn: formatLsn(slot.restartLsn),
    active_conn_id: slot.activeConnectionId ?? null,
    last_active: new Date(slot.lastActiveMs).toISOString(),
  };
}

/** One of PostgreSQL's timelines as the management API writes it. */
export function pgTimelineJson(timeline: PgTimeline): Record<string, unknown> {
  return {
    timeline_id: timeline.timelineId,
    begin_lsn: formatLsn(timeline.beginLsn),
    parent_tli: timeline.parentId ?? null,
    history: timeline.history,
  };
}

/** A membership configuration as the management API writes it: `new_members` is null unless it is a joint one. */
export function configurationJson(configuration: Configuration): Record<string, unknown> {
  const { generation, members, newMembers } = configuration;
  return {
    generation,
    members: members.map(memberJson),
    new_members: newMembers.length === 0 ? null : newMembers.map(memberJson),
  };
}

function memberJson(member: Member): Record<string, unknown> {
  return { id: member.nodeId, host: member.host, pg_port: member.port };
}
