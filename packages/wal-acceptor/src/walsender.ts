/**
 * Serves one START_REPLICATION stream: WAL out, reports in, until something ends it.
 *
 * What it keeps true:
 * - a reader without a term never gets a byte at or above the commit position; a reader with a term never gets a byte
 *   once the acceptor is in another term, or of another log than it had before (served-log.ts), which is checked after
 *   the read and before the send, without an `await` between the check and the send;
 * - a reader on a timeline of PostgreSQL that was left gets nothing from beyond the point where it was left, and none
 *   of a newer timeline before that is registered;
 * - a reader that is ahead of this acceptor waits, hearing a keepalive each second: it may have come from a faster one;
 * - a peer that does not read stops this stream alone, at the bound of the socket's queue; one that is silent for the
 *   idle limit is dropped.
 *
 * After walsender.c of PostgreSQL and send_wal.rs of Neon's safekeeper. What differs from the latter: only a reader that
 * has sent pageserver feedback is sent away when it has everything, WAL requests for a timeline are taken seriously,
 * a status report that asks for a reply gets one, and a stop of the node is announced.
 */
import { formatLsn, minLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { serializeKeepalive, serializeXLogDataHeader, toPgTimestamp } from "@millrace/pg-wire";
import type { CopyReader, CopyWriter } from "@millrace/pg-wire";

import { Bell } from "./bell.js";
import type { Clock, Timer } from "./clock.js";
import type { StartReplication } from "./command-grammar.js";
import type { SlotLease } from "./consumer-slots.js";
import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import { AcceptorError } from "./errors.js";
import { FirstSignal } from "./first-signal.js";
import type { PgTimelines } from "./pg-timelines.js";
import { chunkBytes } from "./replication-chunk.js";
import { ServedLog } from "./served-log.js";
import { StandbyFeedback } from "./standby-feedback.js";
import { streamEndOfError } from "./stream-end.js";
import type { StreamEnd } from "./stream-end.js";
import { TimelineFrontier } from "./timeline-frontier.js";
import type { Timeline } from "./timeline.js";
import type { WalReader } from "./wal-store.js";
import type { WalSenderGuard } from "./walsender-registry.js";

/** Silence towards a reader after which it gets a keepalive; it must answer. */
export const KEEPALIVE_INTERVAL_MS = 1000;
/** Time a reader has to answer CopyDone when the node stops. */
export const READER_STOP_TIMEOUT_MS = 2000;

/** One stream. */
export interface ReplicationStream {
  readonly command: StartReplication;
  readonly timeline: Timeline;
  /** For the diagnostics channel. */
  readonly place: EventPlace;
  /** Lent, like `slot`: the caller disposes both after the stream. */
  readonly sender: WalSenderGuard;
  readonly slot: SlotLease | undefined;
  /** The two halves of the connection, in COPY mode; used by nobody else until `idle` settles. */
  readonly reader: CopyReader;
  readonly writer: CopyWriter;
  readonly clock: Clock;
  readonly idleTimeoutMs: number;
  /** Aborted when the node stops. */
  readonly stopSignal: AbortSignal;
}

/** Why a stream is over. After the first three, COPY was ended by both sides and the connection can go on. */
export type ReplicationEnd =
  | { readonly kind: "end-of-timeline" }
  | { readonly kind: "peer-done" }
  | { readonly kind: "stopped" }
  | StreamEnd;

/** A stream that is over. */
export interface EndedReplication {
  readonly end: ReplicationEnd;
  /**
   * Settles once neither half of the connection nor the timeline is in use; only certain to happen after the
   * connection is closed, unless COPY was ended by both sides.
   */
  readonly idle: Promise<unknown>;
}

/** Serves a stream until it ends. Nothing but COPY messages was sent to the peer then. Does not throw. */
export function sendWal(stream: ReplicationStream): Promise<EndedReplication> {
  return new WalSender(stream).run();
}

class WalSender {
  readonly #stream: ReplicationStream;
  readonly #timeline: Timeline;
  readonly #clock: Clock;
  readonly #bell = new Bell();
  #position: Lsn;
  #lastSentMs: number;
  #lastReceivedMs: number;
  /** A second has passed without a message to the peer. */
  #keepaliveDue = false;
  #replyOwed = false;
  #peerDone = false;
  /** The stream has ended in another place: the sending loop has to leave. */
  #over = false;
  #timer: Timer | undefined;
  /** What a reader with a term has been given so far. */
  readonly #served: ServedLog;
  /** Only readers that know of PostgreSQL's timelines care which one their WAL is on. */
  readonly #frontier: TimelineFrontier | undefined;
  /** Where WAL of an unregistered timeline begins, as far as these registrations tell. */
  #frozen: { readonly known: PgTimelines; readonly lsn: Lsn } | undefined;

  constructor(stream: ReplicationStream) {
    this.#stream = stream;
    this.#timeline = stream.timeline;
    this.#clock = stream.clock;
    this.#position = stream.command.startLsn;
    stream.sender.sentLsn = this.#position;
    this.#served = new ServedLog(stream.timeline.state.termHistory);
    const { term, timelineId } = stream.command;
    if (term === undefined && timelineId !== undefined)
      this.#frontier = new TimelineFrontier(stream.timeline.state.server);
    this.#lastSentMs = this.#lastReceivedMs = this.#clock.monotonicMs();
  }

  async run(): Promise<EndedReplication> {
    const { stopSignal, command } = this.#stream;
    const ring = (): void => this.#bell.ring();
    const { commitWatch, logEndWatch, readers } = this.#timeline;
    const subscriptions = [
      (command.term === undefined ? commitWatch : logEndWatch).subscribe(ring),
      readers.pgTimelines.subscribe(ring),
    ];
    using broken = new FirstSignal<ReplicationEnd>();
    broken.onAbort(this.#timeline.cancelSignal, { kind: "cancelled" });
    using stop = new FirstSignal<void>();
    stop.onAbort(stopSignal, undefined);
    void stop.promise.then(() => {
      broken.after(this.#clock, READER_STOP_TIMEOUT_MS, { kind: "clean" });
      ring();
    });
    this.#watchSilence((end) => broken.resolve(end));
    const receiving = this.#receive();
    // A peer that has ended its half is not gone: the sending loop gets to see that and ends its own.
    const gone = receiving.then((end) => (end.kind === "peer-done" ? broken.promise : end));
    const sending = this.#send();
    try {
      let end = await Promise.race([sending, gone, broken.promise]);
      if (end.kind === "end-of-timeline" || end.kind === "peer-done" || end.kind === "stopped") {
        void this.#stream.writer.done()?.catch(() => undefined);
        const answer = await Promise.race([receiving, broken.promise]);
        if (answer.kind !== "peer-done") end = answer;
      }
      return { end, idle: Promise.all([sending, receiving]) };
    } finally {
      this.#over = true;
      this.#timer?.cancel();
      for (const subscription of subscriptions) subscription[Symbol.dispose]();
      ring();
    }
  }

  async #receive(): Promise<ReplicationEnd> {
    using feedback = new StandbyFeedback(this.#timeline, this.#stream.sender, this.#stream.slot);
    const { reader } = this.#stream;
    try {
      for (;;) {
        const event = reader.tryNext() ?? (await reader.next());
        this.#lastReceivedMs = this.#clock.monotonicMs();
        if (event.type === "data") {
          if (!feedback.take(event.payload)) continue;
          this.#replyOwed = true;
        } else if (event.type === "done") {
          this.#peerDone = true;
        } else if (event.type === "fail") {
          return { kind: "copy-fail", message: event.message };
        } else {
          return { kind: "disconnected", reason: event.reason };
        }
        this.#bell.ring();
        if (this.#peerDone) return { kind: "peer-done" };
      }
    } catch (error) {
      return streamEndOfError(error);
    }
  }

  async #send(): Promise<ReplicationEnd> {
    let reader: WalReader | undefined;
    try {
      for (;;) {
        if (this.#over) return { kind: "clean" };
        if (this.#peerDone) return { kind: "peer-done" };
        if (this.#stream.stopSignal.aborted) return { kind: "stopped" };
        if (this.#replyOwed) await this.#sendKeepalive(false);
        const endLsn = this.#endLsn();
        if (this.#position < endLsn) {
          if (reader?.lsn !== this.#position) {
            await reader?.close();
            reader = this.#timeline.openReader(this.#position);
          }
          await this.#sendChunk(reader, endLsn);
          continue;
        }
        const end = this.#atEnd();
        if (end !== undefined) return end;
        if (this.#keepaliveDue) await this.#sendKeepalive(true);
        await this.#bell.wait();
      }
    } catch (error) {
      return streamEndOfError(error);
    } finally {
      await reader?.close();
    }
  }

  // How far this reader may go at this moment.
  #endLsn(): Lsn {
    const { term, timelineId } = this.#stream.command;
    const { state } = this.#timeline;
    const endLsn = term === undefined ? state.commitLsn : state.flushLsn;
    const left = this.#leftAt(timelineId);
    const frozen =
      this.#frozen?.known === this.#timeline.readers.pgTimelines.value ? this.#frozen.lsn : endLsn;
    return minLsn(endLsn, left ?? endLsn, frozen);
  }

  #leftAt(timelineId: number | undefined): Lsn | undefined {
    if (timelineId === undefined) return undefined;
    return this.#timeline.readers.pgTimelines.value.successorOf(timelineId)?.beginLsn;
  }

  async #sendChunk(reader: WalReader, endLsn: Lsn): Promise<void> {
    this.#checkTerm(this.#position);
    const { state } = this.#timeline;
    const chunk = chunkBytes(this.#position, endLsn, state.server.segmentBytes);
    // Given to the socket, which holds it for as long as the kernel needs: so a new one each time.
    const wal = Buffer.allocUnsafe(chunk);
    for (let filled = 0; filled < chunk;) {
      const count = await reader.read(wal.subarray(filled));
      if (count === 0) {
        this.#checkTerm((this.#position + BigInt(chunk)) as Lsn);
        throw new AcceptorError("ERR_ACCEPTOR_WAL_MISSING", `no WAL at ${formatLsn(reader.lsn)}`);
      }
      filled += count;
    }
    // The log may have been cut and written anew while it was read.
    this.#checkTerm((this.#position + BigInt(chunk)) as Lsn);
    if (this.#over || this.#timeline.cancelSignal.aborted) return;
    const bytes = chunk - this.#foreignBytes(wal);
    if (bytes === 0) return;
    const header = serializeXLogDataHeader({ startLsn: this.#position, endLsn, timestamp: this.#now() });
    const room = this.#stream.writer.send(header, wal.subarray(0, bytes));
    this.#position = (this.#position + BigInt(bytes)) as Lsn;
    this.#sent();
    this.#stream.sender.sentLsn = this.#position;
    if (this.#stream.sender.phase === "startup") this.#stream.sender.phase = "catchup";
    this.#timeline.readers.sentBytes += bytes;
    if (room !== undefined) await room;
  }

  // How much at the end of `wal` is of a timeline that nobody has registered; that stops the stream until somebody does.
  #foreignBytes(wal: Buffer): number {
    const known = this.#timeline.readers.pgTimelines.value;
    const newest = known.list().at(-1)?.timelineId ?? 1;
    const lsn = this.#frontier?.find(this.#position, wal, newest);
    if (lsn === undefined) return 0;
    this.#frozen = { known, lsn };
    publish(() => ({
      ...this.#stream.place,
      type: "pg-timeline-unknown",
      level: "warn",
      lsn: formatLsn(lsn),
    }));
    return Number(this.#position - lsn) + wal.byteLength;
  }

  async #sendKeepalive(replyRequested: boolean): Promise<void> {
    this.#replyOwed = false;
    const message = serializeKeepalive({ endLsn: this.#endLsn(), timestamp: this.#now(), replyRequested });
    const room = this.#stream.writer.send(message);
    this.#sent();
    if (room !== undefined) await room;
  }

  // There is nothing to send. Undefined: wait for more.
  #atEnd(): ReplicationEnd | undefined {
    const { term, timelineId } = this.#stream.command;
    this.#stream.sender.phase = "streaming";
    const left = this.#leftAt(timelineId);
    if (left !== undefined && this.#position >= left) return { kind: "end-of-timeline" };
    if (term === undefined) return this.#keepaliveDue ? this.#sendAway() : undefined;
    const { lastLogTerm } = this.#timeline.logEndWatch.value;
    if (lastLogTerm === term) return undefined;
    throw new AcceptorError(
      "ERR_ACCEPTOR_TERM_CHANGED",
      `term changed: requested ${term}, now ${lastLogTerm}`,
    );
  }

  // A pageserver that has stored everything, while no compute can write more, is asked to come back when one does.
  #sendAway(): ReplicationEnd | undefined {
    const { sender } = this.#stream;
    const { commitLsn } = this.#timeline.state;
    const satisfied = sender.peer === "pageserver" && sender.remoteConsistentLsn >= commitLsn;
    if (!satisfied || this.#timeline.receivers.computes.value > 0) return undefined;
    const message = `ending streaming to "${sender.applicationName}" at ${formatLsn(this.#position)}, receiver is caught up and there are no computes`;
    return { kind: "server-initiated", message };
  }

  // Whether a reader with a term may have the bytes below `untilLsn`.
  #checkTerm(untilLsn: Lsn): void {
    const { term } = this.#stream.command;
    if (term === undefined) return;
    const { state } = this.#timeline;
    if (term === state.term && this.#served.goesOn(state, untilLsn)) return;
    throw new AcceptorError(
      "ERR_ACCEPTOR_TERM_CHANGED",
      term === state.term
        ? `the log was cut below ${formatLsn(untilLsn)} when the proposer of term ${term} was elected`
        : `failed to acquire term ${term}, current term ${state.term}`,
    );
  }

  #sent(): void {
    this.#lastSentMs = this.#clock.monotonicMs();
    this.#keepaliveDue = false;
  }

  // One timer for both silences: ours, which leads to a keepalive, and the peer's, which ends the stream.
  #watchSilence(tooLong: (end: ReplicationEnd) => void): void {
    const { idleTimeoutMs } = this.#stream;
    const arm = (delayMs: number): void => {
      this.#timer = this.#clock.setTimer(delayMs, () => {
        const now = this.#clock.monotonicMs();
        if (now - this.#lastReceivedMs >= idleTimeoutMs) {
          tooLong({ kind: "idle-timeout", idleMs: idleTimeoutMs });
          return;
        }
        const silentMs = now - this.#lastSentMs;
        if (silentMs >= KEEPALIVE_INTERVAL_MS) {
          this.#keepaliveDue = true;
          this.#bell.ring();
        }
        arm(silentMs >= KEEPALIVE_INTERVAL_MS ? KEEPALIVE_INTERVAL_MS : KEEPALIVE_INTERVAL_MS - silentMs);
      });
    };
    arm(KEEPALIVE_INTERVAL_MS);
  }

  #now(): bigint {
    return toPgTimestamp(this.#clock.wallMs());
  }
}
