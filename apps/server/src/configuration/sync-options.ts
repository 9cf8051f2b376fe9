/**
 * Options of `millrace sync`. Those it shares with the bridge are the bridge's.
 */
import { BRIDGE_OPTIONS } from "./bridge-options.js";
import type { BridgeConfiguration } from "./bridge-options.js";
import type { OptionTable } from "./option.js";
import { SHARED_OPTIONS } from "./shared-options.js";
import type { SharedConfiguration } from "./shared-options.js";
import { flag, numberBetween } from "./values.js";

/** The configuration of a synchronisation. */
export interface SyncConfiguration
  extends
    SharedConfiguration,
    Pick<
      BridgeConfiguration,
      | "acceptors"
      | "tenant"
      | "timeline"
      | "acceptorTokenFile"
      | "reconnectMs"
      | "connectionTimeoutMs"
      | "protoVersion"
    > {
  readonly timeoutMs: number;
  readonly json: boolean;
}

export const SYNC_OPTIONS: OptionTable<SyncConfiguration> = {
  acceptors: BRIDGE_OPTIONS.acceptors,
  tenant: BRIDGE_OPTIONS.tenant,
  timeline: BRIDGE_OPTIONS.timeline,
  acceptorTokenFile: BRIDGE_OPTIONS.acceptorTokenFile,
  timeoutMs: {
    placeholder: "<ms>",
    description: "how long the acceptors may take to agree",
    allowed: "a whole number from 1000 to 3600000",
    schema: numberBetween(1000, 3_600_000),
    default: 60_000,
  },
  reconnectMs: BRIDGE_OPTIONS.reconnectMs,
  connectionTimeoutMs: BRIDGE_OPTIONS.connectionTimeoutMs,
  protoVersion: BRIDGE_OPTIONS.protoVersion,
  json: {
    description: "print one JSON document instead of text",
    allowed: "on or off",
    schema: flag,
    default: false,
  },
  ...SHARED_OPTIONS,
};
