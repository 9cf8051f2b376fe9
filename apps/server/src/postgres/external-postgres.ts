/**
 * Looks at a PostgreSQL that somebody else runs: what the bridge needs, and whether commits wait for it.
 *
 * Nothing is changed on that server. What makes streaming impossible is an error; what only weakens the guarantee is
 * a warning, because the bridge has to be up before the setting that makes commits wait for it is made: the other way
 * round every commit would hang.
 */
import { durabilityWarnings } from "@millrace/wal-proposer";
import pg from "pg";

import { describeError, ServerError } from "../errors.js";

const CONNECT_TIMEOUT_MS = 10_000;
/** One walsender streams, one holds the retention slot, one serves catch-up, and pg_basebackup wants one. */
const WAL_SENDERS_MIN = 4;

/** What was found on the server. */
export interface ExternalCheck {
  readonly version: string;
  /** One sentence each; streaming is impossible while there is one. */
  readonly problems: readonly string[];
  /** One sentence each; the guarantee is weaker than it looks. */
  readonly warnings: readonly string[];
}

/** The settings a check is made from, by their PostgreSQL names. */
export type ServerFacts = Readonly<
  Record<
    | "server_version_num"
    | "server_version"
    | "wal_level"
    | "max_wal_senders"
    | "max_replication_slots"
    | "synchronous_standby_names"
    | "synchronous_commit"
    | "fsync"
    | "full_page_writes"
    | "may_replicate"
    | "in_recovery",
    string
  >
>;

/** The lines that postgresql.conf needs. */
export function settingLines(applicationName: string): string {
  return [
    "    wal_level = replica",
    `    synchronous_standby_names = 'FIRST 1 (${applicationName})'`,
    "    synchronous_commit = on",
  ].join("\n");
}

/** Judges the facts; pure, so that every sentence has a test. */
export function checkFacts(facts: ServerFacts, applicationName: string): ExternalCheck {
  const problems: string[] = [];
  const major = Math.floor(Number(facts.server_version_num) / 10_000);
  if (!(major >= 15 && major <= 18)) {
    problems.push(`PostgreSQL ${facts.server_version} is not supported; 15, 16, 17 and 18 are.`);
  }
  if (facts.in_recovery !== "f") problems.push("It is a standby; the bridge needs the primary.");
  if (facts.wal_level !== "replica" && facts.wal_level !== "logical") {
    problems.push(`wal_level is ${facts.wal_level}; it must be replica or logical.`);
  }
  if (facts.may_replicate !== "t") problems.push("The user in the URL lacks the REPLICATION attribute.");
  if (Number(facts.max_wal_senders) < WAL_SENDERS_MIN) {
    problems.push(`max_wal_senders is ${facts.max_wal_senders}; the bridge needs ${WAL_SENDERS_MIN}.`);
  }
  if (Number(facts.max_replication_slots) < 1)
    problems.push("max_replication_slots is 0; the bridge needs 1.");
  const weak = durabilityWarnings(
    {
      synchronousStandbyNames: facts.synchronous_standby_names,
      synchronousCommit: facts.synchronous_commit,
      fsync: facts.fsync,
      fullPageWrites: facts.full_page_writes,
      walLevel: facts.wal_level,
    },
    applicationName,
  );
  // wal_level is among the problems already.
  const warnings = weak
    .filter(({ warning }) => warning !== "wal_level")
    .map(({ warning, detail }) => `The guarantee does not hold yet: ${warning}: ${detail}.`);
  return { version: facts.server_version, problems, warnings };
}

const QUERY = `
  select current_setting('server_version_num') as server_version_num,
         current_setting('server_version') as server_version,
         current_setting('wal_level') as wal_level,
         current_setting('max_wal_senders') as max_wal_senders,
         current_setting('max_replication_slots') as max_replication_slots,
         current_setting('synchronous_standby_names') as synchronous_standby_names,
         current_setting('synchronous_commit') as synchronous_commit,
         current_setting('fsync') as fsync,
         current_setting('full_page_writes') as full_page_writes,
         case when (select rolreplication or rolsuper from pg_roles where rolname = current_user)
              then 't' else 'f' end as may_replicate,
         case when pg_is_in_recovery() then 't' else 'f' end as in_recovery`;

/**
 * Connects to the server at `url` and checks it.
 *
 * @throws {ServerError} ERR_SERVER_POSTGRES when it cannot be reached, or when streaming is impossible; the message
 *   then lists what to change
 */
export async function checkExternalPostgres(url: string, applicationName: string): Promise<ExternalCheck> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  // Without a listener a connection that breaks later would end the process.
  client.on("error", () => undefined);
  let facts: ServerFacts | undefined;
  try {
    await client.connect();
    const result = await client.query<Record<string, string>>(QUERY);
    facts = result.rows[0] as ServerFacts | undefined;
  } catch (error) {
    throw new ServerError("ERR_SERVER_POSTGRES", `PostgreSQL at --pg: ${describeError(error)}`);
  } finally {
    await client.end().catch(() => undefined);
  }
  if (facts === undefined) throw new ServerError("ERR_SERVER_POSTGRES", "PostgreSQL at --pg gave no answer");
  const check = checkFacts(facts, applicationName);
  if (check.problems.length > 0) {
    throw new ServerError(
      "ERR_SERVER_POSTGRES",
      `The PostgreSQL at --pg cannot be used yet:\n${check.problems.map((line) => `  - ${line}`).join("\n")}\n` +
        `It needs these lines in postgresql.conf (wal_level needs a restart):\n${settingLines(applicationName)}`,
    );
  }
  return check;
}
