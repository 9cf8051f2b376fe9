/**
 * The last part of a push stream: replies out of the queue, serialised, as CopyData.
 *
 * Also injects pageserver feedback: a report makes the last AppendResponse go out once more with the report attached,
 * which is how a proposer learns of it between two acknowledgements; before the first AppendResponse there is
 * nothing to attach it to and it is dropped. A subscription wakes the writer through the reply queue itself, with a
 * marker: one wait, no race of promises. When that queue is full the writer is busy and looks anyway.
 *
 * A peer that does not read stops this writer at the socket's high-water mark and then, through the full reply
 * queue, the acceptor task. Memory stays bounded and nobody else is delayed.
 */
import { CLOSED } from "@millrace/duplex";
import type { Receiver } from "@millrace/duplex";
import type { CopyWriter } from "@millrace/pg-wire";
import { serializeAcceptorMessage } from "@millrace/wal-protocol";
import type { AcceptorMessage, AppendResponse, ProtocolVersion } from "@millrace/wal-protocol";

import type { FeedbackSubscription } from "./feedback-hub.js";
import { streamEndOfError } from "./stream-end.js";
import type { StreamEnd } from "./stream-end.js";

/** Replies waiting for the socket at most; that of Neon's safekeeper. */
export const REPLY_QUEUE_CAPACITY = 16;

/** In the reply queue: "look at your subscription". */
export const FEEDBACK_MARKER = "feedback";
export type FeedbackMarker = typeof FEEDBACK_MARKER;

/** What one writer works with. */
export interface NetworkWriterOptions {
  readonly replies: Receiver<AcceptorMessage | FeedbackMarker>;
  readonly feedback: FeedbackSubscription;
  readonly writer: CopyWriter;
  readonly version: ProtocolVersion;
}

/**
 * Sends replies until their queue ends. Does not throw.
 *
 * @returns `undefined` when the queue ended and everything in it was handed to the socket, otherwise why not
 */
export async function writeNetwork(options: NetworkWriterOptions): Promise<StreamEnd | undefined> {
  const { replies, feedback, writer, version } = options;
  let last: AppendResponse | undefined;
  try {
    for (;;) {
      const item = replies.tryRecv() ?? (await replies.recv());
      if (item === CLOSED) return undefined;
      if (item !== FEEDBACK_MARKER) {
        if (item.type === "append-response") last = item;
        const drained = writer.send(serializeAcceptorMessage(item, version));
        if (drained !== undefined) await drained;
      }
      for (let report = feedback.take(); report !== undefined; report = feedback.take()) {
        if (last === undefined) continue;
        const drained = writer.send(serializeAcceptorMessage({ ...last, pageserver: report }, version));
        if (drained !== undefined) await drained;
      }
    }
  } catch (error) {
    return streamEndOfError(error);
  }
}
