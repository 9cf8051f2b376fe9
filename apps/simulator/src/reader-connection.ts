/**
 * The client's end of a replication stream, as a donor's reader or a standby opens it.
 */
import type { CopyReader, CopyWriter } from "@millrace/pg-wire";
import { DonorReader, ProposerError, REPORT_INTERVAL_MS } from "@millrace/wal-proposer";
import type { DonorStreamOptions, ReplicationConnection } from "@millrace/wal-proposer";
import { CopyLink } from "./copy-link.js";
import type { Endpoint, Side } from "./network.js";
import type { VirtualTime } from "./virtual-time.js";
import type { World } from "./world.js";

/** A connection to an acceptor that has sent nothing yet. */
export class ReaderConnection implements ReplicationConnection {
  readonly #link: CopyLink;

  constructor(side: Side, time: VirtualTime) {
    this.#link = new CopyLink(side, time);
  }

  /** @param command the first message; the acceptor ends the connection if it does not like it */
  startCopyBoth(command: string): Promise<{ readonly reader: CopyReader; readonly writer: CopyWriter }> {
    void this.#link.send(Buffer.from(command));
    return Promise.resolve({ reader: this.#link, writer: this.#link });
  }

  destroy(): void {
    this.#link.destroy("the reader has left", true);
  }
}

/** Connects; undefined if the way there or back is blocked, or nobody is at home. */
export async function connectReader(
  world: World,
  reader: Endpoint,
  acceptor: number,
): Promise<ReaderConnection | undefined> {
  if (!(await world.pass(reader, acceptor)) || !(await world.pass(acceptor, reader))) return undefined;
  const process = world.acceptors[acceptor]?.process;
  if (process === undefined) return undefined;
  const connection = world.network.open(reader, acceptor, "copy");
  const client = new ReaderConnection(connection.clientSide, world.time);
  process.serveReader(connection.serverSide, reader);
  return client;
}

/**
 * Opens the proposer's own reader of another acceptor's WAL.
 *
 * @throws {ProposerError} ERR_BRIDGE_DONOR
 */
export async function openDonor(
  world: World,
  reader: Endpoint,
  acceptor: number,
  options: Pick<DonorStreamOptions, "term" | "fromLsn">,
): Promise<DonorReader> {
  const connection = await connectReader(world, reader, acceptor);
  if (connection === undefined) throw new ProposerError("ERR_BRIDGE_DONOR", "the donor cannot be reached");
  const { time } = world;
  const name = `A${String(acceptor + 1)}`;
  return await DonorReader.start(name, connection, {
    ...options,
    reportIntervalMs: REPORT_INTERVAL_MS,
    clock: time,
  });
}
