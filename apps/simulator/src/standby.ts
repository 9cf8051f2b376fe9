/**
 * Somebody who reads WAL all the time: a standby that follows what is committed, or a peer that follows a term.
 *
 * It connects to whichever acceptor comes up, goes on where it was or, now and then, from the very start, answers as a
 * standby does, or forgets to, and leaves after a while. A peer asks in the term in which the acceptor is, and must
 * hear nothing more once that has changed. Such peers also come in the moment of a vote, when an acceptor is in a new term
 * and its log may be about to be cut.
 */
import { formatLsn, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseReplicationMessage, serializeStandbyStatus, toPgTimestamp } from "@millrace/pg-wire";
import type { CopyReader, CopyWriter } from "@millrace/pg-wire";
import { messageOf, stackOf } from "./error-text.js";
import type { Endpoint } from "./network.js";
import { Random } from "./random.js";
import { connectReader } from "./reader-connection.js";
import type { World } from "./world.js";

/** Share of connections that ask in the acceptor's term. */
const TERM_SHARE = 0.35;
/** Share of votes after which a peer comes. */
const PEEK_SHARE = 0.2;
/** Share of the others that name PostgreSQL's timeline, as a stock standby does. */
const STOCK_SHARE = 0.3;
/** Share of connections that begin at the very start. */
const AFRESH_SHARE = 0.1;
/** Share of keepalives that are not answered, and of messages after which it is busy with something else. */
const FORGETFUL_SHARE = 0.1;
const BUSY_SHARE = 0.02;

/** One reader. Runs as long as the world. */
export class Standby {
  readonly endpoint: Endpoint;
  readonly #world: World;
  readonly #name: string;
  readonly #random: Random;
  #lsn: Lsn;

  constructor(world: World, index: number, endpoint: Endpoint) {
    this.#world = world;
    this.endpoint = endpoint;
    this.#name = `R${String(index)}`;
    this.#random = new Random(world.plan.seed, `standby ${String(index)}`);
    this.#lsn = world.startLsn;
  }

  start(): void {
    this.#world.time.promisesMoved();
    void this.#live().catch((error: unknown) => {
      this.#world.ledger.violate("Internal", `${this.#name}: ${stackOf(error)}`);
    });
  }

  /** Follows the term that an acceptor has just voted in, beside everything else. */
  peek(acceptor: number, term: bigint): void {
    if (!this.#random.chance(PEEK_SHARE)) return;
    this.#world.time.promisesMoved();
    void this.#follow(acceptor, term);
  }

  async #live(): Promise<void> {
    const { time, acceptors } = this.#world;
    for (;;) {
      await time.sleep(this.#random.between(5, 150));
      const acceptor = this.#random.below(acceptors.length);
      const term = this.#random.chance(TERM_SHARE) ? acceptors[acceptor]?.process?.state.term : undefined;
      await this.#follow(acceptor, term);
    }
  }

  async #follow(acceptor: number, term: bigint | undefined): Promise<void> {
    const { time, startLsn } = this.#world;
    if (this.#random.chance(AFRESH_SHARE)) this.#lsn = startLsn;
    const fromLsn = term === undefined ? this.#lsn : startLsn;
    const connection = await connectReader(this.#world, this.endpoint, acceptor);
    if (connection === undefined) return;
    const leaving = time.after(this.#random.between(20, 2500), () => connection.destroy());
    const suffix =
      term === undefined
        ? this.#random.chance(STOCK_SHARE)
          ? " TIMELINE 1"
          : ""
        : ` (term='${String(term)}')`;
    const { reader, writer } = await connection.startCopyBoth(
      `START_REPLICATION PHYSICAL ${formatLsn(fromLsn)}${suffix}`,
    );
    try {
      await this.#receive({ reader, writer, fromLsn, isCommitted: term === undefined });
    } catch (error) {
      this.#world.trace.note("reader-ended", this.#name, messageOf(error));
    }
    leaving.cancel();
    connection.destroy();
  }

  async #receive(stream: {
    readonly reader: CopyReader;
    readonly writer: CopyWriter;
    readonly fromLsn: Lsn;
    readonly isCommitted: boolean;
  }): Promise<void> {
    const { time, ledger, trace } = this.#world;
    let nextLsn = stream.fromLsn;
    for (;;) {
      const event = await stream.reader.next();
      if (event.type !== "data") return;
      const message = parseReplicationMessage(event.payload);
      if (message.type === "keepalive") {
        if (message.replyRequested && !this.#random.chance(FORGETFUL_SHARE))
          void stream.writer.send(this.#status(nextLsn));
        continue;
      }
      const { startLsn, walData } = message;
      ledger.readers.onReceived(this.#name, startLsn, nextLsn);
      nextLsn = (startLsn + BigInt(walData.byteLength)) as Lsn;
      trace.note("read", this.#name, startLsn, walData.byteLength);
      if (stream.isCommitted) {
        ledger.readers.onRead(this.#name, startLsn, walData);
        this.#lsn = nextLsn;
      }
      if (this.#random.chance(BUSY_SHARE)) await time.sleep(this.#random.between(10, 600));
    }
  }

  #status(lsn: Lsn): Uint8Array {
    return serializeStandbyStatus({
      writeLsn: lsn,
      flushLsn: lsn,
      applyLsn: INVALID_LSN,
      timestamp: toPgTimestamp(this.#world.time.wallMs()),
      replyRequested: this.#random.chance(0.2),
    });
  }
}
