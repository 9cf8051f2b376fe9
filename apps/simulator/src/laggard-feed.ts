/**
 * Feeding acceptors whose next byte the proposer no longer has: the package's own catch-up, source and donors' reader.
 *
 * Stands for a proposer whose PostgreSQL has removed older WAL, and for one that has no PostgreSQL at all. What it asks
 * of the proposer, and what it does with the answers, is what the production shell does.
 */
import type { Lsn } from "@millrace/lsn";
import { CatchUp, catchUpSource, chunkParts, ProposerError } from "@millrace/wal-proposer";
import type { Donor, ProposerCore, WalChunk } from "@millrace/wal-proposer";
import type { AppendRequestFields } from "@millrace/wal-protocol";
import type { ElectedTerm } from "./elections.js";
import { messageOf } from "./error-text.js";
import type { Endpoint } from "./network.js";
import { openDonor } from "./reader-connection.js";
import type { World } from "./world.js";

/** How soon a full window is looked at again. */
const WINDOW_RETRY_MS = 5;

/** The proposer behind it. */
export interface FeedOwner {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly core: ProposerCore;
  readonly elected: () => ElectedTerm | undefined;
  /** From where on an acceptor can be fed from memory without falling out again at once. */
  readonly servedFromLsn: () => Lsn;
  /** Whether the acceptor is connected, and whether its connection takes more now. */
  readonly connection: (acceptor: number) => "none" | "full" | "ready";
  readonly send: (acceptor: number, request: AppendRequestFields, walData: Uint8Array) => void;
  readonly pump: (acceptor: number) => void;
}

/** All laggards of one proposer. */
export class LaggardFeed {
  readonly #world: World;
  readonly #owner: FeedOwner;
  readonly #catchUp: CatchUp;

  constructor(world: World, owner: FeedOwner) {
    this.#world = world;
    this.#owner = owner;
    const source = catchUpSource({
      fromPostgres: () => Promise.reject(new ProposerError("ERR_BRIDGE_WAL_REMOVED", "long gone")),
      fromDonor: (donor, fromLsn) => this.#open(donor, fromLsn),
      donor: () => owner.core.donor,
    });
    this.#catchUp = new CatchUp(
      {
        wantsLsn: (acceptor) =>
          owner.connection(acceptor) === "none" ? undefined : owner.core.wantsLsn(acceptor),
        isServed: (lsn) => lsn >= owner.servedFromLsn(),
        feed: (acceptor, chunk) => this.#feed(acceptor, chunk),
        finished: (acceptor) => {
          world.trace.note("catch-up-finished", owner.name, acceptor);
          owner.pump(acceptor);
        },
        failed: (acceptor, fromLsn, error) => {
          world.trace.note("catch-up-failed", owner.name, acceptor, fromLsn, messageOf(error));
        },
      },
      source,
      world.time,
    );
  }

  /** Whether the acceptor is fed from here now. */
  isRunning(acceptor: number): boolean {
    return this.#catchUp.isRunning(acceptor);
  }

  /** The acceptor's next byte is not in memory. */
  request(acceptor: number): void {
    this.#world.time.promisesMoved();
    this.#catchUp.request(acceptor);
  }

  /** The acceptor's connection is gone. */
  cancel(acceptor: number): void {
    this.#world.time.promisesMoved();
    this.#catchUp.cancel(acceptor);
  }

  close(): void {
    this.#world.time.promisesMoved();
    this.#catchUp.close();
  }

  async #open({ acceptor }: Donor, fromLsn: Lsn): ReturnType<typeof openDonor> {
    const { term } = this.#owner.core;
    this.#world.trace.note("donor", this.#owner.name, acceptor, fromLsn);
    return await openDonor(this.#world, this.#owner.endpoint, acceptor, { term, fromLsn });
  }

  #feed(acceptor: number, chunk: WalChunk): Promise<void> | undefined {
    const { core, connection, elected, send } = this.#owner;
    const { ledger, coverage, time } = this.#world;
    const term = elected();
    if (term !== undefined) ledger.readers.onDonated(term, chunk.startLsn, chunk.bytes);
    const endLsn = (chunk.startLsn + BigInt(chunk.bytes.byteLength)) as Lsn;
    while (connection(acceptor) === "ready") {
      const request = core.nextAppend(acceptor, endLsn);
      if (request === undefined) return undefined;
      const [walData = new Uint8Array(0)] = chunkParts(chunk, request);
      if (walData.byteLength > 0) coverage.count("donor-feed");
      send(acceptor, request, walData);
    }
    return connection(acceptor) === "none" ? undefined : time.sleep(WINDOW_RETRY_MS);
  }
}
