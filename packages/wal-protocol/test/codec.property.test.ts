/**
 * The codecs on random messages and on random bytes. Seeds are fixed, so a failure repeats.
 */
import { isDeepStrictEqual } from "node:util";
import { toLsn } from "@millrace/lsn";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  parseAcceptorMessage,
  parseProposerMessage,
  ProtocolError,
  serializeAcceptorMessage,
  serializeProposerMessage,
} from "../src/index.js";
import type { AcceptorMessage, ProposerMessage, ProtocolVersion } from "../src/index.js";
import { randomAcceptorMessage, randomProposerMessage, SeededRandom } from "./random-messages.js";
import { VECTORS } from "./vectors.js";

const ROUND_TRIPS = 100_000;
const RANDOM_INPUTS = 1_000_000;
const MEMBER_BYTES_MIN = 11;
const TERM_LSN_BYTES = 16;

// Half a million errors with stack traces would be most of the run.
const stackTraceLimit = Error.stackTraceLimit;
beforeAll(() => {
  Error.stackTraceLimit = 0;
});
afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
});

// Aim: nothing is lost or changed between two of our nodes. Method: 100 000 random messages there and back, as
// values and as bytes.
test.each([2, 3] as const)("messages of version %i survive the wire", { timeout: 120_000 }, (version) => {
  const random = new SeededRandom(20260 + version);
  for (let round = 0; round < ROUND_TRIPS; round += 1) {
    if (random.chance(2)) {
      const message = randomProposerMessage(random, version);
      const bytes = serializeProposerMessage(message, version);
      const back = parseProposerMessage(bytes, version);
      if (!isDeepStrictEqual(back, message)) expect(back).toEqual(message);
      expect(Buffer.compare(serializeProposerMessage(back, version), bytes)).toBe(0);
    } else {
      const message = randomAcceptorMessage(random, version);
      const bytes = serializeAcceptorMessage(message, version);
      const back = parseAcceptorMessage(bytes, version);
      if (!isDeepStrictEqual(back, message)) expect(back).toEqual(message);
      expect(Buffer.compare(serializeAcceptorMessage(back, version), bytes)).toBe(0);
    }
  }
});

/** What a message made the parser allocate must be backed by bytes of the input. */
function expectBounded(message: ProposerMessage | AcceptorMessage, input: Buffer): void {
  if ("history" in message && message.history.length * TERM_LSN_BYTES > input.byteLength) {
    throw new Error(
      `history of ${String(message.history.length)} entries out of ${String(input.byteLength)} bytes`,
    );
  }
  if ("configuration" in message) {
    const { members, newMembers } = message.configuration;
    const count = members.length + newMembers.length;
    const hostLength = [...members, ...newMembers].reduce((sum, member) => sum + member.host.length, 0);
    if (count * MEMBER_BYTES_MIN + hostLength > input.byteLength) throw new Error("members out of nothing");
  }
  if ("walData" in message) {
    const { walData } = message;
    const inside =
      walData.buffer === input.buffer &&
      walData.byteOffset >= input.byteOffset &&
      walData.byteOffset + walData.byteLength <= input.byteOffset + input.byteLength;
    if (!inside) throw new Error("WAL bytes from outside the input");
  }
}

function makeInput(random: SeededRandom, vectors: readonly Buffer[], target: Buffer): Buffer {
  if (random.chance(3)) {
    const length = random.below(160);
    for (let index = 0; index < length; index += 1) target[index] = random.next();
    if (length > 0 && random.chance(2)) target[0] = random.pick([0x67, 0x76, 0x65, 0x61]);
    return target.subarray(0, length);
  }
  const vector = random.pick(vectors);
  vector.copy(target);
  for (let change = random.below(4); change >= 0; change -= 1) {
    const at = random.below(vector.byteLength);
    if (random.chance(3)) target[at] = random.next();
    else if (random.chance(2)) target[at] = (target[at] ?? 0) ^ (1 << random.below(8));
    else target[at] = random.pick([0, 1, 0x7f, 0x80, 0xff]);
  }
  const length = vector.byteLength + (random.chance(2) ? 0 : random.below(24) - 12);
  return target.subarray(0, Math.max(0, length));
}

// Aim: no bytes get out anything but a message or a ProtocolError, and none make us allocate more than they are.
// Method: a million inputs, random or mutated from real messages, through both parsers in both versions.
test("random bytes are parsed or refused, nothing else", { timeout: 240_000 }, () => {
  const random = new SeededRandom(411);
  const target = Buffer.alloc(512);
  const vectors = VECTORS.map((vector) => Buffer.from(vector.hex, "hex"));
  const outcomes = new Map<string, number>();
  for (let round = 0; round < RANDOM_INPUTS; round += 1) {
    const input = makeInput(random, vectors, target);
    const version: ProtocolVersion = random.chance(2) ? 2 : 3;
    for (const parse of [parseProposerMessage, parseAcceptorMessage]) {
      let outcome: string;
      try {
        const message = parse(input, version);
        expectBounded(message, input);
        outcome = message.type;
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        outcome = error.code;
      }
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
  }
  // Every branch was really reached, else the run proves little.
  const seldom = [
    "greeting",
    "vote-request",
    "vote-response",
    "elected",
    "append-request",
    "append-response",
    "ERR_PROTOCOL_TAG",
    "ERR_PROTOCOL_TRUNCATED",
    "ERR_PROTOCOL_TRAILING",
    "ERR_PROTOCOL_FIELD",
    "ERR_PROTOCOL_CONFIGURATION",
  ].filter((outcome) => (outcomes.get(outcome) ?? 0) <= 100);
  expect(seldom).toEqual([]);
});

// Aim: values no double can hold stay exact. Method: the largest of each kind through both versions.
test.each([2, 3] as const)("the extremes of u64 survive version %i", (version) => {
  const extreme = toLsn(0xffff_ffff_ffff_fff8n);
  const elected: ProposerMessage = {
    type: "elected",
    generation: 0,
    term: 2n ** 64n - 2n,
    startStreamingAt: extreme,
    history: [{ term: 2n ** 64n - 2n, lsn: extreme }],
  };
  expect(parseProposerMessage(serializeProposerMessage(elected, version), version)).toEqual(elected);
  const greeting: AcceptorMessage = {
    type: "greeting",
    nodeId: 2n ** 63n,
    configuration: { generation: 0, members: [], newMembers: [] },
    term: 2n ** 64n - 2n,
  };
  expect(parseAcceptorMessage(serializeAcceptorMessage(greeting, version), version)).toEqual(greeting);
});
