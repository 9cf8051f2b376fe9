/**
 * The demo's load: real clients that insert rows one transaction at a time and remember what was acknowledged.
 *
 * Every row has an id of its own, and a client notes it only after PostgreSQL has answered the commit. A transaction
 * whose answer never came, because the connection broke, may be there or not; its id is neither noted nor used again.
 * So is one whose wait was cancelled (PostgreSQL then warns that it "might not have been replicated").
 *
 * Only the death of PostgreSQL may break a connection, and each connection once: the demo says since when PostgreSQL
 * has been killed on purpose, and a client connects anew only if it was connected before that. Every other loss is a
 * defect, ends the load with an error and must not be retried away; the deaths of acceptors and of the bridge, above
 * all, are none of a client's business.
 */
import pg from "pg";

import { describeError, ServerError } from "../errors.js";
import { delay } from "../waiting.js";
import type { CommitLog } from "./commit-log.js";

const TABLE = "millrace_demo";
/** A row of a few hundred bytes, so that the load is made of commits and not of bulk. */
const PAYLOAD_BYTES = 200;
/** Ids of two connections never meet. */
const IDS_PER_CONNECTION = 1_000_000_000;
/** A commit that takes longer than this will not come; the row of the pause has failed long before. */
const STATEMENT_LIMIT_MS = 60_000;
/** Between two attempts to connect to a PostgreSQL that is starting: far below the pause that is measured. */
const RECONNECT_MS = 50;
/** After a kill PostgreSQL is given up when it takes longer than this; its crash recovery takes seconds. */
const RECONNECT_LIMIT_MS = 60_000;

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
  /** When PostgreSQL was last killed on purpose; undefined as long as it was not. */
  readonly killedAtMs: () => number | undefined;
}

/** One connection after the other, with the ids that belong to it. */
class Writer {
  readonly #options: LoadOptions;
  readonly #payload = "x".repeat(PAYLOAD_BYTES);
  #nextId: number;
  #client: pg.Client;
  #connectedMs = Number.NEGATIVE_INFINITY;
  /** PostgreSQL has warned of the present transaction. */
  #warned = false;

  constructor(options: LoadOptions, index: number) {
    this.#options = options;
    this.#nextId = index * IDS_PER_CONNECTION;
    this.#client = this.#newClient();
  }

  #newClient(): pg.Client {
    const client = newClient(this.#options.url);
    client.on("notice", (notice) => {
      if (notice.severity === "WARNING") this.#warned = true;
    });
    return client;
  }

  async connect(): Promise<void> {
    await this.#client.connect();
    this.#connectedMs = this.#options.nowMs();
  }

  /** Writes until the signal is aborted, across the death of PostgreSQL. */
  async run(): Promise<void> {
    while (!this.#options.signal.aborted) {
      try {
        await this.#write();
      } catch (error) {
        if (!this.#mayBreak()) throw error;
        await this.#reconnect();
      }
    }
  }

  async #write(): Promise<void> {
    const { log, nowMs, signal } = this.#options;
    while (!signal.aborted) {
      const id = this.#nextId;
      this.#nextId += 1;
      this.#warned = false;
      const startedMs = nowMs();
      await this.#client.query({
        name: "insert",
        text: `insert into ${TABLE} (id, payload) values ($1, $2)`,
        values: [id, this.#payload],
      });
      if (!this.#warned) log.acknowledge(id, startedMs, nowMs());
    }
  }

  /** Whether PostgreSQL has been killed since this connection was made. */
  #mayBreak(): boolean {
    const killedMs = this.#options.killedAtMs();
    return killedMs !== undefined && killedMs >= this.#connectedMs;
  }

  async #reconnect(): Promise<void> {
    const { nowMs, signal } = this.#options;
    const startedMs = nowMs();
    while (!signal.aborted) {
      await this.end();
      this.#client = this.#newClient();
      try {
        await this.connect();
        return;
      } catch (error) {
        if (nowMs() - startedMs > RECONNECT_LIMIT_MS) throw error;
        await delay(RECONNECT_MS);
      }
    }
  }

  async end(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }
}

/**
 * Writes from all connections until the signal is aborted.
 *
 * @throws {ServerError} ERR_SERVER_DEMO when a statement fails, or a connection without PostgreSQL having been killed
 */
export async function runLoad(options: LoadOptions): Promise<void> {
  const writers = Array.from({ length: options.connections }, (_, index) => new Writer(options, index));
  try {
    await Promise.all(writers.map((writer) => writer.connect()));
    await Promise.all(writers.map((writer) => writer.run()));
  } catch (cause) {
    throw new ServerError("ERR_SERVER_DEMO", `the load ended early: ${describeError(cause)}`, { cause });
  } finally {
    await Promise.all(writers.map((writer) => writer.end()));
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
