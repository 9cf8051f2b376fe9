/**
 * Why a WAL stream ended, what the peer is told about it, and which of several reasons wins.
 *
 * A push stream joins a network reader, a network writer and an acceptor task, and more than one of them may fail at
 * the same time. `decideStreamEnd` is the one place that ranks their results; `streamEndReport` is the one table from
 * reason to bytes. Both are pure. After any end the connection is closed: COPY mode never returns to the command loop.
 *
 * The table is that of Neon's safekeeper, except that errors keep their own SQLSTATE where one fits better than XX000
 * (disk full, I/O, too many connections, shutdown), and that a closing node says so.
 */
import { SQLSTATE, WireError } from "@millrace/pg-wire";
import type { ErrorFields } from "@millrace/pg-wire";

import { AcceptorError, isAcceptorError } from "./errors.js";

/** The reason for which a stream ended. */
export type StreamEnd =
  /** Both queues closed without any error. */
  | { readonly kind: "clean" }
  /** This side has nothing more to send; the message contains "ending streaming". */
  | { readonly kind: "server-initiated"; readonly message: string }
  | { readonly kind: "copy-done" }
  | { readonly kind: "copy-fail"; readonly message: string }
  /** Terminate, end of the socket, or an I/O error; `error` is absent for the first two. */
  | { readonly kind: "disconnected"; readonly reason: string; readonly error?: unknown }
  /** No data for the idle limit. */
  | { readonly kind: "idle-timeout"; readonly idleMs: number }
  /** The timeline is absent and the proposer forbids creating it. */
  | { readonly kind: "timeline-no-create" }
  /** The timeline is being deleted. */
  | { readonly kind: "cancelled" }
  | { readonly kind: "shutting-down" }
  | { readonly kind: "failed"; readonly error: unknown };

/** How the acceptor task ended. */
export type TaskEnd =
  | { readonly kind: "finished" }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "panicked"; readonly error: unknown };

/** What goes to the peer, and how a log should treat it. */
export interface StreamEndReport {
  readonly send: "nothing" | "copy-done" | ErrorFields;
  /** `now`: the socket is dropped without waiting for a write; `graceful`: what is queued is sent first. */
  readonly close: "now" | "graceful";
  readonly level: "info" | "error";
}

/**
 * Ranks the results of a stream whose acceptor task was started: the network's reason first, then the task's error,
 * then its crash. The caller has awaited the task, so that no disk access is left behind whichever reason wins.
 *
 * @param network what the network halves, or the timeline's or node's stop signal, reported first; `undefined` when
 *   they only ended because the task had
 */
export function decideStreamEnd(network: StreamEnd | undefined, task: TaskEnd): StreamEnd {
  if (network !== undefined) return network;
  switch (task.kind) {
    case "finished":
      return { kind: "clean" };
    case "failed":
      if (isAcceptorError(task.error, "ERR_ACCEPTOR_CANCELLED")) return { kind: "cancelled" };
      return { kind: "failed", error: new Error("WAL acceptor", { cause: task.error }) };
    case "panicked":
    default:
      return {
        kind: "failed",
        error: new AcceptorError("ERR_ACCEPTOR_TASK_PANICKED", "WalAcceptor task panicked", {
          cause: task.error,
        }),
      };
  }
}

/** Turns an error of the network halves into a reason: a failed socket is a disconnect, anything else a failure. */
export function streamEndOfError(error: unknown): StreamEnd {
  if (error instanceof WireError && (error.code === "ERR_WIRE_IO" || error.code === "ERR_WIRE_CLOSED")) {
    return { kind: "disconnected", reason: causeChain(error), error };
  }
  if (isAcceptorError(error, "ERR_ACCEPTOR_CANCELLED")) return { kind: "cancelled" };
  if (isAcceptorError(error, "ERR_ACCEPTOR_SHUTTING_DOWN")) return { kind: "shutting-down" };
  return { kind: "failed", error };
}

/** What the peer gets to see of `end`. */
export function streamEndReport(end: StreamEnd): StreamEndReport {
  switch (end.kind) {
    case "server-initiated":
      return graceful(errorFields(SQLSTATE.successfulCompletion, end.message));
    case "copy-done":
      return graceful("copy-done");
    case "copy-fail":
      return graceful(errorFields(SQLSTATE.successfulCompletion, `terminated by CopyFail: ${end.message}`));
    case "clean":
    case "timeline-no-create":
      return graceful("nothing");
    case "disconnected":
      return end.error === undefined ? graceful("nothing") : { send: "nothing", close: "now", level: "info" };
    case "idle-timeout":
    case "cancelled":
      // A write could block for as long as the peer likes; whoever deletes the timeline must not wait for it.
      return { send: "nothing", close: "now", level: "info" };
    case "shutting-down":
      return graceful({
        severity: "FATAL",
        code: SQLSTATE.adminShutdown,
        message: "terminating connection: the acceptor is shutting down",
      });
    case "failed":
    default:
      return { send: errorFieldsOf(end.error), close: "graceful", level: "error" };
  }
}

/** A few words for logs: the kind, and what is known beyond it. */
export function streamEndReason(end: StreamEnd): string {
  switch (end.kind) {
    case "server-initiated":
    case "copy-fail":
      return `${end.kind}: ${end.message}`;
    case "disconnected":
      return `${end.kind}: ${end.reason}`;
    case "idle-timeout":
      return `nothing received for ${end.idleMs} ms`;
    case "failed":
      return causeChain(end.error);
    case "clean":
    case "copy-done":
    case "timeline-no-create":
    case "cancelled":
    case "shutting-down":
    default:
      return end.kind;
  }
}

/**
 * The ErrorResponse for an error: severity ERROR, the whole chain of causes as the message, and the SQLSTATE of the
 * outermost AcceptorError in the chain, XX000 when there is none.
 */
export function errorFieldsOf(error: unknown): ErrorFields {
  return errorFields(sqlStateOf(error), causeChain(error));
}

/** An ErrorResponse of severity ERROR. */
export function errorFields(code: string, message: string): ErrorFields {
  return { severity: "ERROR", code, message };
}

/** Causes followed at most; a chain of ours has below five links, a cycle has no end. */
const CAUSES_MAX = 16;

/** The messages of an error and its causes, outermost first; one that the text already contains is left out. */
export function causeChain(error: unknown): string {
  let text = "";
  for (const link of causes(error)) {
    const message = link instanceof Error ? link.message : String(link);
    if (text === "") text = message;
    else if (message !== "" && !text.includes(message)) text += `: ${message}`;
  }
  return text === "" ? "unknown error" : text;
}

function sqlStateOf(error: unknown): string {
  for (const link of causes(error)) if (link instanceof AcceptorError) return link.sqlState;
  return SQLSTATE.internalError;
}

function* causes(error: unknown): Generator<unknown, void> {
  let link: unknown = error;
  for (let depth = 0; depth < CAUSES_MAX && link !== undefined && link !== null; depth += 1) {
    yield link;
    link = link instanceof Error ? link.cause : undefined;
  }
}

function graceful(send: StreamEndReport["send"]): StreamEndReport {
  return { send, close: "graceful", level: "info" };
}
