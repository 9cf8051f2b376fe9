/**
 * The codecs against bytes of the reference implementation, and each decode rule on its own.
 */
import { toLsn } from "@millrace/lsn";
import { describe, expect, test } from "vitest";
import {
  appendRequestHeader,
  EMPTY_CONFIGURATION,
  MAX_APPEND_BYTES,
  NO_HOT_STANDBY_FEEDBACK,
  parseAcceptorMessage,
  parsePageserverFeedback,
  parseProposerMessage,
  ProtocolError,
  serializeAcceptorMessage,
  serializePageserverFeedback,
  serializeProposerMessage,
} from "../src/index.js";
import type { AppendRequest, PageserverFeedback, ProtocolErrorCode, ProtocolVersion } from "../src/index.js";
import { APPEND_FIELDS, V2_APPEND_HEADER, V3_APPEND_HEADER, VECTORS } from "./vectors.js";
import type { Vector } from "./vectors.js";

function parse(vector: Vector, bytes: Uint8Array): unknown {
  return vector.from === "proposer"
    ? parseProposerMessage(bytes, vector.version)
    : parseAcceptorMessage(bytes, vector.version);
}

function codeOf(action: () => unknown): ProtocolErrorCode | "no error" {
  try {
    action();
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
  return "no error";
}

function vectorNamed(name: string, version: ProtocolVersion): Vector {
  const vector = VECTORS.find((candidate) => candidate.name === name && candidate.version === version);
  if (vector === undefined) throw new Error(`no vector ${name}`);
  return vector;
}

describe.each(VECTORS)("$name, version $version, as Neon's walproposer has it", (vector) => {
  const bytes = Buffer.from(vector.hex, "hex");

  // Aim: what the reference sends is understood. Method: compare every field.
  test("is parsed", () => {
    expect(parse(vector, bytes)).toEqual(vector.message);
  });

  // Aim: what we send is what the reference sends. Method: compare every byte.
  test("is serialised byte for byte", () => {
    const made =
      vector.from === "proposer"
        ? serializeProposerMessage(vector.message, vector.version)
        : serializeAcceptorMessage(vector.message, vector.version);
    expect(Buffer.from(made).toString("hex")).toBe(vector.hex);
  });

  // Aim: a cut message is an error, never a guess. Method: all proper prefixes, at an odd offset of a larger buffer
  // whose next bytes are the missing ones, so that reading past the view would go unnoticed elsewhere.
  test("is refused when cut anywhere", () => {
    const larger = Buffer.concat([Buffer.from([0xee]), bytes]);
    for (let length = 0; length < bytes.byteLength; length += 1) {
      expect(codeOf(() => parse(vector, larger.subarray(1, 1 + length)))).toBe("ERR_PROTOCOL_TRUNCATED");
    }
  });

  // Aim: acceptors ignore what follows a message, the proposer refuses it. Method: one byte more.
  test("with a byte too many is accepted from a proposer and refused from an acceptor", () => {
    const longer = Buffer.concat([bytes, Buffer.from([9])]);
    if (vector.from === "proposer") expect(parse(vector, longer)).toEqual(vector.message);
    else expect(codeOf(() => parse(vector, longer))).not.toBe("no error");
  });
});

describe("decode rules", () => {
  // Aim: only the low byte of a version 2 tag counts. Method: set all others.
  test("the upper bytes of a version 2 tag are ignored", () => {
    const vector = vectorNamed("vote-request", 2);
    const bytes = Buffer.from(vector.hex, "hex").fill(0xff, 1, 8);
    expect(parse(vector, bytes)).toEqual(vector.message);
  });

  // Aim: a vote-request of version 2 needs its 16 ignored bytes, and takes no interest in them.
  // Method: other contents, and one byte less.
  test("the ignored bytes of a version 2 vote-request must be there", () => {
    const vector = vectorNamed("vote-request", 2);
    const bytes = Buffer.from(vector.hex, "hex").fill(0xab, 16);
    expect(parse(vector, bytes)).toEqual(vector.message);
    expect(codeOf(() => parse(vector, bytes.subarray(0, 31)))).toBe("ERR_PROTOCOL_TRUNCATED");
  });

  // Aim: unknown tags and versions are named. Method: one of each, both directions.
  test("unknown tags, empty messages and unknown versions are refused", () => {
    for (const parser of [parseProposerMessage, parseAcceptorMessage]) {
      expect(codeOf(() => parser(Buffer.from("zzzzzzzz"), 3))).toBe("ERR_PROTOCOL_TAG");
      expect(codeOf(() => parser(new Uint8Array(0), 2))).toBe("ERR_PROTOCOL_TRUNCATED");
      expect(codeOf(() => parser(Buffer.from("g"), 4 as ProtocolVersion))).toBe("ERR_PROTOCOL_VERSION");
    }
    expect(codeOf(() => parseAcceptorMessage(Buffer.alloc(64, "e"), 3))).toBe("ERR_PROTOCOL_TAG");
  });

  // Aim: supported PostgreSQL versions and 0 pass, others do not. Method: both sides of each border.
  test.each([2, 3] as const)("PostgreSQL versions are checked in version %i", (version) => {
    const vector = vectorNamed("proposer greeting", version);
    const offset = version === 2 ? 12 : 79;
    const verdict = (pgVersion: number): string => {
      const bytes = Buffer.from(vector.hex, "hex");
      if (version === 2) bytes.writeUInt32LE(pgVersion, offset);
      else bytes.writeUInt32BE(pgVersion, offset);
      return codeOf(() => parse(vector, bytes));
    };
    for (const good of [0, 140000, 150015, 180000, 189999]) expect(verdict(good)).toBe("no error");
    for (const bad of [1, 139999, 190000, 0xffffffff]) expect(verdict(bad)).toBe("ERR_PROTOCOL_FIELD");
  });

  // Aim: ids are 32 hexadecimal digits. Method: upper case is folded; a foreign letter, 31 and 33 digits are refused.
  test("ids that are not 32 hexadecimal digits are refused", () => {
    const hex = vectorNamed("proposer greeting", 3).hex;
    const withTenant = (tenant: string): Buffer =>
      Buffer.concat([Buffer.from(`g${tenant}\0`, "latin1"), Buffer.from(hex.slice(68), "hex")]);
    expect(parseProposerMessage(withTenant("ABCDEF".padEnd(32, "0")), 3)).toMatchObject({
      tenantId: "abcdef".padEnd(32, "0"),
    });
    for (const bad of ["0".repeat(31), "0".repeat(33), "g".repeat(32), ""]) {
      expect(codeOf(() => parseProposerMessage(withTenant(bad), 3))).toBe("ERR_PROTOCOL_FIELD");
    }
  });

  // Aim: strings are UTF-8 or nothing. Method: a lone continuation byte as the host of a member.
  test("a host that is not UTF-8 is refused", () => {
    const vector = vectorNamed("acceptor greeting", 3);
    const bytes = Buffer.from(vector.hex, "hex");
    bytes[bytes.indexOf("h\0", 1, "latin1")] = 0x80;
    expect(codeOf(() => parse(vector, bytes))).toBe("ERR_PROTOCOL_FIELD");
  });

  // Aim: a vote is yes or no. Method: the value 2, in the low and in the high half of version 2's u64.
  test("a vote other than 0 and 1 is refused", () => {
    const third = Buffer.from(vectorNamed("vote-response", 3).hex, "hex");
    third[13] = 2;
    expect(codeOf(() => parseAcceptorMessage(third, 3))).toBe("ERR_PROTOCOL_FIELD");
    const second = Buffer.from(vectorNamed("vote-response", 2).hex, "hex");
    second[23] = 1;
    expect(codeOf(() => parseAcceptorMessage(second, 2))).toBe("ERR_PROTOCOL_FIELD");
  });

  // Aim: a count is believed only as far as bytes back it. Method: one entry more than there is, and 2^32 - 1.
  test("counts beyond the bytes that are left are refused before anything is allocated", () => {
    const elected = Buffer.from(vectorNamed("elected", 3).hex, "hex");
    const greeting = Buffer.from(vectorNamed("acceptor greeting", 3).hex, "hex");
    for (const count of [4, 0xffffffff]) {
      elected.writeUInt32BE(count, 21);
      expect(() => parseProposerMessage(elected, 3)).toThrow(
        `${String(count)} term history entries announced`,
      );
    }
    greeting.writeUInt32BE(0xffffffff, 13);
    expect(() => parseAcceptorMessage(greeting, 3)).toThrow("4294967295 members announced");
  });

  // Aim: contradictory configurations do not get in. Method: no members, a node twice, node 0.
  test("a configuration that contradicts itself is refused", () => {
    const member = (nodeId: bigint): { nodeId: bigint; host: string; port: number } => ({
      nodeId,
      host: "h",
      port: 1,
    });
    const verdict = (members: bigint[], newMembers: bigint[]): string =>
      codeOf(() =>
        parseAcceptorMessage(
          serializeAcceptorMessage(
            {
              type: "greeting",
              nodeId: 1n,
              term: 1n,
              configuration: {
                generation: 3,
                members: members.map(member),
                newMembers: newMembers.map(member),
              },
            },
            3,
          ),
          3,
        ),
      );
    expect(verdict([1n, 2n], [2n, 3n])).toBe("no error");
    expect(verdict([], [])).toBe("ERR_PROTOCOL_CONFIGURATION");
    expect(verdict([1n, 1n], [])).toBe("ERR_PROTOCOL_CONFIGURATION");
    expect(verdict([1n], [2n, 2n])).toBe("ERR_PROTOCOL_CONFIGURATION");
    expect(verdict([0n], [])).toBe("ERR_PROTOCOL_CONFIGURATION");
  });
});

describe.each([2, 3] as const)("append-request, version %i", (version) => {
  const generation = version === 2 ? 0 : 1;
  const request = (begin: bigint, end: bigint, wal: number): Buffer => {
    const header = Buffer.from(version === 2 ? V2_APPEND_HEADER : V3_APPEND_HEADER, "hex");
    const write = version === 2 ? header.writeBigUInt64LE.bind(header) : header.writeBigUInt64BE.bind(header);
    write(begin, version === 2 ? 24 : 13);
    write(end, version === 2 ? 32 : 21);
    return Buffer.concat([header, Buffer.alloc(wal, 0x57)]);
  };
  const verdict = (bytes: Buffer): string => codeOf(() => parseProposerMessage(bytes, version));

  // Aim: nothing with an impossible range reaches the log. Method: both sides of each border.
  test("ranges that run backwards or exceed the limit are refused", () => {
    expect(verdict(request(100n, 99n, 0))).toBe("ERR_PROTOCOL_FIELD");
    expect(verdict(request(2n ** 64n - 1n, 0n, 0))).toBe("ERR_PROTOCOL_FIELD");
    expect(verdict(request(0n, 2n ** 64n - 1n, 10))).toBe("ERR_PROTOCOL_FIELD");
    expect(verdict(request(100n, 100n + 131073n, 131073))).toBe("ERR_PROTOCOL_FIELD");
    expect(verdict(request(100n, 100n + 131072n, 131072))).toBe("no error");
    expect(verdict(request(100n, 100n, 0))).toBe("no error");
  });

  // Aim: missing WAL is an error, surplus is not part of the message. Method: one byte short, one byte long.
  test("WAL that is short is refused, surplus is ignored", () => {
    expect(verdict(request(100n, 110n, 9))).toBe("ERR_PROTOCOL_TRUNCATED");
    const longer = parseProposerMessage(request(100n, 110n, 11), version) as AppendRequest;
    expect(longer.walData.byteLength).toBe(10);
  });

  // Aim: WAL bytes are not copied on the way in. Method: the view shares the payload's memory.
  test("WAL bytes are a view of the payload", () => {
    const payload = request(100n, 110n, 10);
    const message = parseProposerMessage(payload, version) as AppendRequest;
    expect(message.walData.buffer).toBe(payload.buffer);
    payload[payload.byteLength - 1] = 0x21;
    expect(message.walData[9]).toBe(0x21);
  });

  // Aim: the header alone is what precedes the WAL. Method: compare with the reference bytes.
  test("the header can be made without the WAL", () => {
    const header = appendRequestHeader({ ...APPEND_FIELDS, generation }, version);
    expect(Buffer.from(header).toString("hex")).toBe(version === 2 ? V2_APPEND_HEADER : V3_APPEND_HEADER);
  });

  // Aim: our own mistakes do not get onto the wire. Method: ranges and lengths a caller could get wrong.
  test("impossible ranges are not serialised", () => {
    const header = (endLsn: bigint): Uint8Array =>
      appendRequestHeader({ ...APPEND_FIELDS, generation, endLsn: toLsn(endLsn) }, version);
    expect(() => header(APPEND_FIELDS.beginLsn - 1n)).toThrow(RangeError);
    expect(() => header(APPEND_FIELDS.beginLsn + BigInt(MAX_APPEND_BYTES) + 1n)).toThrow(RangeError);
    expect(() =>
      serializeProposerMessage(
        { type: "append-request", ...APPEND_FIELDS, generation, walData: Buffer.alloc(3) },
        version,
      ),
    ).toThrow(RangeError);
  });
});

// Aim: version 2 never silently loses a generation. Method: each proposer message with generation 1.
test("version 2 refuses to send a generation", () => {
  const messages = VECTORS.filter((vector) => vector.from === "proposer" && vector.version === 3);
  for (const { message } of messages) {
    if (message.type === "greeting") continue;
    expect(() => serializeProposerMessage(message as AppendRequest, 2)).toThrow(RangeError);
  }
});

// Aim: numbers that do not fit are refused instead of cut. Method: just outside each width.
test("values that do not fit their field are refused when serialising", () => {
  const vote = { type: "vote-request", generation: 1, term: 1n } as const;
  for (const bad of [
    { ...vote, term: 2n ** 64n },
    { ...vote, term: -1n },
    { ...vote, generation: 2 ** 32 },
    { ...vote, generation: 1.5 },
  ]) {
    expect(() => serializeProposerMessage(bad, 3)).toThrow(RangeError);
  }
  const greeting = { type: "greeting", nodeId: 1n, term: 1n } as const;
  for (const member of [
    { nodeId: 1n, host: "a\0b", port: 1 },
    { nodeId: 1n, host: "a", port: 65536 },
  ]) {
    const configuration = { generation: 1, members: [member], newMembers: [] };
    expect(() => serializeAcceptorMessage({ ...greeting, configuration }, 3)).toThrow(RangeError);
  }
  const hotStandby = { ...NO_HOT_STANDBY_FEEDBACK, timestamp: 2n ** 63n };
  const response = {
    type: "append-response",
    generation: 0,
    term: 1n,
    flushLsn: toLsn(0n),
    commitLsn: toLsn(0n),
    hotStandby,
  } as const;
  expect(() => serializeAcceptorMessage(response, 3)).toThrow(RangeError);
  const proposerGreeting = {
    type: "greeting",
    tenantId: "xyz",
    timelineId: "0".repeat(32),
    configuration: EMPTY_CONFIGURATION,
    pgVersion: 0,
    systemId: 0n,
    segmentBytes: 0,
  } as const;
  expect(() => serializeProposerMessage(proposerGreeting, 3)).toThrow(RangeError);
});

describe("pageserver feedback", () => {
  const full: PageserverFeedback = {
    currentTimelineSize: 2n ** 64n - 1n,
    lastReceivedLsn: toLsn(5n),
    diskConsistentLsn: toLsn(4n),
    remoteConsistentLsn: toLsn(3n),
    replyTime: -7n,
    shardNumber: 2,
    corruptionDetected: true,
  };
  const entry = (key: string, value: Uint8Array, lengthBytes = value.byteLength): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(lengthBytes);
    return Buffer.concat([Buffer.from(`${key}\0`), length, value]);
  };
  const body = (count: number, ...entries: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([count]), ...entries]);
  const u64 = (value: bigint): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return bytes;
  };
  const responseHex = (version: ProtocolVersion): string => vectorNamed("append-response", version).hex;

  // Aim: the tail reads the same in both versions. Method: none, five and seven keys behind the reference bytes.
  test.each([2, 3] as const)("follows an append-response of version %i, or does not", (version) => {
    const bare = Buffer.from(responseHex(version), "hex");
    expect(parseAcceptorMessage(bare, version)).not.toHaveProperty("pageserver");
    const five = { ...full, shardNumber: 0, corruptionDetected: false };
    for (const [feedback, keys] of [
      [five, 5],
      [full, 7],
    ] as const) {
      const tail = serializePageserverFeedback(feedback);
      expect(tail[0]).toBe(keys);
      expect(parseAcceptorMessage(Buffer.concat([bare, tail]), version)).toMatchObject({
        pageserver: feedback,
      });
    }
  });

  // Aim: a tail without entries is no feedback, least of all one that says 0/0. Method: a count of zero.
  test("a tail of no entries is no feedback", () => {
    const message = Buffer.concat([Buffer.from(responseHex(3), "hex"), Buffer.from([0])]);
    expect(parseAcceptorMessage(message, 3)).not.toHaveProperty("pageserver");
  });

  // Aim: the exact bytes other readers expect. Method: one body written out by hand.
  test("is written with Neon's keys in Neon's order", () => {
    const expected = body(
      7,
      entry("current_timeline_size", u64(2n ** 64n - 1n)),
      entry("ps_writelsn", u64(5n)),
      entry("ps_flushlsn", u64(4n)),
      entry("ps_applylsn", u64(3n)),
      entry("ps_replytime", u64(BigInt.asUintN(64, -7n))),
      entry("shard_number", Buffer.from([0, 0, 0, 2])),
      entry("corruption_detected", Buffer.from([1])),
    );
    expect(Buffer.from(serializePageserverFeedback(full))).toEqual(expected);
  });

  // Aim: the older spellings and foreign keys are understood. Method: aliases around a key nobody knows.
  test("aliases are read and unknown keys are skipped by their length", () => {
    const bytes = body(
      5,
      entry("last_received_lsn", u64(9n)),
      entry("something_new", Buffer.from("whatever")),
      entry("disk_consistent_lsn", u64(8n)),
      entry("remote_consistent_lsn", u64(7n)),
      entry("replytime", u64(6n)),
    );
    expect(parsePageserverFeedback(bytes)).toEqual({
      currentTimelineSize: 0n,
      lastReceivedLsn: 9n,
      diskConsistentLsn: 8n,
      remoteConsistentLsn: 7n,
      replyTime: 6n,
      shardNumber: 0,
      corruptionDetected: false,
    });
  });

  // Aim: lengths are checked, never trusted. Method: counts and lengths beyond the data, wrong widths, surplus.
  test("a body that does not add up is refused", () => {
    const verdict = (bytes: Buffer): string => codeOf(() => parsePageserverFeedback(bytes));
    expect(verdict(body(2, entry("ps_writelsn", u64(1n))))).toBe("ERR_PROTOCOL_TRUNCATED");
    expect(verdict(body(255))).toBe("ERR_PROTOCOL_TRUNCATED");
    expect(verdict(body(1, entry("unknown", u64(1n), 0xffffffff)))).toBe("ERR_PROTOCOL_TRUNCATED");
    expect(verdict(body(1, entry("ps_writelsn", Buffer.alloc(4))))).toBe("ERR_PROTOCOL_FIELD");
    expect(verdict(body(1, entry("ps_writelsn", u64(1n)), Buffer.from([0])))).toBe("ERR_PROTOCOL_TRAILING");
    expect(verdict(Buffer.alloc(0))).toBe("ERR_PROTOCOL_TRUNCATED");
  });
});
