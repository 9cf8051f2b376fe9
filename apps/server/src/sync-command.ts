/**
 * `millrace sync`: brings acceptors into agreement without a database, and says where their log ends.
 *
 * It is the first step of a failover. Once it has ended with 0, no bridge that was there before can have a commit
 * acknowledged: its term is over, and the commits of its PostgreSQL wait. The position that it prints is committed, on
 * the disks of a quorum, and the last one there will ever be of that PostgreSQL; a standby has to replay up to it before
 * it is promoted. Running it again is harmless: it is one more term.
 *
 * The exit code tells a script whether to try again: 69 for no quorum in time, 76 when another proposer is at work.
 */
import { formatLsn } from "@millrace/lsn";
import { stringifyJson } from "@millrace/wal-acceptor";
import { SyncError, syncAcceptors } from "@millrace/wal-proposer";
import type { SyncFailure, SyncResult } from "@millrace/wal-proposer";

import type { SyncConfiguration } from "./configuration/sync-options.js";
import { EXIT } from "./errors.js";
import { readSecret } from "./instance.js";
import { createLogger } from "./logging.js";
import { logNotices } from "./parts/bridge-notices.js";

/** What a failure means for whoever started the command; the others are EXIT.failure. */
const EXIT_CODES: Partial<Record<SyncFailure, number>> = {
  timeout: EXIT.unavailable,
  higher_term: EXIT.termLost,
  refused_vote: EXIT.termLost,
  generation_change: EXIT.termLost,
};

/** The text for a terminal. */
export function formatSync({ lsn, term }: SyncResult): string {
  const end = formatLsn(lsn);
  return (
    `${end}\n` +
    `The acceptors agree in term ${term}: their log ends at ${end}, and no older bridge can have a commit acknowledged.\n` +
    `Let a standby replay up to ${end} before it is promoted.\n`
  );
}

/** Runs one synchronisation and prints where the log ends. */
export async function runSync(configuration: SyncConfiguration): Promise<number> {
  const { acceptorTokenFile, json } = configuration;
  // A success has nothing to say but the position, and a failure says in its message who did not take part.
  logNotices(createLogger({ level: configuration.logLevel, format: configuration.logFormat }));
  try {
    const result = await syncAcceptors({
      acceptors: configuration.acceptors,
      tenantId: configuration.tenant,
      timelineId: configuration.timeline,
      timeoutMs: configuration.timeoutMs,
      reconnectMs: configuration.reconnectMs,
      connectionTimeoutMs: configuration.connectionTimeoutMs,
      protocolVersion: configuration.protoVersion === "2" ? 2 : 3,
      ...(acceptorTokenFile === undefined ? {} : { acceptorPassword: readSecret(acceptorTokenFile) }),
    });
    const document = { lsn: formatLsn(result.lsn), term: result.term };
    process.stdout.write(json ? `${stringifyJson(document)}\n` : formatSync(result));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    process.stderr.write(`millrace: the acceptors could not be brought into agreement: ${error.message}\n`);
    return EXIT_CODES[error.reason] ?? EXIT.failure;
  }
}
