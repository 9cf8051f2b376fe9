/**
 * The background half of a writer: takes segments in order, writes each until it succeeds, says so, gives the buffer back.
 *
 * One write is in flight at a time, so that segments are confirmed in the order of the file. What fails for good ends the
 * task; the segments that are left stay readable. A write that was started before a stop and succeeds is confirmed.
 */
import type { IoBuffer } from "@millrace/aligned-buffers";
import type { DuplexEnd } from "@millrace/duplex";
import type { FlushProbe } from "./flush-probe.js";
import { untilDone } from "./retry.js";
import type { RetryOptions } from "./retry.js";
import type { Segment } from "./segments.js";

/** What a flush sends back for each segment: a buffer of the writer's, or null for one that was not. */
export type Returned = IoBuffer | null;

/** What the task needs. */
export interface FlushContext {
  /** Writes a segment, once. */
  readonly write: (segment: Segment) => Promise<void>;
  readonly end: DuplexEnd<Returned, Segment>;
  readonly retry: RetryOptions;
  readonly probe: FlushProbe | undefined;
  /** The oldest segment is in the file. */
  readonly onConfirmed: () => void;
}

/**
 * Runs until the writer closes its side.
 *
 * @throws the error that is fatal, or the reason of `retry.stop`
 */
export async function runFlush(context: FlushContext): Promise<void> {
  const { write, end, retry, probe, onConfirmed } = context;
  for await (const segment of end) {
    await probe?.pass("started", segment);
    probe?.mark("started", segment);
    await untilDone(retry, () => write(segment));
    await probe?.pass("written", segment);
    probe?.mark("written", segment);
    await probe?.pass("confirmed", segment);
    onConfirmed();
    giveBack(end, segment);
    probe?.mark("confirmed", segment);
  }
}

/** To the writer; if nobody is there any more, to the arena. */
function giveBack(end: DuplexEnd<Returned, Segment>, { buffer, isOwn }: Segment): void {
  if (!isOwn) buffer[Symbol.dispose]();
  if (end.trySend(isOwn ? buffer : null) !== "sent" && isOwn) buffer[Symbol.dispose]();
}
