/**
 * The messages inside a replication stream: layouts byte for byte, round trips, and what is refused.
 */
import { MAX_LSN, parseLsn, toLsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  fromPgTimestamp,
  parseReplicationMessage,
  parseStandbyMessage,
  PG_EPOCH_MS,
  serializeHotStandbyFeedback,
  serializeKeepalive,
  serializePageserverFeedbackHeader,
  serializeStandbyStatus,
  serializeXLogDataHeader,
  toPgTimestamp,
} from "../src/index.js";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

// Aim: XLogData as walsender.c writes it; the WAL is a view. Method: bytes written out by hand.
test("XLogData", () => {
  const header = hex("77 0000000001000028 0000000002000000 0002000000000001");
  const fields = {
    startLsn: parseLsn("0/1000028"),
    endLsn: parseLsn("0/2000000"),
    timestamp: 0x2000000000001n,
  };
  expect(serializeXLogDataHeader(fields)).toEqual(header);
  const payload = Buffer.concat([header, Buffer.from("wal")]);
  const parsed = parseReplicationMessage(payload);
  expect(parsed).toEqual({ type: "xlog-data", ...fields, walData: Buffer.from("wal") });
  expect(parsed.type === "xlog-data" && parsed.walData.buffer).toBe(payload.buffer);
  expect(parseReplicationMessage(header)).toMatchObject({ walData: Buffer.alloc(0) });
});

// Aim: keepalive. Method: bytes by hand, both flags, a negative timestamp (before 2000).
test("keepalive", () => {
  const message = { endLsn: parseLsn("16/B374D848"), timestamp: -1n, replyRequested: true };
  const bytes = hex("6b 00000016B374D848 ffffffffffffffff 01");
  expect(serializeKeepalive(message)).toEqual(bytes);
  expect(parseReplicationMessage(bytes)).toEqual({ type: "keepalive", ...message });
  expect(serializeKeepalive({ ...message, replyRequested: false })[17]).toBe(0);
});

// Aim: standby status with extreme positions. Method: bytes by hand.
test("standby status", () => {
  const message = {
    writeLsn: MAX_LSN,
    flushLsn: toLsn(2n ** 63n),
    applyLsn: toLsn(0n),
    timestamp: 5n,
    replyRequested: true,
  };
  const bytes = hex("72 ffffffffffffffff 8000000000000000 0000000000000000 0000000000000005 01");
  expect(serializeStandbyStatus(message)).toEqual(bytes);
  expect(parseStandbyMessage(bytes)).toEqual({ type: "standby-status", ...message });
});

// Aim: feedback carries the id before its epoch. Method: bytes by hand with epochs 0 and 1.
test("hot standby feedback combines id and epoch", () => {
  const bytes = hex("68 0000000000000007 000002bc 00000001 000002bd 00000000");
  const message = { timestamp: 7n, xmin: 0x1_0000_02bcn, catalogXmin: 0x2bdn };
  expect(parseStandbyMessage(bytes)).toEqual({ type: "hot-standby-feedback", ...message });
  expect(serializeHotStandbyFeedback(message)).toEqual(bytes);
});

// Aim: pageserver feedback is passed on, unknown tags are told. Method: bytes by hand.
test("pageserver feedback and unknown tags", () => {
  const header = serializePageserverFeedbackHeader(3);
  expect(header).toEqual(hex("7a 0000000000000003"));
  const parsed = parseStandbyMessage(Buffer.concat([header, Buffer.from("abc")]));
  expect(parsed).toEqual({ type: "pageserver-feedback", body: Buffer.from("abc") });
  expect(parseStandbyMessage(hex("41"))).toEqual({ type: "unknown", tag: 0x41 });
});

// Aim: short messages are protocol errors, never a RangeError of Node. Method: each proper prefix of each message.
test("refuses every proper prefix", () => {
  const lsn = toLsn(1n);
  const server = [
    serializeXLogDataHeader({ startLsn: lsn, endLsn: lsn, timestamp: 0n }),
    serializeKeepalive({ endLsn: lsn, timestamp: 0n, replyRequested: false }),
  ];
  const standby = [
    serializeStandbyStatus({
      writeLsn: lsn,
      flushLsn: lsn,
      applyLsn: lsn,
      timestamp: 0n,
      replyRequested: false,
    }),
    serializeHotStandbyFeedback({ timestamp: 0n, xmin: 0n, catalogXmin: 0n }),
    serializePageserverFeedbackHeader(0),
  ];
  const refused = expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" });
  for (const [messages, parse] of [
    [server, parseReplicationMessage],
    [standby, parseStandbyMessage],
  ] as const) {
    for (const message of messages) {
      for (let cut = 0; cut < message.length; cut++) {
        expect(() => parse(message.subarray(0, cut))).toThrow(refused);
      }
    }
  }
  expect(() => parseReplicationMessage(hex("72"))).toThrow(refused);
});

// Aim: every value survives the wire. Method: random fields both ways, in plain Uint8Arrays with an offset.
test("round trips", () => {
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const shifted = (bytes: Uint8Array): Uint8Array => {
    const copy = new Uint8Array(bytes.length + 3);
    copy.set(bytes, 3);
    return copy.subarray(3);
  };
  fc.assert(
    fc.property(u64, u64, u64, i64, fc.boolean(), (first, second, third, timestamp, replyRequested) => {
      const status = {
        writeLsn: toLsn(first),
        flushLsn: toLsn(second),
        applyLsn: toLsn(third),
        timestamp,
        replyRequested,
      };
      expect(parseStandbyMessage(shifted(serializeStandbyStatus(status)))).toEqual({
        type: "standby-status",
        ...status,
      });
      const feedback = { timestamp, xmin: first, catalogXmin: second };
      expect(parseStandbyMessage(shifted(serializeHotStandbyFeedback(feedback)))).toEqual({
        type: "hot-standby-feedback",
        ...feedback,
      });
      const keepalive = { endLsn: toLsn(first), timestamp, replyRequested };
      expect(parseReplicationMessage(shifted(serializeKeepalive(keepalive)))).toEqual({
        type: "keepalive",
        ...keepalive,
      });
    }),
  );
});

// Aim: timestamps count microseconds from 2000. Method: known instants, and a fraction of a millisecond.
test("timestamps", () => {
  expect(PG_EPOCH_MS).toBe(Date.UTC(2000, 0, 1));
  expect(toPgTimestamp(PG_EPOCH_MS)).toBe(0n);
  expect(toPgTimestamp(Date.UTC(2000, 0, 1, 0, 0, 1) + 0.001)).toBe(1_000_001n);
  expect(fromPgTimestamp(-1_000_000n)).toBe(Date.UTC(1999, 11, 31, 23, 59, 59));
});
