/**
 * What this package has to say to whoever watches: plain objects on one diagnostics channel, no logging.
 *
 * A notice is a fact with its numbers, made where it happens and only if somebody listens. Subscribers run
 * synchronously, so they should be quick; what they throw does not reach the proposer.
 */
import { channel } from "node:diagnostics_channel";
import type { Lsn } from "@millrace/lsn";
import type { AlarmCode, ProposerEffect } from "./proposer-events.js";

/** Everything that a watcher may want to log or count; see ProposerNotice. */
export const DIAGNOSTICS_CHANNEL = "millrace:wal-proposer";
/** What is published on the diagnostics channel. */
export type ProposerNotice =
  | { readonly type: "acceptor-connecting"; readonly acceptor: string }
  | { readonly type: "acceptor-open"; readonly acceptor: string }
  | { readonly type: "acceptor-closed"; readonly acceptor: string; readonly reason: string }
  | { readonly type: "elected"; readonly term: bigint; readonly termStartLsn: Lsn }
  | {
      readonly type: "catch-up-failed";
      readonly acceptor: string;
      readonly fromLsn: Lsn;
      readonly error: unknown;
    }
  /** PostgreSQL no longer has this WAL; the acceptor with this index is asked. */
  | { readonly type: "donor"; readonly acceptor: number; readonly fromLsn: Lsn }
  | { readonly type: "catch-up-finished"; readonly acceptor: string }
  | {
      readonly type: "acceptor-state";
      readonly acceptor: string;
      readonly from: string;
      readonly to: string;
      readonly reason: string;
    }
  | { readonly type: "alarm"; readonly acceptor: string; readonly code: AlarmCode; readonly detail: string }
  | { readonly type: "campaign"; readonly term: bigint }
  | { readonly type: "ended"; readonly reason: string; readonly detail: string }
  | { readonly type: "warning"; readonly warning: string; readonly detail: string }
  /** An acceptor has been told of one of PostgreSQL's timelines. */
  | { readonly type: "timeline-registered"; readonly detail: string }
  | { readonly type: "bridge-state"; readonly from: string; readonly to: string };

const notices = channel(DIAGNOSTICS_CHANNEL);

/** Publishes on the diagnostics channel; free of cost while nobody listens. */
export function publishNotice(notice: ProposerNotice): void {
  if (notices.hasSubscribers) notices.publish(notice);
}

/** The effects of a core that are only there to be told. */
type TellingEffect = ProposerEffect & { readonly type: "alarm" | "transition" | "campaign" };

/** The notice for such an effect. @param nameOf gives an acceptor's host:port */
export function effectNotice(effect: TellingEffect, nameOf: (acceptor: number) => string): ProposerNotice {
  if (effect.type === "campaign") return { type: "campaign", term: effect.term };
  const acceptor = nameOf(effect.acceptor);
  if (effect.type === "alarm") return { type: "alarm", acceptor, code: effect.code, detail: effect.detail };
  const { from, to, reason } = effect;
  return { type: "acceptor-state", acceptor, from, to, reason };
}
