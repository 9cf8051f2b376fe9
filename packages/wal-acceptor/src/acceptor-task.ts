/**
 * The middle of a push stream: takes messages from the queue, feeds the consensus core, decides when to sync.
 *
 * The rules it keeps:
 * - WAL is written as it comes and synced once per drained batch: when the queue runs empty, and at the latest one
 *   second after the last reply however steadily messages come, because a proposer drops connections that stay
 *   silent. Also when a transaction's commit, abort or prepare record is waiting and this node is not catching up
 *   (commit latency), and when much is unsynced (bounded loss of work, bounded sync time).
 * - Adjacent appends of a batch become one store write.
 * - The only stop signal is the end of the input queue; the timeline's cancel flag is looked at between messages,
 *   never inside one, so no disk access is left half done. What was written is synced before returning, since a
 *   status shows the flush position and a later vote must not exceed what the status showed.
 * - Every way out gives up the place in the registry.
 *
 * After WalAcceptor of Neon's safekeeper; the sync on commit records answers its known one-second latency.
 */
import { CLOSED } from "@millrace/duplex";
import type { Sender } from "@millrace/duplex";
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AcceptorMessage, AppendRequest, AppendResponse, ProposerMessage } from "@millrace/wal-protocol";

import type { Clock } from "./clock.js";
import type { ComputeConnectionGuard } from "./compute-registry.js";
import type { AcceptorMeasures } from "./measures.js";
import type { FlushWal } from "./safekeeper-core.js";
import type { FeedbackMarker } from "./network-writer.js";
import type { ProposerQueue } from "./proposer-queue.js";

/** Longest silence towards a proposer that sends; it gives up after ten times that. */
export const REPLY_INTERVAL_MS = 1000;
/** Bytes that may be unsynced before the task stops collecting: a tenth of a second of a slow disk. */
export const UNFLUSHED_BYTES_MAX: number = 16 * 1024 * 1024;
/** Bytes of adjacent appends that become one store write: a syscall's cost is well amortised by then. */
export const COALESCED_BYTES_MAX: number = 1024 * 1024;
/** Appends in one store write: below what one writev takes, even if a write is cut at a segment's end. */
export const COALESCED_REQUESTS_MAX = 512;
/** Time between two syncs for commit records, unless configured otherwise; twice that of a fast NVMe's fdatasync. */
export const MIN_FLUSH_GAP_MS_DEFAULT = 0.5;

/** What the task needs of a timeline. */
export interface PushTarget {
  /** Handles one message, atomically, including its disk access. */
  process(message: ProposerMessage | FlushWal): Promise<AcceptorMessage | undefined>;
  /**
   * Appends without a sync, in order, as if one by one. The WAL in the messages is lent until the promise settles.
   *
   * @returns a reply only when a segment became complete or the proposer is outdated
   */
  appendBatch(requests: readonly AppendRequest[]): Promise<AppendResponse | undefined>;
  /** The position that may be acknowledged. */
  readonly flushLsn: Lsn;
  /** Whether a commit, abort or prepare record became complete since this was last asked. */
  takeTransactionEnd(): boolean;
  /** Aborted once the timeline is being deleted. */
  readonly cancelSignal: AbortSignal;
  /** Takes a place among the timeline's receivers. */
  registerReceiver(connectionId: number | undefined): ComputeConnectionGuard;
}

/** When to sync without being idle. */
export interface FlushPolicy {
  /** Sync when a transaction ends, not only when the queue is empty. */
  readonly flushOnCommit: boolean;
  /** Least time between two such syncs. */
  readonly minFlushGapMs: number;
}

/** What one task works with. */
export interface AcceptorTaskOptions {
  readonly target: PushTarget;
  /** Lent: the caller closes it to stop the task. The task abandons it when it ends for a reason of its own. */
  readonly queue: ProposerQueue;
  /** Closed by the task when it ends, so that the network writer ends after the last reply. */
  readonly replies: Sender<AcceptorMessage | FeedbackMarker>;
  /** `undefined` for a stream of this node's own recovery. */
  readonly connectionId: number | undefined;
  readonly clock: Clock;
  readonly flush: FlushPolicy;
  readonly measures: AcceptorMeasures;
}

/**
 * Runs until the queue ends, the timeline is cancelled, the replies are closed, or a message is refused.
 *
 * @throws {AcceptorError} what the timeline refused a message with, or ERR_ACCEPTOR_CONNECTION_LIMIT; both queues
 *   are closed and the registry place is given up by then
 */
export async function runAcceptorTask(options: AcceptorTaskOptions): Promise<void> {
  try {
    using receiver = options.target.registerReceiver(options.connectionId);
    await new AcceptorTask(options, receiver).run();
  } finally {
    options.queue.abandon();
    options.replies.close();
  }
}

class AcceptorTask {
  readonly #target: PushTarget;
  readonly #queue: ProposerQueue;
  readonly #replies: Sender<AcceptorMessage | FeedbackMarker>;
  readonly #clock: Clock;
  readonly #policy: FlushPolicy;
  readonly #receiver: ComputeConnectionGuard;
  readonly #measures: AcceptorMeasures;

  /** Taken from the queue while merging and not part of the merged write: the next message. */
  #lookahead: ProposerMessage | typeof CLOSED | undefined;
  /** An append was processed whose result no reply has told yet. */
  #dirty = false;
  /** A transaction ended in WAL that is not synced. */
  #transactionEnded = false;
  /** When the oldest such end was taken from the queue. */
  #transactionEndMs = 0;
  #unflushedBytes = 0;
  /** The proposer's newest commit position: below it this node is catching up. */
  #commitLsn: Lsn = INVALID_LSN;
  #lastReplyMs: number;
  #lastFlushMs = Number.NEGATIVE_INFINITY;

  constructor(options: AcceptorTaskOptions, receiver: ComputeConnectionGuard) {
    this.#target = options.target;
    this.#queue = options.queue;
    this.#replies = options.replies;
    this.#clock = options.clock;
    this.#policy = options.flush;
    this.#receiver = receiver;
    this.#measures = options.measures;
    this.#lastReplyMs = options.clock.monotonicMs();
  }

  async run(): Promise<void> {
    try {
      while (await this.#step());
    } catch (error) {
      // What earlier messages wrote stays; sync it so that the status agrees with a later vote. The refusal is what
      // the peer has to hear, so a failing sync, which the store remembers, does not replace it.
      await this.#flushBeforeEnd().catch(() => undefined);
      throw error;
    }
    await this.#flushBeforeEnd();
  }

  // One message, one merged batch, or one sync. False: the stream is over.
  async #step(): Promise<boolean> {
    if (this.#target.cancelSignal.aborted) return false;
    let message = this.#lookahead ?? this.#queue.tryTake();
    this.#lookahead = undefined;
    if (message === undefined) {
      if (this.#dirty) return await this.#flush();
      message = await this.#queue.take();
    }
    if (message === CLOSED) return false;
    if (message.type === "append-request") return await this.#append(message);
    if (message.type === "elected") this.#receiver.streaming();
    return await this.#reply(await this.#target.process(message));
  }

  async #append(first: AppendRequest): Promise<boolean> {
    const takenMs = this.#measures.now();
    const requests = this.#collect(first);
    this.#measures.appendBatchSize.observe(requests.length);
    const reply = await this.#target.appendBatch(requests);
    // A reply with another term than the first request's only says that the proposer is outdated: nothing was
    // written, so there is nothing a sync could add.
    if (reply === undefined || reply.term === first.term) this.#dirty = true;
    for (const { walData, commitLsn } of requests) {
      this.#unflushedBytes += walData.byteLength;
      if (commitLsn > this.#commitLsn) this.#commitLsn = commitLsn;
    }
    if (this.#target.takeTransactionEnd()) {
      if (!this.#transactionEnded) this.#transactionEndMs = takenMs;
      this.#transactionEnded = true;
    }
    if (!(await this.#reply(reply))) return false;
    return this.#dirty && this.#mustFlush() ? await this.#flush() : true;
  }

  // The appends that follow in the queue; the timeline handles them in order, as if one by one, with one write.
  #collect(first: AppendRequest): readonly AppendRequest[] {
    const requests = [first];
    let bytes = first.walData.byteLength;
    while (requests.length < COALESCED_REQUESTS_MAX && bytes < COALESCED_BYTES_MAX) {
      const next = this.#queue.tryTake();
      if (next === undefined) break;
      if (next === CLOSED || next.type !== "append-request") {
        this.#lookahead = next;
        break;
      }
      requests.push(next);
      bytes += next.walData.byteLength;
    }
    return requests;
  }

  #mustFlush(): boolean {
    if (this.#unflushedBytes >= UNFLUSHED_BYTES_MAX) return true;
    const now = this.#clock.monotonicMs();
    if (now - this.#lastReplyMs >= REPLY_INTERVAL_MS) return true;
    return (
      this.#policy.flushOnCommit &&
      this.#transactionEnded &&
      now - this.#lastFlushMs >= this.#policy.minFlushGapMs &&
      this.#target.flushLsn >= this.#commitLsn
    );
  }

  async #flush(): Promise<boolean> {
    const reply = await this.#target.process({ type: "flush-wal" });
    const ended = this.#transactionEnded;
    this.#dirty = false;
    this.#transactionEnded = false;
    this.#unflushedBytes = 0;
    this.#lastFlushMs = this.#clock.monotonicMs();
    const isTaken = await this.#reply(reply);
    if (ended) this.#measures.commitToAckSeconds.observe(this.#measures.secondsSince(this.#transactionEndMs));
    return isTaken;
  }

  // Waits for room. False: nobody takes replies any more.
  async #reply(reply: AcceptorMessage | undefined): Promise<boolean> {
    if (reply === undefined) return true;
    this.#lastReplyMs = this.#clock.monotonicMs();
    const result = this.#replies.trySend(reply);
    if (result !== "full") return result === "sent";
    return await this.#replies.send(reply).then(
      () => true,
      () => false, // a send without a signal fails for one reason: the receiver has closed
    );
  }

  async #flushBeforeEnd(): Promise<void> {
    if (!this.#dirty || this.#target.cancelSignal.aborted) return;
    this.#dirty = false;
    await this.#target.process({ type: "flush-wal" });
  }
}
