/**
 * What happens to streams that no caller would hear of otherwise: one diagnostics channel.
 *
 * The package never logs and never lets go of anything behind its owner's back. A stream that was forgotten is only
 * reported, as its pins belong to a scope or to nobody; an error of a read that was thrown away unseen is only reported,
 * as whoever reads the block next will meet it.
 */
import { channel } from "node:diagnostics_channel";
import type { Channel } from "node:diagnostics_channel";
import type { StreamCore } from "./stream-core.js";

/** Name of the channel on which `StreamDiagnostic`s are published. */
export const STREAM_CHANNEL = "millrace:read-stream";

/** Everything this package publishes. */
export type StreamDiagnostic =
  /** A stream was garbage collected with buffers still pinned: somebody forgot `end`. */
  | { readonly type: "leaked"; readonly pinned: number; readonly inProgress: number }
  /** Reading ahead failed, and the stream was reset or ended before anybody asked for the block. */
  | { readonly type: "discarded-error"; readonly error: unknown };

const diagnostics = channel(STREAM_CHANNEL) as Channel<unknown, StreamDiagnostic>;

/** Publishes `diagnostic`. */
export function publish(diagnostic: StreamDiagnostic): void {
  if (diagnostics.hasSubscribers) diagnostics.publish(diagnostic);
}

/** The part of a core that says what it holds. */
type Held = Pick<StreamCore<unknown>, "queue" | "ios">;

const forgotten = new FinalizationRegistry<Held>(({ queue, ios }) => {
  const pinned = queue.pinned + queue.forwarded;
  if (pinned > 0) publish({ type: "leaked", pinned, inProgress: ios.inProgress });
});

/** Reports `stream` if it is forgotten while pins are held in its `core`, which must not refer to it. */
export function watch(stream: object, core: Held): void {
  forgotten.register(stream, core);
}
