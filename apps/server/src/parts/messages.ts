/**
 * What the all-in-one and its child processes say to each other over the IPC channel.
 *
 * The channel uses the structured clone algorithm, so bigint passes as it is. Both sides run the same build; still
 * the receiver checks the outer shape, because a message that is not understood must not become `undefined` in a
 * status page.
 */
import type { DivergenceResult } from "@millrace/wal-proposer";

import type { BridgeReport } from "../status/cluster-status.js";

/** An acceptor listens; addresses are the real ones, also when port 0 was asked. */
export interface AcceptorReady {
  readonly type: "ready";
  readonly part: "acceptor";
  readonly nodeId: bigint;
  readonly listenPg: string;
  readonly listenHttp: string;
}

/** The bridge runs; it may still be waiting for PostgreSQL or for a quorum. */
export interface BridgeReady {
  readonly type: "ready";
  readonly part: "bridge";
}

/** The bridge's positions, sent once a second and at each change of state. */
export interface BridgeStatusMessage {
  readonly type: "bridge-status";
  readonly status: BridgeReport;
}

/** The bridge has ended, and its process is about to; `reason` is that of wal-proposer's `BridgeEnd`. */
export interface BridgeEndedMessage {
  readonly type: "bridge-ended";
  readonly reason: string;
  /** The same for a person. */
  readonly detail: string;
  /** How the comparison of logs had ended, if it had. */
  readonly divergence: DivergenceResult | undefined;
}

/** From a child to its parent. */
export type ChildMessage = AcceptorReady | BridgeReady | BridgeStatusMessage | BridgeEndedMessage;

/** From the parent to a child: end the orderly way. */
export interface StopMessage {
  readonly type: "stop";
}

/** From the parent to the bridge: PostgreSQL is about to end, so your own end is no failure. */
export interface ExpectEndMessage {
  readonly type: "expect-end";
}

/** True when `value` has the outer shape of a message from a child. */
export function isChildMessage(value: unknown): value is ChildMessage {
  const type = (value as { type?: unknown } | null | undefined)?.type;
  return type === "ready" || type === "bridge-status" || type === "bridge-ended";
}

/** True when `value` asks this process to end. */
export function isStopMessage(value: unknown): value is StopMessage {
  return (value as { type?: unknown } | null | undefined)?.type === "stop";
}

/** True when `value` says that the end of this process is expected. */
export function isExpectEndMessage(value: unknown): value is ExpectEndMessage {
  return (value as { type?: unknown } | null | undefined)?.type === "expect-end";
}
