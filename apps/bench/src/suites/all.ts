/**
 * Every suite, in the order in which a run without names runs them: cheap ones first.
 */
import type { Suite } from "../suite.js";
import { acceptorSuite } from "./acceptor.js";
import { aioSuite } from "./aio.js";
import { channelSuite } from "./channel.js";
import { checksumSuite } from "./checksum.js";
import { commitSuite } from "./commit.js";
import { decodeSuite } from "./decode.js";
import { memorySuite } from "./memory.js";
import { poolSuite } from "./pool.js";
import { redoSuite } from "./redo.js";
import { scanSuite } from "./scan.js";
import { walWriteSuite } from "./wal-write.js";
import { writerSuite } from "./writer.js";

export const SUITES: readonly Suite[] = [
  checksumSuite,
  channelSuite,
  memorySuite,
  poolSuite,
  aioSuite,
  writerSuite,
  walWriteSuite,
  scanSuite,
  decodeSuite,
  redoSuite,
  acceptorSuite,
  commitSuite,
];
