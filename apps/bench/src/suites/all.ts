/**
 * Every suite, in the order in which a run without names runs them: cheap ones first.
 */
import type { Suite } from "../suite.js";
import { acceptorSuite } from "./acceptor.js";
import { channelSuite } from "./channel.js";
import { checksumSuite } from "./checksum.js";
import { commitSuite } from "./commit.js";
import { decodeSuite } from "./decode.js";

export const SUITES: readonly Suite[] = [
  checksumSuite,
  channelSuite,
  decodeSuite,
  acceptorSuite,
  commitSuite,
];
