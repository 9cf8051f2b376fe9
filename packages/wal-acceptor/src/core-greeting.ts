/**
 * Greeting and voting: who may talk to this timeline, and whom it follows.
 *
 * A greeting is checked completely before anything is written. A vote makes the log durable first, because the
 * answer describes the log, and makes the term durable before it is given, because a term is voted for once.
 */
import { formatLsn } from "@millrace/lsn";
import { isMember } from "@millrace/wal-protocol";
import type {
  AcceptorGreeting,
  Configuration,
  ProposerGreeting,
  VoteRequest,
  VoteResponse,
} from "@millrace/wal-protocol";
import type { CoreState } from "./core-state.js";
import { AcceptorError, isAcceptorError } from "./errors.js";
import type { PersistentState, ServerInfo } from "./persistent-state.js";

/** What to do when a proposer of another database cluster greets. */
export type SystemIdMismatchPolicy = "reject" | "adopt";

/** PostgreSQL's version number counts its major version in ten thousands. */
const VERSIONS_A_MAJOR = 10_000;

/** Refuses a message of another configuration generation. */
export function checkGeneration(state: CoreState, generation: number, what: string): void {
  const ours = state.configuration.generation;
  if (generation === ours) return;
  throw new AcceptorError(
    "ERR_ACCEPTOR_GENERATION_MISMATCH",
    `${what}: generation mismatch: the proposer has ${String(generation)}, this acceptor has ${String(ours)}`,
  );
}

/** Checks a greeting, learns what it teaches, and answers with this node's term and configuration. */
export async function handleGreeting(
  state: CoreState,
  message: ProposerGreeting,
  onSystemIdMismatch: SystemIdMismatchPolicy,
): Promise<AcceptorGreeting> {
  checkIdentity(state, message);
  const server = learnServer(state.server, message, onSystemIdMismatch);
  const configuration = learnConfiguration(state, message.configuration);
  const change: Partial<PersistentState> = {
    ...(server === undefined ? {} : { server }),
    ...(configuration === undefined ? {} : { configuration }),
  };
  if (server !== undefined || configuration !== undefined) await state.persist(change);
  return { type: "greeting", nodeId: state.nodeId, configuration: state.configuration, term: state.term };
}

function checkIdentity(state: CoreState, message: ProposerGreeting): void {
  const { server } = state;
  const mismatch = (what: string, theirs: string, ours: string): AcceptorError =>
    new AcceptorError("ERR_ACCEPTOR_GREETING_MISMATCH", `invalid ${what}: got ${theirs}, expected ${ours}`);
  if (message.tenantId !== state.tenantId) throw mismatch("tenant ID", message.tenantId, state.tenantId);
  if (message.timelineId !== state.timelineId) {
    throw mismatch("timeline ID", message.timelineId, state.timelineId);
  }
  const theirMajor = Math.floor(message.pgVersion / VERSIONS_A_MAJOR);
  const ourMajor = Math.floor(server.pgVersion / VERSIONS_A_MAJOR);
  if (ourMajor !== 0 && theirMajor !== ourMajor) {
    throw mismatch("PostgreSQL version", String(message.pgVersion), String(server.pgVersion));
  }
  if (message.segmentBytes !== server.segmentBytes) {
    throw mismatch("segment size", String(message.segmentBytes), String(server.segmentBytes));
  }
}

// What the greeting adds to our knowledge of the cluster, or undefined when nothing. A proposer that only
// synchronises acceptors has no database behind it and sends system id 0, which says nothing.
function learnServer(
  ours: ServerInfo,
  message: ProposerGreeting,
  onSystemIdMismatch: SystemIdMismatchPolicy,
): ServerInfo | undefined {
  const differs = message.systemId !== 0n && message.systemId !== ours.systemId;
  if (differs && ours.systemId !== 0n && onSystemIdMismatch === "reject") {
    throw new AcceptorError(
      "ERR_ACCEPTOR_SYSTEM_ID_MISMATCH",
      `invalid system ID: got ${String(message.systemId)}, expected ${String(ours.systemId)}`,
    );
  }
  const learnsVersion = message.pgVersion !== 0 && (ours.pgVersion === 0 || differs);
  if (!differs && !learnsVersion) return undefined;
  return {
    segmentBytes: ours.segmentBytes,
    systemId: differs ? message.systemId : ours.systemId,
    pgVersion: learnsVersion ? message.pgVersion : ours.pgVersion,
  };
}

// A newer configuration that lists this node is adopted; one that does not means that nobody counts on this node.
function learnConfiguration(state: CoreState, theirs: Configuration): Configuration | undefined {
  const ours = state.configuration;
  if (theirs.generation <= ours.generation) return undefined;
  if (!isMember(theirs, state.nodeId)) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_NOT_A_MEMBER",
      `node ${String(state.nodeId)} is not a member of the configuration of generation ${String(theirs.generation)}`,
    );
  }
  return theirs;
}

/** Votes at most once a term, for the first who asks, and describes the durable log either way. */
export async function handleVoteRequest(state: CoreState, message: VoteRequest): Promise<VoteResponse> {
  checkGeneration(state, message.generation, "vote request");
  // Whatever was written before this vote is part of what the vote promises. On a full disk that is nothing but what is
  // durable already: the log has fallen back to it, and whoever wrote the rest learns so by its next message.
  await state.wal.flush().catch((error: unknown) => {
    if (!isAcceptorError(error, "ERR_ACCEPTOR_NO_SPACE")) throw error;
  });
  const voteGiven = state.term < message.term;
  if (voteGiven) await state.persist({ term: message.term });
  return {
    type: "vote-response",
    generation: state.configuration.generation,
    term: state.term,
    voteGiven,
    flushLsn: state.flushLsn,
    truncateLsn: state.peerHorizonLsn,
    history: state.effectiveHistory,
  };
}

/** A log's end in words, for errors. */
export function describeLog(state: CoreState): string {
  return `flush ${formatLsn(state.flushLsn)}, commit ${formatLsn(state.commitLsn)}, last log term ${String(state.lastLogTerm)}`;
}
