/**
 * Reads WAL from an acceptor that has it, for one that lacks it and that PostgreSQL can no longer serve.
 *
 * The donor is asked in the term at hand (`term='T'`): it then gives everything that it has durable, committed or
 * not, as long as it stays in that term, and refuses otherwise. So a byte that comes from here belongs to the log
 * that was elected. A donor that has sent all it has says so with a keepalive; whoever needs more takes another one.
 *
 * As Neon's walproposer does, under the same application name, so that acceptors tell it from a standby.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect } from "@millrace/pg-wire";
import { acceptorOptions } from "./acceptor-connection.js";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import { CatchUpReader } from "./catch-up-reader.js";
import type { ReplicationConnection } from "./catch-up-reader.js";
import type { CatchUpStream, WalChunk } from "./catch-up.js";
import { ProposerError } from "./errors.js";
import type { Clock } from "./timers.js";

/** What acceptors know such a reader by. */
const APPLICATION_NAME = "wal_proposer_recovery";

/** See the members. */
export interface DonorStreamOptions {
  readonly term: bigint;
  readonly fromLsn: Lsn;
  readonly reportIntervalMs: number;
  readonly silenceMs?: number;
  readonly clock: Clock;
}

/** See the members. */
export interface DonorReaderOptions extends DonorStreamOptions {
  readonly address: AcceptorAddress;
  /** 32 hexadecimal digits. */
  readonly tenantId: string;
  /** 32 hexadecimal digits. */
  readonly timelineId: string;
  readonly signal?: AbortSignal;
  readonly password?: AcceptorConnectionOptions["password"];
  readonly connectSocket?: AcceptorConnectionOptions["connectSocket"];
}

/** A stream of WAL from one acceptor. */
export class DonorReader implements CatchUpStream {
  readonly #name: string;
  readonly #reader: CatchUpReader;

  private constructor(name: string, reader: CatchUpReader) {
    this.#name = name;
    this.#reader = reader;
  }

  /**
   * Connects and asks for the WAL from `fromLsn` on.
   *
   * @throws {ProposerError} ERR_BRIDGE_DONOR; a refusal may also show at the first `next`
   */
  static async open(options: DonorReaderOptions): Promise<DonorReader> {
    const { address, tenantId, timelineId, password, connectSocket, signal } = options;
    const name = `${address.host}:${address.port}`;
    let connection: ReplicationConnection;
    try {
      connection = await connect({
        host: address.host,
        port: address.port,
        user: "wal_proposer",
        database: "replication",
        parameters: { options: acceptorOptions(tenantId, timelineId), application_name: APPLICATION_NAME },
        ...(signal === undefined ? {} : { signal }),
        ...(password === undefined ? {} : { password }),
        ...(connectSocket === undefined ? {} : { connectSocket: () => connectSocket(address) }),
      });
    } catch (error) {
      throw donorError(name, error);
    }
    return await DonorReader.start(name, connection, options);
  }

  /**
   * Asks for the WAL from `fromLsn` on over a connection that is there already.
   *
   * @param name of the donor, for errors
   * @param connection given: it goes with the reader, or at once if this fails
   * @throws {ProposerError} as `open`
   */
  static async start(
    name: string,
    connection: ReplicationConnection,
    options: DonorStreamOptions,
  ): Promise<DonorReader> {
    const { fromLsn, term, reportIntervalMs, silenceMs, clock } = options;
    try {
      const reader = await CatchUpReader.start(connection, {
        fromLsn,
        command: `START_REPLICATION PHYSICAL ${formatLsn(fromLsn)} (term='${term}')`,
        endsWhenIdle: true,
        reportIntervalMs,
        ...(silenceMs === undefined ? {} : { silenceMs }),
        clock,
      });
      return new DonorReader(name, reader);
    } catch (error) {
      throw donorError(name, error);
    }
  }

  /** @throws {ProposerError} ERR_BRIDGE_DONOR: the connection, the term, or the donor's WAL has ended */
  async next(): Promise<WalChunk> {
    try {
      return await this.#reader.next();
    } catch (error) {
      throw donorError(this.#name, error);
    }
  }

  close(): void {
    this.#reader.close();
  }
}

function donorError(name: string, error: unknown): ProposerError {
  const detail = error instanceof Error ? error.message : String(error);
  return new ProposerError("ERR_BRIDGE_DONOR", `no WAL from the acceptor ${name}: ${detail}`, {
    cause: error,
  });
}
