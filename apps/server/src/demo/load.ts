/**
 * The demo's load: real clients that insert rows one transaction at a time and remember what was acknowledged.
 *
 * Every row has an id of its own, and a client notes it only after PostgreSQL has answered the commit. A connection
 * that breaks ends the demo with an error: nothing in it kills PostgreSQL or a client, so a lost connection would be a
 * defect and must not be retried away. A commit whose wait was cancelled (PostgreSQL then warns that the transaction
 * "might not have been replicated") is not counted as acknowledged.
 */
import pg from "pg";

import { describeError, ServerError } from "../errors.js";
import type { CommitLog } from "./commit-log.js";

const TABLE = "millrace_demo";
/** A row of a few hundred bytes, so that the load is made of commits and not of bulk. */
const PAYLOAD_BYTES = 200;
/** Ids of two connections never meet. */
const IDS_PER_CONNECTION = 1_000_000_000;
/** A commit that takes longer than this will not come; the row of the pause has failed long before. */
const STATEMENT_LIMIT_MS = 60_000;

function newClient(url: string): pg.Client {
  const client = new pg.Client({
    connectionString: url,
    application_name: "millrace demo",
    query_timeout: STATEMENT_LIMIT_MS,
  });
  // Without a listener a connection that breaks between two queries would end the process.
  client.on("error", () => undefined);
  return client;
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = newClient(url);
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Makes the table, empty. */
export async function createTable(url: string): Promise<void> {
  await withClient(url, async (client) => {
    await client.query(`drop table if exists ${TABLE}`);
    await client.query(`create table ${TABLE} (id bigint primary key, payload text not null)`);
  });
}

/** What the load runs with. */
export interface LoadOptions {
  readonly url: string;
  readonly connections: number;
  readonly log: CommitLog;
  readonly nowMs: () => number;
  /** Ends the load after the transactions in flight. */
  readonly signal: AbortSignal;
}

async function write(client: pg.Client, index: number, options: LoadOptions): Promise<void> {
  let replicated = true;
  client.on("notice", (notice) => {
    if (notice.severity === "WARNING") replicated = false;
  });
  const payload = "x".repeat(PAYLOAD_BYTES);
  for (let id = index * IDS_PER_CONNECTION; !options.signal.aborted; id += 1) {
    await client.query({
      name: "insert",
      text: `insert into ${TABLE} (id, payload) values ($1, $2)`,
      values: [id, payload],
    });
    if (replicated) options.log.acknowledge(id, options.nowMs());
    replicated = true;
  }
}

/**
 * Writes from all connections until the signal is aborted.
 *
 * @throws {ServerError} ERR_SERVER_DEMO when a connection or a statement fails
 */
export async function runLoad(options: LoadOptions): Promise<void> {
  const clients = Array.from({ length: options.connections }, () => newClient(options.url));
  try {
    await Promise.all(clients.map((client) => client.connect()));
    await Promise.all(clients.map((client, index) => write(client, index, options)));
  } catch (cause) {
    throw new ServerError("ERR_SERVER_DEMO", `the load ended early: ${describeError(cause)}`, { cause });
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  }
}

/** The ids that the table holds now. */
export async function presentIds(url: string): Promise<Set<number>> {
  return await withClient(url, async (client) => {
    const result = await client.query<{ id: string }>(`select id from ${TABLE}`);
    return new Set(result.rows.map((row) => Number(row.id)));
  });
}

/** Commits one more row, outside of the load: moves PostgreSQL's flush position past everything before it. */
export async function commitOneMore(client: pg.Client): Promise<void> {
  await client.query(`insert into ${TABLE} (id, payload) select coalesce(min(id), 0) - 1, '' from ${TABLE}`);
}
