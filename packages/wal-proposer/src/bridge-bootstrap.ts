/**
 * Bringing a timeline into being on all acceptors, once, however often the bridge dies on the way.
 *
 * Acceptors must hold every segment from its first byte, since standbys always ask from a segment's start. So
 * the log begins at X, the start of a segment whose first record is whole, right after a segment switch.
 *
 * What makes it safe to repeat: no vote is ever asked for before every listed acceptor has the timeline. As long as
 * one lacks it, term 0 everywhere proves that nothing was written or promised, and that those which have it agree
 * on X; the rest is created with the same X. Once a term above 0 is seen, an acceptor without the timeline has
 * lost it, and making it an empty one would let it vote as if it had never promised anything: it is left out and
 * reported. Deciding is a pure function; every step may be run again.
 */
import { addBytes, formatLsn, segmentOffset, segmentStart, segmentNumber, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { WalDecoder } from "@millrace/wal-decoder";
import type { Configuration, Member } from "@millrace/wal-protocol";
import { isPristine } from "./acceptor-probe.js";
import type { AcceptorProbe } from "./acceptor-probe.js";
import type { CatchUpStream } from "./catch-up.js";
import { ProposerError } from "./errors.js";
import { firstRow } from "./postgres-connection.js";
import type { PostgresIdentity } from "./postgres-connection.js";

/** What to do next, given what the acceptors said. */
export type BootstrapStep =
  /** The timeline exists wherever it will: hold the election. `missing` have lost it. */
  | { readonly type: "elect"; readonly missing: readonly number[] }
  /** Not all acceptors could be asked; ask again. */
  | { readonly type: "wait"; readonly detail: string }
  /** Create the timeline on `missing`, at `startLsn`, or at a new position if that is undefined. */
  | { readonly type: "create"; readonly startLsn: Lsn | undefined; readonly missing: readonly number[] };

/**
 * Decides on the next step; `probes` has one entry for each listed acceptor.
 *
 * @throws {ProposerError} ERR_BRIDGE_BOOTSTRAP_CONFLICT, ERR_BRIDGE_ACCEPTOR (all that can be reached refuse us)
 */
export function nextBootstrapStep(probes: readonly AcceptorProbe[]): BootstrapStep {
  const missing = indexesOf(probes, "absent");
  const unreachable = indexesOf(probes, "unreachable");
  const refused = indexesOf(probes, "refused");
  const present = probes.filter((probe) => probe.type === "present");
  if (present.some((probe) => probe.term > 0n)) return { type: "elect", missing };
  if (refused.length > 0 && present.length + missing.length === 0) {
    const first = probes.find((probe) => probe.type === "refused");
    throw new ProposerError(
      "ERR_BRIDGE_ACCEPTOR",
      `acceptors refuse this cluster: ${describe(first?.error)}`,
      {
        cause: first?.error,
      },
    );
  }
  const silent = [...unreachable, ...refused];
  if (silent.length > 0) {
    const what = silent.map((index) => String(index)).join(", ");
    return { type: "wait", detail: `the first election needs every acceptor; no answer from number ${what}` };
  }
  const startLsn = commonStart(present);
  return missing.length === 0 ? { type: "elect", missing } : { type: "create", startLsn, missing };
}

function commonStart(present: readonly (AcceptorProbe & { readonly type: "present" })[]): Lsn | undefined {
  const first = present[0];
  if (first === undefined) return undefined;
  for (const probe of present) {
    if (!isPristine(probe) || probe.flushLsn !== first.flushLsn) {
      const starts = present.map(
        ({ flushLsn, commitLsn }) => `${formatLsn(commitLsn)}-${formatLsn(flushLsn)}`,
      );
      throw new ProposerError(
        "ERR_BRIDGE_BOOTSTRAP_CONFLICT",
        `acceptors that nobody was ever elected on have different logs: ${starts.join(", ")}`,
      );
    }
  }
  return first.flushLsn;
}

function indexesOf(probes: readonly AcceptorProbe[], type: AcceptorProbe["type"]): readonly number[] {
  return probes.flatMap((probe, index) => (probe.type === type ? [index] : []));
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The first configuration of a timeline: generation 1, all listed acceptors.
 *
 * @throws {ProposerError} ERR_BRIDGE_NODE_ID
 */
export function firstConfiguration(
  acceptors: readonly { readonly host: string; readonly port: number; readonly nodeId?: bigint }[],
): Configuration {
  const members = acceptors.map(({ host, port, nodeId }): Member => {
    if (nodeId === undefined || nodeId === 0n) {
      throw new ProposerError(
        "ERR_BRIDGE_NODE_ID",
        `creating a timeline needs the node id of ${host}:${port}`,
      );
    }
    return { nodeId, host, port };
  });
  return { generation: 1, members, newMembers: [] };
}

/**
 * Makes PostgreSQL begin a new segment and returns its start, once WAL behind it is durable.
 *
 * @param sql a connection for SQL to a primary; its synchronous_commit is changed
 * @throws {ProposerError} ERR_BRIDGE_STANDBY, ERR_BRIDGE_POSTGRES, ERR_BRIDGE_BOOTSTRAP_POSITION
 */
export async function beginSegment(sql: ClientConnection, segmentBytes: number): Promise<Lsn> {
  const recovery = await firstRow(sql, "SELECT pg_catalog.pg_is_in_recovery()");
  if (recovery?.[0] !== "f") {
    throw new ProposerError("ERR_BRIDGE_STANDBY", "PostgreSQL is in recovery; a bridge needs a primary");
  }
  // Nothing here may wait for synchronous standbys: that is us, and we are not there yet.
  await firstRow(sql, "SET synchronous_commit = local");
  const switched = await firstRow(sql, "SELECT pg_catalog.pg_switch_wal()");
  const endLsn = parseLsn(switched?.[0] ?? "");
  const startLsn =
    segmentOffset(endLsn, segmentBytes) === 0
      ? endLsn
      : segmentStart(segmentNumber(endLsn, segmentBytes) + 1n, segmentBytes);
  // A transaction with a message writes a commit record and, with local, returns when that is on disk.
  await firstRow(sql, "SELECT pg_catalog.pg_logical_emit_message(true, 'millrace', 'timeline begins')");
  const flushed = await firstRow(sql, "SELECT pg_catalog.pg_current_wal_flush_lsn()");
  const flushLsn = parseLsn(flushed?.[0] ?? "");
  if (flushLsn <= startLsn) {
    const message = `WAL is durable up to ${formatLsn(flushLsn)}, not beyond ${formatLsn(startLsn)}`;
    throw new ProposerError("ERR_BRIDGE_BOOTSTRAP_POSITION", message);
  }
  return startLsn;
}

/**
 * Checks with PostgreSQL's own bytes that a log can begin at `startLsn`: the segment is there, belongs to this
 * cluster, and begins with a whole record.
 *
 * @param stream opened at `startLsn`; closed here
 * @throws {ProposerError} ERR_BRIDGE_BOOTSTRAP_POSITION, ERR_BRIDGE_WAL_REMOVED, ERR_BRIDGE_POSTGRES
 */
export async function checkBeginning(
  stream: CatchUpStream,
  startLsn: Lsn,
  identity: PostgresIdentity,
): Promise<void> {
  try {
    if (segmentOffset(startLsn, identity.segmentBytes) !== 0) {
      const message = `${formatLsn(startLsn)} is not the start of a segment`;
      throw new ProposerError("ERR_BRIDGE_BOOTSTRAP_POSITION", message);
    }
    const decoder = new WalDecoder({
      startLsn,
      pgMajor: identity.major,
      segmentBytes: identity.segmentBytes,
      systemId: identity.systemId,
      start: "record",
    });
    const firstRecordEnd = addBytes(startLsn, 1);
    while (decoder.recordEndLsn < firstRecordEnd) decoder.feed((await stream.next()).bytes);
  } catch (error) {
    if (error instanceof ProposerError) throw error;
    const message = `the segment at ${formatLsn(startLsn)} does not begin with a whole record: ${describe(error)}`;
    throw new ProposerError("ERR_BRIDGE_BOOTSTRAP_POSITION", message, { cause: error });
  } finally {
    stream.close();
  }
}
