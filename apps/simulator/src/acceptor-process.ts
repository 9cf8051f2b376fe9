/**
 * One life of an acceptor's process: the package's own timeline over its own stores, its own walsenders for readers, and
 * a pipeline for proposers.
 *
 * The pipeline does what production does: a queue for each connection, adjacent appends written together, a sync when
 * the queue runs empty or earlier, everything that had arrived worked off after a connection has ended. Where
 * production decides by load and clock, here chance does, so that every drain boundary comes up. Each call into the
 * timeline is followed by a look at the positions it left, under a lock of its own, so that what the ledger compares is
 * what was just done.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { createMemoryRecords, Timeline, TimelineReaders } from "@millrace/wal-acceptor";
import type { AcceptorStateView, ControlStore, PersistentState } from "@millrace/wal-acceptor";
import { parseProposerMessage, serializeAcceptorMessage } from "@millrace/wal-protocol";
import type { AcceptorMessage, AppendRequest, ProposerMessage } from "@millrace/wal-protocol";
import { errorCode, messageOf, stackOf } from "./error-text.js";
import type { Ledger } from "./ledger.js";
import type { Endpoint, Side } from "./network.js";
import type { OpenStores } from "./node-storage.js";
import { ObservedControlStore, ObservedWalStore } from "./observed-stores.js";
import type { Random } from "./random.js";
import { ReaderService } from "./reader-service.js";
import type { World } from "./world.js";

/** Appends that one write takes at most; production takes more, small runs give more boundaries. */
const RUN_MAX = 8;
/** Share of drained queues that wait a little for more before they sync. */
const LINGER_SHARE = 0.3;
/** Share of syncs that come although more is queued. */
const EARLY_SYNC_SHARE = 0.15;
/** Share of appends that are handled with a sync of their own. */
const SYNCED_SHARE = 0.1;

/** One connection of a proposer. */
interface Session {
  readonly side: Side;
  readonly proposer: number;
  readonly queue: ProposerMessage[];
  inputEnded: boolean;
  /** Something was appended that no answer has covered. */
  dirty: boolean;
  /** The term that this connection has announced as won, once the core has taken it. */
  electedTerm: bigint | undefined;
  wake: (() => void) | undefined;
}

/** Who an acceptor process is. */
export interface ProcessIdentity {
  readonly index: number;
  readonly nodeId: bigint;
  readonly name: string;
  readonly random: Random;
  /** Called right before the core is told of an election. */
  readonly beforeElected: () => void;
  /** Waited for around every read for a reader of WAL. */
  readonly readDelay: () => Promise<void> | undefined;
}

/** Timeline, lock and connections of one life. */
export class AcceptorProcess {
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #identity: ProcessIdentity;
  readonly #random: Random;
  readonly #control: ControlStore;
  readonly #stores: OpenStores;
  readonly #timeline: Timeline;
  readonly #readers: ReaderService;
  readonly #sessions = new Set<Session>();
  #lock: Promise<unknown> = Promise.resolve();
  #alive = true;

  private constructor(world: World, identity: ProcessIdentity, stores: OpenStores, readers: TimelineReaders) {
    const { nodeId, random, readDelay } = identity;
    const { ledger } = world;
    this.#world = world;
    this.#ledger = ledger;
    this.#identity = identity;
    this.#random = random;
    this.#stores = stores;
    const observer = { ledger, nodeId, isAlive: () => this.#alive };
    const wal = new ObservedWalStore(stores.wal, {
      ...observer,
      commitLsn: () => this.#timeline.state.commitLsn,
      readDelay,
    });
    this.#control = new ObservedControlStore(stores.control, observer);
    this.#timeline = new Timeline({ control: this.#control, wal, readers, nodeId, clock: world.time });
    this.#readers = new ReaderService(world, identity, this.#timeline);
  }

  /** A process over stores that have just been opened. */
  static async open(world: World, identity: ProcessIdentity, stores: OpenStores): Promise<AcceptorProcess> {
    const readers = await TimelineReaders.open({ records: createMemoryRecords(), clock: world.time });
    return new AcceptorProcess(world, identity, stores, readers);
  }

  get state(): AcceptorStateView {
    return this.#timeline.state;
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  /** What the control file says. */
  get durable(): PersistentState {
    return this.#control.get();
  }

  /** The stored bytes of [fromLsn, toLsn), without asking who may see them. */
  copy(fromLsn: Lsn, toLsn: Lsn): Promise<Uint8Array> {
    return this.#readRange(fromLsn, toLsn);
  }

  /** Shows the ledger what a start has found on the disk. */
  async recover(): Promise<void> {
    const { state } = this.#timeline;
    const bytes = await this.#readRange(this.#world.startLsn, state.flushLsn);
    if (this.#alive) this.#ledger.onRecovered(this.#identity.nodeId, state, bytes);
  }

  /** Nothing of this process takes effect any more; its peers hear of it. */
  die(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const session of this.#sessions) session.side.close("the acceptor's process is gone", false);
    this.#sessions.clear();
    this.#readers.die(this.#random.chance(0.5));
    // So that what waits inside the timeline ends; its disk and its connections are gone already.
    this.#world.time.promisesMoved();
    this.#timeline.cancel();
  }

  /** A reader of WAL has connected. */
  serveReader(side: Side, reader: Endpoint): void {
    this.#readers.accept(side, reader);
  }

  /** A proposer has opened a stream. */
  accept(side: Side, proposer: number): void {
    const session: Session = {
      side,
      proposer,
      queue: [],
      inputEnded: false,
      dirty: false,
      electedTerm: undefined,
      wake: undefined,
    };
    const arrived = (): void => {
      if (session.wake === undefined) return;
      this.#world.time.promisesMoved();
      session.wake();
      session.wake = undefined;
    };
    side.handlers = {
      message: (payload) => {
        session.queue.push(parseProposerMessage(payload, this.#world.plan.protocolVersion));
        arrived();
      },
      closed: () => {
        session.inputEnded = true;
        arrived();
      },
    };
    this.#sessions.add(session);
    this.#world.time.promisesMoved();
    void this.#serve(session);
  }

  /**
   * Runs `body` alone, as far as the ledger is concerned; the timeline has a lock of its own.
   *
   * @throws whatever the timeline throws; an Error if the process is gone
   */
  exclusive<T>(body: (timeline: Timeline) => Promise<T>): Promise<T> {
    const running = this.#lock.then(async () => {
      if (!this.#alive) throw new ProcessGone();
      try {
        return await body(this.#timeline);
      } catch (error) {
        // A timeline that meets a bug refuses everything from then on: not every caller would tell.
        if (this.#alive && !isExpected(error)) {
          this.#ledger.violate("Internal", `${this.#identity.name}: ${stackOf(error)}`);
        }
        throw error;
      } finally {
        if (this.#alive) this.#observe();
      }
    });
    this.#lock = running.catch(() => undefined);
    return running;
  }

  #observe(): void {
    const { state } = this.#timeline;
    this.#ledger.onPositions(this.#identity.nodeId, state.commitLsn, state.flushLsn);
    if (this.#timeline.safetyViolations > 0) {
      this.#ledger.violate("I8 TruncateAboveCommit", `${this.#identity.name}: ${state.brokenReason ?? ""}`);
    }
  }

  async #serve(session: Session): Promise<void> {
    try {
      while (this.#alive && !session.side.isClosed && (await this.#step(session)));
      await this.#drain(session);
    } catch (error) {
      this.#onError(session, error);
    } finally {
      this.#sessions.delete(session);
      session.side.close("the acceptor ended the stream", true);
    }
  }

  // What had arrived when the connection ended is still worked off.
  async #drain(session: Session): Promise<void> {
    while (this.#alive && session.queue.length > 0 && (await this.#step(session)));
    if (this.#alive && session.dirty) await this.#flush(session);
  }

  async #step(session: Session): Promise<boolean> {
    const message = session.queue.shift();
    if (message === undefined) return await this.#idle(session);
    if (message.type === "append-request") await this.#append(session, message);
    else await this.#handle(session, message);
    if (session.dirty && this.#random.chance(EARLY_SYNC_SHARE)) await this.#flush(session);
    return true;
  }

  async #idle(session: Session): Promise<boolean> {
    if (session.dirty) {
      if (this.#random.chance(LINGER_SHARE)) await this.#world.time.sleep(this.#random.between(0.1, 5));
      if (session.queue.length === 0 && this.#alive) await this.#flush(session);
      return true;
    }
    if (session.inputEnded) return false;
    await new Promise<void>((resolve) => {
      session.wake = resolve;
    });
    return true;
  }

  async #handle(session: Session, message: Exclude<ProposerMessage, AppendRequest>): Promise<void> {
    const { name } = this.#identity;
    const { state } = this.#timeline;
    this.#world.trace.note("handle", name, session.proposer, message.type, state.term, state.flushLsn);
    await this.exclusive(async (timeline) => {
      if (message.type === "elected") this.#identity.beforeElected();
      const reply = await timeline.process(message);
      if (!this.#alive) return;
      if (message.type === "elected" && state.term === message.term) session.electedTerm = message.term;
      if (reply !== undefined) this.#reply(session, reply);
    });
  }

  async #append(session: Session, first: AppendRequest): Promise<void> {
    const run = [first];
    const wanted = 1 + this.#random.below(RUN_MAX);
    while (run.length < wanted && session.queue[0]?.type === "append-request") {
      const next = session.queue.shift();
      if (next?.type === "append-request") run.push(next);
    }
    const isSynced = run.length === 1 && this.#random.chance(SYNCED_SHARE);
    await this.exclusive(async (timeline) => {
      const { state } = timeline;
      const before = { term: state.term, writeLsn: state.writeLsn, commitLsn: state.commitLsn };
      const reply = isSynced ? await timeline.process(first) : await timeline.appendBatch(run);
      if (!this.#alive) return;
      if (first.term < before.term) this.#onStale(first.term, before);
      else session.dirty = true;
      const last = run.at(-1) ?? first;
      this.#world.trace.note("append", this.#identity.name, session.proposer, first.beginLsn, last.endLsn);
      if (reply !== undefined) this.#reply(session, reply);
    });
  }

  #onStale(term: bigint, before: { readonly writeLsn: Lsn; readonly commitLsn: Lsn }): void {
    const { state } = this.#timeline;
    const changed = state.writeLsn !== before.writeLsn || state.commitLsn !== before.commitLsn;
    this.#ledger.onStaleAppend(this.#identity.nodeId, term, changed);
    this.#world.coverage.count("stale-append");
  }

  async #flush(session: Session): Promise<void> {
    session.dirty = false;
    await this.exclusive(async (timeline) => {
      const reply = await timeline.process({ type: "flush-wal" });
      if (this.#alive && reply !== undefined) this.#reply(session, reply);
    });
  }

  // Under the lock, so that what the ledger compares is what the message says.
  #reply(session: Session, reply: AcceptorMessage): void {
    const { nodeId, name } = this.#identity;
    const { plan, trace } = this.#world;
    if (reply.type === "greeting") {
      this.#ledger.onTermShown(nodeId, reply.term);
      this.#ledger.elections.onConfiguration(reply.configuration);
      trace.note("reply", name, session.proposer, reply.type, reply.term);
    } else if (reply.type === "vote-response") {
      this.#ledger.onVote(nodeId, session.proposer, reply, this.#stores.wal.writeRecordLsn);
      trace.note("reply", name, session.proposer, reply.type, reply.term, reply.voteGiven, reply.flushLsn);
      if (reply.voteGiven) this.#world.onVoted(this.#identity.index, reply.term);
    } else {
      this.#ledger.onAcknowledge(nodeId, reply, session.electedTerm === reply.term);
      trace.note("reply", name, session.proposer, reply.type, reply.term, reply.flushLsn, reply.commitLsn);
    }
    session.side.send(serializeAcceptorMessage(reply, plan.protocolVersion));
  }

  #onError(session: Session, error: unknown): void {
    if (!this.#alive) return;
    const { name } = this.#identity;
    const code = errorCode(error);
    this.#world.trace.note("refused", name, session.proposer, code);
    if (code === "ERR_ACCEPTOR_NO_SPACE") this.#world.coverage.count("disk-full-refusal");
    if (code === "ERR_ACCEPTOR_TRUNCATION_POINT") this.#world.coverage.count("refused-start");
    const invariant = FORBIDDEN[code];
    if (invariant !== undefined) this.#ledger.violate(invariant, `${name}: ${messageOf(error)}`);
    else if (!isExpected(error)) this.#ledger.violate("Internal", `${name}: ${stackOf(error)}`);
    if (!session.dirty) return;
    // What earlier messages wrote stays, and is synced so that a status agrees with a later vote.
    session.dirty = false;
    void this.exclusive((timeline) => timeline.process({ type: "flush-wal" })).catch(() => undefined);
  }

  async #readRange(fromLsn: Lsn, toLsn: Lsn): Promise<Uint8Array> {
    if (toLsn === INVALID_LSN || toLsn <= fromLsn) return new Uint8Array(0);
    const target = new Uint8Array(Number(toLsn - fromLsn));
    const reader = this.#stores.wal.openReader(fromLsn);
    try {
      let filled = 0;
      while (filled < target.byteLength) {
        const count = await reader.read(target.subarray(filled));
        if (count === 0) break;
        filled += count;
      }
      return target.subarray(0, filled);
    } finally {
      await reader.close();
    }
  }
}

/** Errors that a correct cluster never sees, and what each would mean. */
const FORBIDDEN: Readonly<Record<string, "I6 LogMatching" | "I8 TruncateAboveCommit" | "Internal">> = {
  ERR_ACCEPTOR_SAFETY_VIOLATION: "I8 TruncateAboveCommit",
  ERR_ACCEPTOR_HISTORY_INVALID: "I6 LogMatching",
  ERR_ACCEPTOR_WAL_INVALID: "Internal",
  ERR_ACCEPTOR_WAL_MISSING: "Internal",
  ERR_ACCEPTOR_CONTROL_CORRUPT: "Internal",
  ERR_ACCEPTOR_CONTROL_MISSING: "Internal",
  ERR_ACCEPTOR_GREETING_MISMATCH: "Internal",
  ERR_ACCEPTOR_SYSTEM_ID_MISMATCH: "Internal",
};

/** A refusal, or a failure of disk or peer; anything else is a bug. */
function isExpected(error: unknown): boolean {
  return /^ERR_(ACCEPTOR|PROTOCOL)_/.test(errorCode(error));
}

/** The lock's answer to whoever still waits when the process dies. */
class ProcessGone extends Error {
  override readonly name = "ProcessGone";
  readonly code = "ERR_ACCEPTOR_PROCESS_GONE";
}
