/**
 * A proposer that knows one acceptor and has all of its WAL: what a START_WAL_PUSH stream can carry at most.
 *
 * It greets, is elected in a fresh term, and then sends append-requests of 128 KiB as fast as the socket takes them,
 * until the acceptor has acknowledged everything as durable. The commit position it tells is what was acknowledged,
 * as with a quorum of one.
 */
import { addBytes, distanceBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect } from "@millrace/pg-wire";
import type { CopyBothStream } from "@millrace/pg-wire";
import {
  appendRequestHeader,
  EMPTY_CONFIGURATION,
  MAX_APPEND_BYTES,
  parseAcceptorMessage,
  serializeProposerMessage,
} from "@millrace/wal-protocol";
import type { AcceptorMessage, ProposerMessage } from "@millrace/wal-protocol";

import { BenchError } from "./errors.js";

const VERSION = 3;

/** What to send and where. */
export interface PushOptions {
  readonly host: string;
  readonly port: number;
  /** 32 hexadecimal digits, for tenant and timeline alike; the acceptor creates it. */
  readonly timeline: string;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
  readonly startLsn: Lsn;
  /** From `startLsn` on, ending with a record. Lent: not to be changed while it is sent. */
  readonly wal: Uint8Array;
}

/** What came of it. */
export interface PushResult {
  /** From the first byte of the connection to the last acknowledgement. */
  readonly seconds: number;
  /** Acknowledgements of appends. */
  readonly replies: number;
}

async function nextMessage({ reader }: CopyBothStream): Promise<AcceptorMessage> {
  const event = reader.tryNext() ?? (await reader.next());
  if (event.type === "data") return parseAcceptorMessage(event.payload, VERSION);
  throw new BenchError("ERR_BENCH_PROGRAM", `the acceptor ended the stream (${event.type})`);
}

async function expectMessage<T extends AcceptorMessage["type"]>(
  stream: CopyBothStream,
  type: T,
): Promise<Extract<AcceptorMessage, { type: T }>> {
  const message = await nextMessage(stream);
  if (message.type !== type)
    throw new BenchError("ERR_BENCH_PROGRAM", `${message.type} came instead of ${type}`);
  return message as Extract<AcceptorMessage, { type: T }>;
}

/** Greeting, vote, election; gives the term. */
async function beElected(stream: CopyBothStream, options: PushOptions): Promise<bigint> {
  const { timeline, pgVersion, systemId, segmentBytes, startLsn } = options;
  const send = (message: ProposerMessage): void =>
    void stream.writer.send(serializeProposerMessage(message, VERSION));
  send({
    type: "greeting",
    tenantId: timeline,
    timelineId: timeline,
    configuration: EMPTY_CONFIGURATION,
    pgVersion,
    systemId,
    segmentBytes,
  });
  const greeting = await expectMessage(stream, "greeting");
  const term = greeting.term + 1n;
  const { generation } = greeting.configuration;
  send({ type: "vote-request", generation, term });
  const vote = await expectMessage(stream, "vote-response");
  if (!vote.voteGiven) throw new BenchError("ERR_BENCH_PROGRAM", "the acceptor did not vote");
  const history = [{ term, lsn: startLsn }];
  send({ type: "elected", generation, term, startStreamingAt: startLsn, history });
  return term;
}

/** Sends everything and waits until all of it is durable on the acceptor. */
async function stream(copy: CopyBothStream, options: PushOptions, term: bigint): Promise<number> {
  const { wal, startLsn } = options;
  const endLsn = addBytes(startLsn, wal.byteLength);
  let acknowledgedLsn = startLsn;
  let replies = 0;
  async function acknowledge(): Promise<void> {
    while (acknowledgedLsn < endLsn) {
      acknowledgedLsn = (await expectMessage(copy, "append-response")).flushLsn;
      replies += 1;
    }
  }
  async function append(): Promise<void> {
    for (let offset = 0; offset < wal.byteLength; offset += MAX_APPEND_BYTES) {
      const walData = wal.subarray(offset, offset + MAX_APPEND_BYTES);
      const beginLsn = addBytes(startLsn, offset);
      const header = appendRequestHeader(
        {
          generation: 0,
          term,
          beginLsn,
          endLsn: addBytes(beginLsn, walData.byteLength),
          commitLsn: acknowledgedLsn,
          truncateLsn: startLsn,
        },
        VERSION,
      );
      await copy.writer.send(header, walData);
    }
  }
  await Promise.all([acknowledge(), append()]);
  if (distanceBytes(acknowledgedLsn, endLsn) !== 0n) {
    throw new BenchError("ERR_BENCH_WORK", "the acceptor acknowledged more than it got");
  }
  return replies;
}

/**
 * Pushes the WAL into a new timeline of the acceptor.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM, ERR_BENCH_WORK; {WireError} when the connection fails
 */
export async function pushWal(options: PushOptions): Promise<PushResult> {
  const start = performance.now();
  const connection = await connect({
    host: options.host,
    port: options.port,
    user: "bench",
    ssl: "disable",
    parameters: { options: `-c tenant_id=${options.timeline} timeline_id=${options.timeline}` },
  });
  try {
    const copy = await connection.startCopyBoth(
      `START_WAL_PUSH (proto_version '${VERSION}', allow_timeline_creation 'true')`,
    );
    const term = await beElected(copy, options);
    const replies = await stream(copy, options, term);
    return { seconds: (performance.now() - start) / 1000, replies };
  } finally {
    connection.destroy();
  }
}
