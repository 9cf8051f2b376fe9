/**
 * What a pool has to say without anybody having asked: one diagnostics channel.
 *
 * The package never logs. It publishes tagged objects here, synchronously, in the thread whose operation they are about, and
 * only builds one when somebody listens there. A listener must neither throw nor block, nor use the pool from inside the call.
 */
import { channel } from "node:diagnostics_channel";
import type { Channel } from "node:diagnostics_channel";

import type { Fork, Relation } from "./tag.js";

/** Name of the channel on which `BufferEvent`s are published. */
export const BUFFER_CHANNEL = "millrace:buffer-manager";

/** Everything this package publishes. `level` is what a log should use; `message` says it in words. */
export type BufferEvent =
  /**
   * A page was read and is not good; one event a page. "failed": the read fails, "zeroed": it was made zeros, "accepted":
   * only its checksum is wrong, which was allowed.
   */
  | {
      readonly type: "bad-page";
      readonly level: "error" | "warn";
      readonly message: string;
      readonly relation: Relation;
      readonly fork: Fork;
      readonly block: number;
      readonly outcome: "failed" | "zeroed" | "accepted";
      readonly isChecksumWrong: boolean;
    }
  /** A read succeeded with pages that were made zeros or accepted; one event a read. */
  | { readonly type: "read-warning"; readonly level: "warn"; readonly message: string }
  /** Writing pages failed, and had failed the time before: the error may be permanent. */
  | {
      readonly type: "write-failed-again";
      readonly level: "warn";
      readonly message: string;
      readonly relation: Relation;
      readonly fork: Fork;
      /** The first of them. */
      readonly block: number;
      readonly blocks: number;
    }
  /** A round of the background writer failed; it goes on after a pause. */
  | {
      readonly type: "background-writer-failed";
      readonly level: "error";
      readonly message: string;
      readonly error: unknown;
    };

const events: Channel<unknown, BufferEvent> = channel(BUFFER_CHANNEL) as Channel<unknown, BufferEvent>;

/** Whether anybody listens in this thread. */
export function hasListeners(): boolean {
  return events.hasSubscribers;
}

/** Publishes what `event` builds, if anybody listens. */
export function publish(event: () => BufferEvent): void {
  if (events.hasSubscribers) events.publish(event());
}
