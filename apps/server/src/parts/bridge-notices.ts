/**
 * What a proposer tells on its diagnostics channel, as lines of a log with a level each.
 */
import { subscribe } from "node:diagnostics_channel";

import { formatLsn, toLsn } from "@millrace/lsn";
import { DIAGNOSTICS_CHANNEL } from "@millrace/wal-proposer";
import type { ProposerNotice } from "@millrace/wal-proposer";

import { describeError } from "../errors.js";
import type { Logger } from "../logging.js";

const LEVELS: Readonly<Record<ProposerNotice["type"], "debug" | "info" | "warn" | "error">> = {
  alarm: "error",
  warning: "warn",
  "acceptor-closed": "warn",
  "catch-up-failed": "warn",
  elected: "info",
  campaign: "info",
  "bridge-state": "info",
  "catch-up-finished": "info",
  "timeline-registered": "info",
  donor: "info",
  ended: "info",
  "acceptor-connecting": "debug",
  "acceptor-open": "debug",
  "acceptor-state": "debug",
};

function showFact(name: string, value: unknown): unknown {
  if (value instanceof Error) return describeError(value);
  if (typeof value !== "bigint") return value;
  return name.endsWith("Lsn") ? formatLsn(toLsn(value)) : String(value);
}

/** Logs everything that proposers in this process have to say, for as long as it runs. */
export function logNotices(logger: Logger): void {
  subscribe(DIAGNOSTICS_CHANNEL, (message) => {
    const notice = message as ProposerNotice;
    const { type, ...facts } = notice;
    const shown = Object.fromEntries(
      Object.entries(facts).map(([key, value]) => [key, showFact(key, value)]),
    );
    logger[LEVELS[type]](shown, type);
  });
}
