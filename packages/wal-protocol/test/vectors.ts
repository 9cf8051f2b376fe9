/**
 * Messages as Neon's own walproposer puts them on the wire or accepts them, next to what they mean.
 *
 * The proposer's messages were produced by the real walproposer, the acceptor's were accepted by it. They are the
 * yardstick: a codec that agrees with itself but not with these bytes is wrong. Version 2 leaves out generation and
 * configuration, so each version has its own expected message.
 */
import { toLsn } from "@millrace/lsn";
import { EMPTY_CONFIGURATION, NO_HOT_STANDBY_FEEDBACK } from "../src/index.js";
import type { AcceptorMessage, AppendRequestFields, ProposerMessage, ProtocolVersion } from "../src/index.js";

export type Vector =
  | {
      readonly name: string;
      readonly version: ProtocolVersion;
      readonly from: "proposer";
      readonly hex: string;
      readonly message: ProposerMessage;
    }
  | {
      readonly name: string;
      readonly version: ProtocolVersion;
      readonly from: "acceptor";
      readonly hex: string;
      readonly message: AcceptorMessage;
    };

const greeting = {
  type: "greeting",
  tenantId: "000102030405060708090a0b0c0d0e0f",
  timelineId: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
  configuration: EMPTY_CONFIGURATION,
  pgVersion: 170004,
  systemId: 0x1122334455667788n,
  segmentBytes: 16 * 1024 * 1024,
} as const;

const history = [
  { term: 0n, lsn: toLsn(0x3000000n) },
  { term: 2n, lsn: toLsn(0x3000060n) },
  { term: 5n, lsn: toLsn(0x3000100n) },
];
const elected = { type: "elected", term: 5n, startStreamingAt: toLsn(0x3000100n), history } as const;
export const APPEND_FIELDS: Omit<AppendRequestFields, "generation"> = {
  term: 5n,
  beginLsn: toLsn(0x3000100n),
  endLsn: toLsn(0x3000104n),
  commitLsn: toLsn(0x3000060n),
  truncateLsn: toLsn(0x3000000n),
};
const append = { type: "append-request", ...APPEND_FIELDS, walData: Buffer.from("77616c21", "hex") } as const;
const voteResponse = {
  type: "vote-response",
  term: 5n,
  voteGiven: true,
  flushLsn: toLsn(0x3000100n),
  truncateLsn: toLsn(0x3000000n),
  history: [{ term: 0n, lsn: toLsn(0x3000000n) }],
} as const;
const appendResponse = {
  type: "append-response",
  term: 5n,
  flushLsn: toLsn(0x3000104n),
  commitLsn: toLsn(0x3000100n),
  hotStandby: NO_HOT_STANDBY_FEEDBACK,
} as const;

export const V2_APPEND_HEADER =
  "610000000000000005000000000000000000000000000000000100030000000004010003000000006000000300000000000000030000000000000000000000000000000000000000";
export const V3_APPEND_HEADER =
  "610000000100000000000000050000000003000100000000000300010400000000030000600000000003000000";

export const VECTORS: readonly Vector[] = [
  {
    name: "proposer greeting",
    version: 2,
    from: "proposer",
    hex: "67000000000000000200000014980200000000000000000000000000000000008877665544332211a0a1a2a3a4a5a6a7a8a9aaabacadaeaf000102030405060708090a0b0c0d0e0f0100000000000001",
    message: greeting,
  },
  {
    name: "proposer greeting",
    version: 3,
    from: "proposer",
    hex: "6730303031303230333034303530363037303830393061306230633064306530660061306131613261336134613561366137613861396161616261636164616561660000000000000000000000000000029814112233445566778801000000",
    message: greeting,
  },
  {
    name: "vote-request",
    version: 2,
    from: "proposer",
    hex: "7600000000000000050000000000000000000000000000000000000000000000",
    message: { type: "vote-request", generation: 0, term: 5n },
  },
  {
    name: "vote-request",
    version: 3,
    from: "proposer",
    hex: "76000000010000000000000005",
    message: { type: "vote-request", generation: 1, term: 5n },
  },
  {
    name: "elected",
    version: 2,
    from: "proposer",
    hex: "650000000000000005000000000000000001000300000000030000000000000000000000000000030000000002000000000000006000000300000000050000000000000000010003000000000000000300000000",
    message: { ...elected, generation: 0 },
  },
  {
    name: "elected",
    version: 3,
    from: "proposer",
    hex: "65000000010000000000000005000000000300010000000003000000000000000000000000030000000000000000000002000000000300006000000000000000050000000003000100",
    message: { ...elected, generation: 1 },
  },
  {
    name: "append-request",
    version: 2,
    from: "proposer",
    hex: `${V2_APPEND_HEADER}77616c21`,
    message: { ...append, generation: 0 },
  },
  {
    name: "append-request",
    version: 3,
    from: "proposer",
    hex: `${V3_APPEND_HEADER}77616c21`,
    message: { ...append, generation: 1 },
  },
  {
    name: "acceptor greeting",
    version: 2,
    from: "acceptor",
    hex: "670000000000000004000000000000000100000000000000",
    message: { type: "greeting", nodeId: 1n, configuration: EMPTY_CONFIGURATION, term: 4n },
  },
  {
    name: "acceptor greeting",
    version: 3,
    from: "acceptor",
    hex: "670000000000000001000000010000000100000000000000016800154e000000000000000000000004",
    message: {
      type: "greeting",
      nodeId: 1n,
      configuration: { generation: 1, members: [{ nodeId: 1n, host: "h", port: 5454 }], newMembers: [] },
      term: 4n,
    },
  },
  {
    name: "vote-response",
    version: 2,
    from: "acceptor",
    hex: "7600000000000000050000000000000001000000000000000001000300000000000000030000000001000000000000000000000000000003000000000000000000000000",
    message: { ...voteResponse, generation: 0 },
  },
  {
    name: "vote-response",
    version: 3,
    from: "acceptor",
    hex: "7600000001000000000000000501000000000300010000000000030000000000000100000000000000000000000003000000",
    message: { ...voteResponse, generation: 1 },
  },
  {
    name: "append-response",
    version: 2,
    from: "acceptor",
    hex: "6100000000000000050000000000000004010003000000000001000300000000000000000000000000000000000000000000000000000000",
    message: { ...appendResponse, generation: 0 },
  },
  {
    name: "append-response",
    version: 3,
    from: "acceptor",
    hex: "6100000001000000000000000500000000030001040000000003000100000000000000000000000000000000000000000000000000",
    message: { ...appendResponse, generation: 1 },
  },
];
