/**
 * START_WAL_PUSH: the stream in which a proposer writes WAL, from CopyBothResponse to the closed connection.
 *
 *   socket -> NetworkReader -> ProposerQueue -> acceptor task -> reply queue -> network writer -> socket
 *
 * Reader and writer are independent, so that a peer that only writes cannot deadlock this side, and every queue is
 * bounded, so that a slow disk or a peer that does not read is felt at the socket. What this file keeps true:
 * - nothing is looked at before CopyBothResponse has been sent, so every failure is reported inside the stream;
 * - the first message must be a greeting, and only a greeting for the connection's own ids may create a timeline;
 * - the timeline's gate is held from lookup to the end of the acceptor task, and the task is always awaited before
 *   the reason is reported: a deleted timeline has no disk access under way;
 * - the input queue's end is how the task is told to stop; on shutdown it drains what was received first.
 *
 * After handle_start_wal_push of Neon's safekeeper.
 */
import { channel } from "@millrace/duplex";
import type { CopyReader, CopyWriter } from "@millrace/pg-wire";
import type { AcceptorMessage, ProposerGreeting } from "@millrace/wal-protocol";

import { runAcceptorTask } from "./acceptor-task.js";
import type { FlushPolicy } from "./acceptor-task.js";
import type { Clock } from "./clock.js";
import type { StartWalPush } from "./command-grammar.js";
import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import { AcceptorError, isAcceptorError, isOperatingError } from "./errors.js";
import { FirstSignal } from "./first-signal.js";
import type { AcceptorMeasures } from "./measures.js";
import { NetworkReader } from "./network-reader.js";
import { FEEDBACK_MARKER, REPLY_QUEUE_CAPACITY, writeNetwork } from "./network-writer.js";
import type { FeedbackMarker } from "./network-writer.js";
import { MESSAGE_QUEUE_CAPACITY, ProposerQueue } from "./proposer-queue.js";
import type { QueueSampler } from "./queue-sampler.js";
import { decideStreamEnd, streamEndOfError } from "./stream-end.js";
import type { StreamEnd, TaskEnd } from "./stream-end.js";
import type { Timeline } from "./timeline.js";
import type { TimelineRegistry } from "./timeline-registry.js";

/** Time given to a stream to drain its queues when the node stops, of the ten seconds a stop may take. */
export const DRAIN_TIMEOUT_MS = 5000;

/** What is the same for every push stream of a node. */
export interface PushSettings {
  readonly flush: FlushPolicy;
  /** Bound of the message queue in bytes, besides its 256 messages. */
  readonly queueBytes: number;
  readonly idleTimeoutMs: number;
  /** False: no greeting creates a timeline, whatever the command says. */
  readonly allowTimelineCreation: boolean;
  readonly measures: AcceptorMeasures;
  readonly queues: QueueSampler;
}

/** One push stream. */
export interface PushStream {
  readonly command: StartWalPush;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly connectionId: number;
  /** The two halves of the connection, in COPY mode; used by nobody else until the promise settles. */
  readonly reader: CopyReader;
  readonly writer: CopyWriter;
  readonly timelines: TimelineRegistry;
  readonly settings: PushSettings;
  readonly clock: Clock;
  /** Aborted when the node stops. */
  readonly stopSignal: AbortSignal;
}

/** A stream that is over: why, and what may still be pending on the socket. */
export interface EndedPush {
  readonly end: StreamEnd;
  /** Settles once neither half of the connection is in use; only certain to happen after the connection is closed. */
  readonly idle: Promise<unknown>;
}

/**
 * Serves one push stream until it ends. The acceptor task has finished by then; nothing was reported to the peer.
 * Does not throw.
 */
export async function receiveWal(stream: PushStream): Promise<EndedPush> {
  const place: EventPlace = {
    connectionId: stream.connectionId,
    tenantId: stream.tenantId,
    timelineId: stream.timelineId,
  };
  const reader = new NetworkReader({
    reader: stream.reader,
    version: stream.command.protocolVersion,
    clock: stream.clock,
    idleTimeoutMs: stream.settings.idleTimeoutMs,
    place,
  });
  publish(() => ({
    ...place,
    type: "stream-started",
    level: "info",
    protocolVersion: stream.command.protocolVersion,
  }));
  using stopped = new FirstSignal<StreamEnd>();
  stopped.onAbort(stream.stopSignal, { kind: "shutting-down" });
  const reading = reader.first();
  const first = await Promise.race([reading, stopped.promise.then((end) => ({ end }))]);
  if ("end" in first) return { end: first.end, idle: reading };
  try {
    if (first.message.type !== "greeting") {
      throw new AcceptorError(
        "ERR_ACCEPTOR_NO_GREETING",
        `unexpected message "${first.message.type}" instead of greeting`,
      );
    }
    const timeline = await findTimeline(stream, first.message);
    if (timeline === undefined) return { end: { kind: "timeline-no-create" }, idle: Promise.resolve() };
    // From here on a deletion waits for this stream; one that was quicker makes this throw.
    const guard = timeline.enter();
    try {
      stopped.onAbort(timeline.cancelSignal, { kind: "cancelled" });
      return await joinTasks(stream, timeline, reader, first.message, stopped);
    } finally {
      guard.release();
    }
  } catch (error) {
    return { end: streamEndOfError(error), idle: Promise.resolve() };
  }
}

async function findTimeline(stream: PushStream, greeting: ProposerGreeting): Promise<Timeline | undefined> {
  const { tenantId, timelineId, timelines } = stream;
  if (greeting.tenantId !== tenantId || greeting.timelineId !== timelineId) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_GREETING_MISMATCH",
      `greeting is for ${greeting.tenantId}/${greeting.timelineId}, the connection for ${tenantId}/${timelineId}`,
    );
  }
  if (stream.command.allowTimelineCreation && stream.settings.allowTimelineCreation) {
    const { pgVersion, systemId, segmentBytes } = greeting;
    return await timelines.create({ tenantId, timelineId, pgVersion, systemId, segmentBytes });
  }
  try {
    return await timelines.load(tenantId, timelineId);
  } catch (error) {
    if (isAcceptorError(error, "ERR_ACCEPTOR_TIMELINE_NOT_FOUND")) return undefined;
    throw error;
  }
}

async function joinTasks(
  stream: PushStream,
  timeline: Timeline,
  reader: NetworkReader,
  greeting: ProposerGreeting,
  stopped: FirstSignal<StreamEnd>,
): Promise<EndedPush> {
  const queue = new ProposerQueue(MESSAGE_QUEUE_CAPACITY, stream.settings.queueBytes);
  const [repliesIn, repliesOut] = channel<AcceptorMessage | FeedbackMarker>(REPLY_QUEUE_CAPACITY);
  using feedback = timeline.feedback.subscribe(() => repliesIn.trySend(FEEDBACK_MARKER));
  const sampled = stream.settings.queues.watch(queue);
  queue.trySend(greeting); // the queue is empty: there is room
  const task = endOfTask(
    runAcceptorTask({
      target: timeline,
      queue,
      replies: repliesIn,
      connectionId: stream.connectionId,
      clock: stream.clock,
      flush: stream.settings.flush,
      measures: stream.settings.measures,
    }),
    sampled,
  );
  const reading = reader.run(queue);
  const version = stream.command.protocolVersion;
  const writing = writeNetwork({ replies: repliesOut, feedback, writer: stream.writer, version });

  let network = await Promise.race([reading, writing, stopped.promise]);
  queue.close();
  if (network === undefined || network.kind === "shutting-down") {
    // The task has ended, or has the rest of its queue to work off. Either way its replies still go out, unless the
    // peer does not read them in time.
    using patience = new FirstSignal<StreamEnd>();
    patience.after(stream.clock, DRAIN_TIMEOUT_MS, { kind: "clean" });
    patience.onAbort(timeline.cancelSignal, { kind: "cancelled" });
    const drained = await Promise.race([writing, patience.promise]);
    if (drained !== undefined && drained.kind !== "clean") network ??= drained;
  }
  repliesOut.close();
  const taskEnd = await task;
  if (taskEnd.kind === "panicked") timeline.markBroken(taskEnd.error);
  return { end: decideStreamEnd(network, taskEnd), idle: Promise.all([reading, writing]) };
}

async function endOfTask(running: Promise<void>, sampled: Disposable): Promise<TaskEnd> {
  try {
    await running;
    return { kind: "finished" };
  } catch (error) {
    return { kind: isOperatingError(error) ? "failed" : "panicked", error };
  } finally {
    sampled[Symbol.dispose]();
  }
}
