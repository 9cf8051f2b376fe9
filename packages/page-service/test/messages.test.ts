/**
 * The messages: bytes by hand, everything there and back, and what is refused.
 */
import fc from "fast-check";
import { toLsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import {
  encodePagestreamRequest,
  encodePagestreamResponse,
  PagestreamError,
  parsePagestreamRequest,
  parsePagestreamResponse,
  REQUEST_BYTES_MAX,
} from "../src/index.js";
import type {
  PagestreamAnswer,
  PagestreamQuestion,
  PagestreamRequest,
  PagestreamVersion,
} from "../src/index.js";

const REL = { spc: 1663, db: 5, rel: 16_384, fork: 2 } as const;
const REL_HEX = "0000067f00000005";
const HEADER = { requestLsn: toLsn(0x1122_3344_5566_7788n), notModifiedSinceLsn: toLsn(0x0102_0304n) };
const V2_HEX = ["1122334455667788", "0000000001020304"].join("");
const V3_HEX = `00000000000000ff${V2_HEX}`;
const rel = `${REL_HEX}0000400002`;

const questions: readonly (readonly [PagestreamQuestion, string, string])[] = [
  [{ kind: "exists", rel: REL }, "00", rel],
  [{ kind: "nblocks", rel: REL }, "01", rel],
  [{ kind: "getpage", rel: REL, block: 0xabcd }, "02", `${rel}0000abcd`],
  [{ kind: "dbsize", db: 77 }, "03", "0000004d"],
  [{ kind: "slru", slru: 1, segment: 9 }, "04", "0100000009"],
];

// Aim: the bytes are those of the protocol. Method: each question in both versions against its bytes by hand.
test.each(questions)("the question %o has its bytes", (question, tag, body) => {
  const request: PagestreamRequest = { ...HEADER, requestId: 255n, question };
  expect(encodePagestreamRequest(request, 2).toString("hex")).toBe(tag + V2_HEX + body);
  expect(encodePagestreamRequest(request, 3).toString("hex")).toBe(tag + V3_HEX + body);
  expect(parsePagestreamRequest(Buffer.from(tag + V3_HEX + body, "hex"), 3)).toEqual(request);
  expect(parsePagestreamRequest(Buffer.from(tag + V2_HEX + body, "hex"), 2)).toEqual({
    ...request,
    requestId: 0n,
  });
  expect(encodePagestreamRequest(request, 3).byteLength).toBeLessThanOrEqual(REQUEST_BYTES_MAX);
});

const page = new Uint8Array(8192).fill(0x5a);
const answers: readonly (readonly [PagestreamQuestion["kind"], PagestreamAnswer, string, string])[] = [
  ["exists", { kind: "exists", exists: true }, "64", "01"],
  ["nblocks", { kind: "nblocks", blocks: 258 }, "65", "00000102"],
  ["getpage", { kind: "getpage", page }, "66", "5a".repeat(8192)],
  ["dbsize", { kind: "dbsize", bytes: 0x1_0000_0000n }, "68", "0000000100000000"],
  ["slru", { kind: "slru", blocks: 1, data: page }, "69", `00000001${"5a".repeat(8192)}`],
  ["getpage", { kind: "error", message: "nö" }, "67", "6ec3b600"],
];

test.each(answers)("an answer to %s has its bytes", (kind, answer, tag, body) => {
  const question = questions.find(([each]) => each.kind === kind);
  if (question === undefined) throw new Error("no question");
  const request: PagestreamRequest = { ...HEADER, requestId: 255n, question: question[0] };
  const v2 = encodePagestreamResponse(request, answer, 2);
  expect(v2.toString("hex")).toBe(tag + body);
  expect(parsePagestreamResponse(v2, 2)).toEqual({ request: undefined, answer });
  const v3 = encodePagestreamResponse(request, answer, 3);
  const echo = answer.kind === "error" ? "" : question[2];
  expect(v3.toString("hex")).toBe(tag + V3_HEX + echo + body);
  const parsed = parsePagestreamResponse(v3, 3);
  expect(parsed.answer).toEqual(answer);
  if (answer.kind !== "error") expect(parsed.request).toEqual(request);
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const anyRel = fc.record({ spc: u32, db: u32, rel: u32, fork: fc.nat(3) });
const anyQuestion: fc.Arbitrary<PagestreamQuestion> = fc.oneof(
  fc.record({ kind: fc.constantFrom("exists" as const, "nblocks" as const), rel: anyRel }),
  fc.record({ kind: fc.constant("getpage" as const), rel: anyRel, block: u32 }),
  fc.record({ kind: fc.constant("dbsize" as const), db: u32 }),
  fc.record({
    kind: fc.constant("slru" as const),
    slru: fc.constantFrom(0 as const, 1 as const, 2 as const),
    segment: u32,
  }),
);

test("any request comes back as it went", () => {
  fc.assert(
    fc.property(
      anyQuestion,
      u64,
      u64,
      u64,
      fc.constantFrom<PagestreamVersion>(2, 3),
      (question, id, lsn, since, version) => {
        const requestId = version === 3 ? id : 0n;
        const request = { requestId, requestLsn: toLsn(lsn), notModifiedSinceLsn: toLsn(since), question };
        expect(parsePagestreamRequest(encodePagestreamRequest(request, version), version)).toEqual(request);
      },
    ),
  );
});

// Aim: bytes from outside are a message or a PagestreamError, never anything else. Method: random ones, and real ones cut,
// lengthened or changed.
test("any bytes are a message or are refused", () => {
  const parsers = [parsePagestreamRequest, parsePagestreamResponse] as const;
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 60, size: "max" }),
        fc.uint8Array({ maxLength: 9000, size: "max" }),
      ),
      fc.integer({ min: 0, max: 110 }),
      fc.constantFrom<PagestreamVersion>(2, 3),
      (bytes, tag, version) => {
        if (bytes.byteLength > 0) bytes[0] = tag;
        for (const parse of parsers) {
          try {
            parse(bytes, version);
          } catch (error) {
            expect(error).toBeInstanceOf(PagestreamError);
            expect((error as PagestreamError).code).toBe("ERR_PAGESTREAM_FRAME");
          }
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test.each(questions)("the question %o is refused when a byte is missing or too many", (question) => {
  const bytes = encodePagestreamRequest({ ...HEADER, requestId: 1n, question }, 3);
  for (const wrong of [bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.of(0)])]) {
    expect(() => parsePagestreamRequest(wrong, 3)).toThrow(PagestreamError);
  }
});

test.each([
  ["an unknown tag", Buffer.from(`05${V2_HEX}${rel}`, "hex")],
  ["nothing", Buffer.alloc(0)],
  ["a fork that does not exist", Buffer.from(`00${V2_HEX}${REL_HEX}0000400004`, "hex")],
  ["an SLRU that does not exist", Buffer.from(`04${V2_HEX}0300000009`, "hex")],
])("a request with %s is refused", (_what, bytes) => {
  expect(() => parsePagestreamRequest(bytes, 2)).toThrow(PagestreamError);
});
