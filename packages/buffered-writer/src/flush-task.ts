/**
 * The background half of a writer: takes segments in order, writes each until it succeeds, says so, gives the buffer back.
 *
 * Up to `depth` writes are in flight. They are started in the order of the file and confirmed in it: one that is done before
 * an older one waits for that. What fails for good ends the task; the segments that are left stay readable, also those that
 * are in the file behind the failed one. A write that was started before a stop and succeeds is confirmed.
 */
import type { IoBuffer } from "@millrace/aligned-buffers";
import { CLOSED } from "@millrace/duplex";
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
  /** Writes in flight, at most; at least 1. */
  readonly depth: number;
  readonly end: DuplexEnd<Returned, Segment>;
  readonly retry: RetryOptions;
  readonly probe: FlushProbe | undefined;
  /** The oldest segment is in the file. */
  readonly onConfirmed: () => void;
  /** A write has failed for good, or was not started because of `retry.stop`. Has to stop everything. */
  readonly onFailed: (error: unknown) => void;
}

/** Runs until the writer closes its side, or everything has stopped and no write is in flight. Never rejects. */
export async function runFlush(context: FlushContext): Promise<void> {
  const { depth, end, retry, probe } = context;
  // Those started, oldest first: whether each is confirmed.
  const started: Promise<boolean>[] = [];
  let newest: Promise<boolean> = Promise.resolve(true);
  for (;;) {
    if (started.length === depth) await started.shift();
    const segment = await end.recv();
    if (segment === CLOSED) break;
    await probe?.pass("started", segment);
    if (retry.stop.aborted) break;
    probe?.mark("started", segment);
    newest = flushOne(context, segment, newest);
    started.push(newest);
  }
  await Promise.all(started);
}

/** Settles with whether the segment is confirmed, which it is not if the one before is not. */
async function flushOne(context: FlushContext, segment: Segment, before: Promise<boolean>): Promise<boolean> {
  const { write, end, retry, probe, onConfirmed, onFailed } = context;
  try {
    await untilDone(retry, () => write(segment));
  } catch (error) {
    onFailed(error);
    return false;
  }
  await probe?.pass("written", segment);
  probe?.mark("written", segment);
  if (!(await before)) return false;
  await probe?.pass("confirmed", segment);
  onConfirmed();
  giveBack(end, segment);
  probe?.mark("confirmed", segment);
  return true;
}

/** To the writer; if nobody is there any more, to the arena. */
function giveBack(end: DuplexEnd<Returned, Segment>, { buffer, isOwn }: Segment): void {
  if (!isOwn) buffer[Symbol.dispose]();
  if (end.trySend(isOwn ? buffer : null) !== "sent" && isOwn) buffer[Symbol.dispose]();
}
