/**
 * What happens inside an acceptor, for whoever wants to log or count it: one diagnostics channel.
 *
 * The package never logs. It publishes tagged objects here, synchronously, and only builds one when somebody
 * listens. A listener must neither throw nor block, and must not change anything from inside the call.
 */
import { channel } from "node:diagnostics_channel";
import type { Channel } from "node:diagnostics_channel";

/** Name of the channel on which `AcceptorEvent`s are published. */
export const ACCEPTOR_CHANNEL = "millrace:wal-acceptor";

/** Where something happened; the ids are absent before a connection has named them. */
export interface EventPlace {
  readonly connectionId?: number | undefined;
  readonly tenantId?: string | undefined;
  readonly timelineId?: string | undefined;
}

/** Everything this package publishes. `level` is what a log should use. */
export type AcceptorEvent = EventPlace &
  /** What runs the disk I/O of a node, and why not what would be better. */
  (
    | {
        readonly type: "disk-io";
        readonly level: "info" | "warn";
        readonly method: string;
        readonly fallbacks: readonly { readonly method: string; readonly reason: string }[];
      }
    | { readonly type: "connection-opened"; readonly level: "debug" }
    | { readonly type: "connection-closed"; readonly level: "debug" }
    | { readonly type: "connection-failed"; readonly level: "info" | "error"; readonly error: unknown }
    | {
        readonly type: "command-failed";
        readonly level: "info";
        readonly command: string;
        readonly error: unknown;
      }
    | { readonly type: "stream-started"; readonly level: "info"; readonly protocolVersion: number }
    /** A standby has to wait at `lsn`: from there on the WAL is of a PostgreSQL timeline that nobody registered. */
    | { readonly type: "pg-timeline-unknown"; readonly level: "warn"; readonly lsn: string }
    | { readonly type: "reader-started"; readonly level: "info"; readonly startLsn: string }
    | {
        readonly type: "stream-ended";
        readonly level: "info" | "error";
        readonly reason: string;
        readonly error: unknown;
      }
    /** The acceptor task did not take a message for so long; reported once it did. */
    | { readonly type: "slow-queue"; readonly level: "warn"; readonly blockedMs: number }
    | { readonly type: "timeline-created"; readonly level: "info" }
    | { readonly type: "timeline-deleted"; readonly level: "info" }
    | { readonly type: "timeline-unloadable"; readonly level: "error"; readonly error: unknown }
    | { readonly type: "timeline-broken"; readonly level: "error"; readonly error: unknown }
    /** Segments that nobody needs any more were removed. */
    | { readonly type: "wal-removed"; readonly level: "info"; readonly segments: number }
    | { readonly type: "wal-removal-failed"; readonly level: "error"; readonly error: unknown }
    /** A slot that nobody used for the configured time was dropped. */
    | { readonly type: "slot-expired"; readonly level: "warn"; readonly slot: string }
    | { readonly type: "background-save-failed"; readonly level: "error"; readonly error: unknown }
  );

const events: Channel<unknown, AcceptorEvent> = channel(ACCEPTOR_CHANNEL) as Channel<unknown, AcceptorEvent>;

/** Publishes what `event` builds, if anybody listens. */
export function publish(event: () => AcceptorEvent): void {
  if (events.hasSubscribers) events.publish(event());
}
