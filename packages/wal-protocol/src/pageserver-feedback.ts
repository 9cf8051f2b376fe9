/**
 * Pageserver feedback: what the readers behind an acceptor have done with the WAL, as a self-describing tail.
 *
 * The tail is u8 count, then per entry a NUL-terminated key, a big-endian u32 length and the value, in either
 * protocol version. Readers skip keys they do not know by their length, so the set of keys can grow. The same body
 * follows the tag and length of a pageserver's status message on a replication connection. Four keys have an older
 * alias that Neon's C reader still takes; both spellings are read here, only the current one is written.
 */
import type { Lsn } from "@millrace/lsn";
import { ByteReader } from "./byte-reader.js";
import { ByteWriter } from "./byte-writer.js";
import { ProtocolError } from "./errors.js";

/** How far the consumers of WAL behind an acceptor have come. */
export interface PageserverFeedback {
  /** Logical size of the database in bytes (u64). */
  readonly currentTimelineSize: bigint;
  /** WAL received up to here. */
  readonly lastReceivedLsn: Lsn;
  /** WAL on the consumer's local disk up to here. */
  readonly diskConsistentLsn: Lsn;
  /** WAL in the consumer's remote storage up to here; below it nobody needs WAL any more. */
  readonly remoteConsistentLsn: Lsn;
  /** Microseconds since 2000-01-01 (i64). */
  readonly replyTime: bigint;
  /** u32; 0 for the first or only shard. */
  readonly shardNumber: number;
  readonly corruptionDetected: boolean;
}

type Field = keyof PageserverFeedback;

const FIELD_OF_KEY: ReadonlyMap<string, Field> = new Map<string, Field>([
  ["current_timeline_size", "currentTimelineSize"],
  ["ps_writelsn", "lastReceivedLsn"],
  ["last_received_lsn", "lastReceivedLsn"],
  ["ps_flushlsn", "diskConsistentLsn"],
  ["disk_consistent_lsn", "diskConsistentLsn"],
  ["ps_applylsn", "remoteConsistentLsn"],
  ["remote_consistent_lsn", "remoteConsistentLsn"],
  ["ps_replytime", "replyTime"],
  ["replytime", "replyTime"],
  ["shard_number", "shardNumber"],
  ["corruption_detected", "corruptionDetected"],
]);

type WrittenField = Exclude<Field, "shardNumber" | "corruptionDetected">;
const WRITTEN_KEYS: readonly (readonly [string, WrittenField])[] = [
  ["current_timeline_size", "currentTimelineSize"],
  ["ps_writelsn", "lastReceivedLsn"],
  ["ps_flushlsn", "diskConsistentLsn"],
  ["ps_applylsn", "remoteConsistentLsn"],
  ["ps_replytime", "replyTime"],
];
const SHARD_KEY = "shard_number";
const CORRUPTION_KEY = "corruption_detected";

/**
 * Reads a feedback body from `bytes`. Fields whose key is absent are zero; of a key given twice the last counts.
 *
 * @param bytes borrowed, and must be the whole body: anything after the last entry is an error
 * @throws {ProtocolError} ERR_PROTOCOL_TRUNCATED, ERR_PROTOCOL_FIELD, ERR_PROTOCOL_TRAILING
 */
export function parsePageserverFeedback(bytes: Uint8Array): PageserverFeedback {
  const reader = new ByteReader(bytes, false);
  const result = {
    currentTimelineSize: 0n,
    lastReceivedLsn: 0n as Lsn,
    diskConsistentLsn: 0n as Lsn,
    remoteConsistentLsn: 0n as Lsn,
    replyTime: 0n,
    shardNumber: 0,
    corruptionDetected: false,
  };
  const count = reader.u8();
  for (let index = 0; index < count; index += 1) {
    const key = reader.string();
    const lengthBytes = reader.u32();
    const field = FIELD_OF_KEY.get(key);
    if (field === undefined) {
      reader.skip(lengthBytes);
      continue;
    }
    const expectedBytes = fieldBytes(field);
    if (lengthBytes !== expectedBytes) {
      throw new ProtocolError(
        "ERR_PROTOCOL_FIELD",
        `feedback key ${key} has ${String(lengthBytes)} bytes instead of ${String(expectedBytes)}`,
      );
    }
    if (field === "shardNumber") result.shardNumber = reader.u32();
    else if (field === "corruptionDetected") result.corruptionDetected = reader.u8() !== 0;
    else if (field === "replyTime") result.replyTime = reader.i64();
    else if (field === "currentTimelineSize") result.currentTimelineSize = reader.u64();
    else result[field] = reader.lsn();
  }
  reader.expectEnd("pageserver feedback");
  return result;
}

/**
 * Writes a feedback body: five keys always, the shard number and the corruption flag only when they are set. The
 * result is given to the caller.
 *
 * @throws {RangeError} a value that does not fit its field
 */
export function serializePageserverFeedback(feedback: PageserverFeedback): Uint8Array {
  const { shardNumber, corruptionDetected } = feedback;
  const writer = new ByteWriter(bodyBytes(feedback), false);
  writer.u8(WRITTEN_KEYS.length + (shardNumber > 0 ? 1 : 0) + (corruptionDetected ? 1 : 0));
  for (const [key, field] of WRITTEN_KEYS) {
    writeKey(writer, key, field);
    if (field === "replyTime") writer.i64(feedback.replyTime);
    else writer.u64(feedback[field]);
  }
  if (shardNumber > 0) {
    writeKey(writer, SHARD_KEY, "shardNumber");
    writer.u32(shardNumber);
  }
  if (corruptionDetected) {
    writeKey(writer, CORRUPTION_KEY, "corruptionDetected");
    writer.u8(1);
  }
  return writer.bytes;
}

function bodyBytes(feedback: PageserverFeedback): number {
  let total = 1;
  for (const [key, field] of WRITTEN_KEYS) total += entryBytes(key, field);
  if (feedback.shardNumber > 0) total += entryBytes(SHARD_KEY, "shardNumber");
  if (feedback.corruptionDetected) total += entryBytes(CORRUPTION_KEY, "corruptionDetected");
  return total;
}

function writeKey(writer: ByteWriter, key: string, field: Field): void {
  for (let index = 0; index < key.length; index += 1) writer.u8(key.charCodeAt(index));
  writer.u8(0).u32(fieldBytes(field));
}

function entryBytes(key: string, field: Field): number {
  return key.length + 1 + 4 + fieldBytes(field);
}

function fieldBytes(field: Field): number {
  return field === "shardNumber" ? 4 : field === "corruptionDetected" ? 1 : 8;
}
