/**
 * What acceptors send: bytes to message and back, in both versions.
 *
 * Replies are read strictly: Neon's walproposer drops a connection whose reply is not consumed to its last byte, so
 * an acceptor that adds anything must hear of it in the tests here and not in production. Version 2 has no room for
 * generations and configurations, they are left out when written and read as none.
 *
 * The field order differs between the versions (term and node id of the greeting), the feedback tail does not: it is
 * big-endian in both.
 */
import { ByteReader } from "./byte-reader.js";
import { ByteWriter } from "./byte-writer.js";
import { EMPTY_CONFIGURATION } from "./configuration.js";
import { configurationBytes, readConfiguration, writeConfiguration } from "./configuration-codec.js";
import { ProtocolError } from "./errors.js";
import type {
  AcceptorGreeting,
  AcceptorMessage,
  AppendResponse,
  ProtocolVersion,
  VoteResponse,
} from "./messages.js";
import { parsePageserverFeedback, serializePageserverFeedback } from "./pageserver-feedback.js";
import { checkVersion, readTag, TAG, writeTag } from "./tags.js";

const NO_TAIL = new Uint8Array(0);

/**
 * Parses what an acceptor sent.
 *
 * @param payload one CopyData body, borrowed during the call only; bytes after the message are an error
 * @throws {ProtocolError} any of ERR_PROTOCOL_*; nothing else, whatever the bytes are
 */
export function parseAcceptorMessage(payload: Uint8Array, version: ProtocolVersion): AcceptorMessage {
  checkVersion(version);
  switch (payload[0]) {
    case TAG.append:
      return parseAppendResponse(payload, version);
    case TAG.greeting:
      return parseGreeting(payload, version);
    case TAG.vote:
      return parseVoteResponse(payload, version);
    case undefined:
      throw new ProtocolError("ERR_PROTOCOL_TRUNCATED", "empty message");
    default:
      throw new ProtocolError("ERR_PROTOCOL_TAG", `unknown acceptor message tag ${String(payload[0])}`);
  }
}

/**
 * Serialises what an acceptor sends. The result is given to the caller. In version 2 generation and configuration
 * are left out.
 *
 * @throws {RangeError} a value that does not fit its field
 */
export function serializeAcceptorMessage(message: AcceptorMessage, version: ProtocolVersion): Uint8Array {
  checkVersion(version);
  if (message.type === "append-response") return serializeAppendResponse(message, version);
  if (message.type === "vote-response") return serializeVoteResponse(message, version);
  return serializeGreeting(message, version);
}

function parseGreeting(payload: Uint8Array, version: ProtocolVersion): AcceptorGreeting {
  const reader = new ByteReader(payload, version === 2);
  readTag(reader, version);
  let greeting: AcceptorGreeting;
  if (version === 2) {
    const term = reader.u64();
    greeting = { type: "greeting", nodeId: reader.u64(), configuration: EMPTY_CONFIGURATION, term };
  } else {
    const nodeId = reader.u64();
    const configuration = readConfiguration(reader);
    greeting = { type: "greeting", nodeId, configuration, term: reader.u64() };
  }
  reader.expectEnd("acceptor greeting");
  return greeting;
}

function parseVoteResponse(payload: Uint8Array, version: ProtocolVersion): VoteResponse {
  const reader = new ByteReader(payload, version === 2);
  readTag(reader, version);
  const generation = version === 2 ? 0 : reader.u32();
  const term = reader.u64();
  const vote = version === 2 ? reader.u64() : BigInt(reader.u8());
  if (vote > 1n) throw new ProtocolError("ERR_PROTOCOL_FIELD", `vote given is ${String(vote)}, not 0 or 1`);
  const flushLsn = reader.lsn();
  const truncateLsn = reader.lsn();
  const history = reader.termHistory();
  if (version === 2) reader.skip(8); // former start of the timeline
  reader.expectEnd("vote-response");
  return { type: "vote-response", generation, term, voteGiven: vote === 1n, flushLsn, truncateLsn, history };
}

function parseAppendResponse(payload: Uint8Array, version: ProtocolVersion): AppendResponse {
  const reader = new ByteReader(payload, version === 2);
  readTag(reader, version);
  const generation = version === 2 ? 0 : reader.u32();
  const term = reader.u64();
  const flushLsn = reader.lsn();
  const commitLsn = reader.lsn();
  const hotStandby = { timestamp: reader.i64(), xmin: reader.u64(), catalogXmin: reader.u64() };
  const fixed: AppendResponse = {
    type: "append-response",
    generation,
    term,
    flushLsn,
    commitLsn,
    hotStandby,
  };
  if (reader.remainingBytes === 0) return fixed;
  const tail = reader.view(reader.remainingBytes);
  const pageserver = parsePageserverFeedback(tail);
  // A tail of no entries says as much as no tail; zeros out of it would look like a consumer at 0/0.
  return tail[0] === 0 ? fixed : { ...fixed, pageserver };
}

function serializeGreeting(message: AcceptorGreeting, version: ProtocolVersion): Uint8Array {
  if (version === 2) {
    const writer = new ByteWriter(24, true);
    writeTag(writer, TAG.greeting, 2);
    return writer.u64(message.term).u64(message.nodeId).bytes;
  }
  const writer = new ByteWriter(17 + configurationBytes(message.configuration), false);
  writeTag(writer, TAG.greeting, 3);
  writer.u64(message.nodeId);
  writeConfiguration(writer, message.configuration);
  return writer.u64(message.term).bytes;
}

function serializeVoteResponse(message: VoteResponse, version: ProtocolVersion): Uint8Array {
  const { history } = message;
  const writer = new ByteWriter((version === 2 ? 52 : 34) + 16 * history.length, version === 2);
  writeTag(writer, TAG.vote, version);
  const vote = message.voteGiven ? 1 : 0;
  if (version === 2) writer.u64(message.term).u64(BigInt(vote));
  else writer.u32(message.generation).u64(message.term).u8(vote);
  writer.u64(message.flushLsn).u64(message.truncateLsn).termHistory(history);
  if (version === 2) writer.u64(0n);
  return writer.bytes;
}

function serializeAppendResponse(message: AppendResponse, version: ProtocolVersion): Uint8Array {
  const { hotStandby, pageserver } = message;
  const tail = pageserver === undefined ? NO_TAIL : serializePageserverFeedback(pageserver);
  const writer = new ByteWriter((version === 2 ? 56 : 53) + tail.byteLength, version === 2);
  writeTag(writer, TAG.append, version);
  if (version === 3) writer.u32(message.generation);
  writer.u64(message.term).u64(message.flushLsn).u64(message.commitLsn);
  writer.i64(hotStandby.timestamp).u64(hotStandby.xmin).u64(hotStandby.catalogXmin);
  return writer.copy(tail).bytes;
}
