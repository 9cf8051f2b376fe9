/**
 * What a reader of WAL says about itself, and where it goes: its row, its slot, the feedback for the proposer.
 *
 * Three messages: `r` (positions), `h` (which old row versions a standby needs) and `z` (a pageserver's progress).
 * Unknown ones are ignored, as Neon's safekeeper does, so that a newer client can stream from an older acceptor.
 */
import { INVALID_LSN } from "@millrace/lsn";
import { parseStandbyMessage } from "@millrace/pg-wire";
import { parsePageserverFeedback } from "@millrace/wal-protocol";

import type { SlotLease } from "./consumer-slots.js";
import type { FeedbackHub, StandbyFeedbackSlot } from "./feedback-hub.js";
import type { Timeline } from "./timeline.js";
import type { WalSenderGuard } from "./walsender-registry.js";

/** The listener for one stream. */
export class StandbyFeedback implements Disposable {
  readonly #timeline: Timeline;
  readonly #sender: WalSenderGuard;
  readonly #slot: SlotLease | undefined;
  readonly #hub: FeedbackHub;
  #standby: StandbyFeedbackSlot | undefined;

  constructor(timeline: Timeline, sender: WalSenderGuard, slot: SlotLease | undefined) {
    this.#timeline = timeline;
    this.#sender = sender;
    this.#slot = slot;
    this.#hub = timeline.feedback;
  }

  /**
   * Takes one message.
   *
   * @param payload borrowed for the call
   * @returns whether the peer wants an answer at once
   * @throws {WireError} ERR_WIRE_PROTOCOL and {ProtocolError} for a message that is not what its tag says
   */
  take(payload: Uint8Array): boolean {
    const message = parseStandbyMessage(payload);
    switch (message.type) {
      case "standby-status": {
        if (this.#sender.peer === "unknown") this.#sender.peer = "standby";
        this.#sender.writeLsn = message.writeLsn;
        this.#sender.flushLsn = message.flushLsn;
        this.#sender.applyLsn = message.applyLsn;
        if (message.flushLsn !== INVALID_LSN) this.#advanceSlot(message.flushLsn);
        this.#sender.changed();
        return message.replyRequested;
      }
      case "hot-standby-feedback":
        if (this.#sender.peer === "unknown") this.#sender.peer = "standby";
        this.#standby ??= this.#hub.registerStandby();
        this.#standby.update({
          timestamp: message.timestamp,
          xmin: withoutBareEpoch(message.xmin),
          catalogXmin: withoutBareEpoch(message.catalogXmin),
        });
        this.#sender.changed();
        return false;
      case "pageserver-feedback": {
        this.#sender.peer = "pageserver";
        const feedback = parsePageserverFeedback(message.body);
        this.#sender.flushLsn = feedback.diskConsistentLsn;
        this.#sender.remoteConsistentLsn = feedback.remoteConsistentLsn;
        this.#timeline.recordRemoteConsistentLsn(feedback.remoteConsistentLsn);
        this.#hub.publish(feedback);
        this.#sender.changed();
        return false;
      }
      case "unknown":
      default:
        return false;
    }
  }

  /** The reader is gone: what it held back is free. Twice is allowed. */
  [Symbol.dispose](): void {
    this.#standby?.[Symbol.dispose]();
    this.#standby = undefined;
  }

  // No reader can have more than there is; a wrong report must not let WAL go that others have not got.
  #advanceSlot(flushLsn: SlotPosition): void {
    if (this.#slot === undefined || flushLsn > this.#timeline.state.flushLsn) return;
    this.#slot.advance(flushLsn);
    this.#timeline.wakeManager();
  }
}

type SlotPosition = Parameters<SlotLease["advance"]>[0];

// A standby without an xmin still sends the current epoch beside the 0.
function withoutBareEpoch(xid: bigint): bigint {
  return (xid & 0xffff_ffffn) === 0n ? 0n : xid;
}
