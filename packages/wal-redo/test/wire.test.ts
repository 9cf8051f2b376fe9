/**
 * The frames: bytes as Neon's patched PostgreSQL takes and gives them, and what a session refuses.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { toLsn } from "@millrace/lsn";
import { describe, expect, test } from "vitest";
import { RedoError } from "../src/index.js";
import { RedoSession } from "../src/redo-session.js";
import { ReplyReader } from "../src/replies.js";
import {
  encodeErrorReply,
  encodeHello,
  encodePageReply,
  encodePing,
  encodePong,
  encodeRequest,
  FrameReader,
} from "../src/wire.js";
import type { RedoDialect, WireRecord } from "../src/wire.js";
import { expectedPage, impossibleRequest, requestFor } from "./redo-requests.js";

const MAIN = fileURLToPath(new URL("../dist/worker-main.js", import.meta.url));
/** Fork, tablespace, database, relation and block of the requests. */
const TAG = ["00", "0000067f", "00000005", "00004000", "00000007"].join("");

function wireRequest(block: number, count: number, id = 0x01020304) {
  const { page, base, modifications } = requestFor(block, count);
  const records = modifications.filter(
    (each): each is WireRecord & { kind: "record" } => each.kind === "record",
  );
  return { id, page, base: base?.bytes, records };
}

/** Replies of a session to some bytes. */
function replies(dialect: RedoDialect, ...chunks: readonly Uint8Array[]): Buffer[] {
  const seen: Buffer[] = [];
  const session = new RedoSession({
    dialect,
    pgMajor: 15,
    hintLsn: false,
    reply: (bytes) => seen.push(bytes),
  });
  for (const chunk of chunks) session.feed(chunk);
  return seen;
}

// Aim: the bytes are those of the protocol. Method: every frame of a request against its bytes by hand.
test("a request in the dialect neon is begin, push, apply and get", () => {
  const { page, base, records } = wireRequest(7, 1);
  const [record] = records;
  if (record === undefined || base === undefined) throw new Error("no record");
  const bytes = encodeRequest({ id: 9, page, base, records }, "neon");
  const length = record.bytes.byteLength;
  expect(bytes.byteLength).toBe(22 + 8214 + 13 + length + 22);
  expect(bytes.toString("hex", 0, 22)).toBe(`4200000015${TAG}`);
  expect(bytes.toString("hex", 22, 44)).toBe(`5000002015${TAG}`);
  expect(Buffer.compare(bytes.subarray(44, 44 + 8192), base)).toBe(0);
  const at = 22 + 8214;
  const applyLength = (12 + length).toString(16).padStart(8, "0");
  expect(bytes.toString("hex", at, at + 13)).toBe(`41${applyLength}0000000000002000`);
  expect(Buffer.compare(bytes.subarray(at + 13, at + 13 + length), record.bytes)).toBe(0);
  expect(bytes.toString("hex", at + 13 + length)).toBe(`4700000015${TAG}`);
  expect(encodePing().toString("hex")).toBe("4800000004");
});

test("the dialect x1 names version and request, and frames its replies", () => {
  const { page, records } = wireRequest(7, 1);
  const bytes = encodeRequest({ id: 0x01020304, page, base: undefined, records }, "x1");
  expect(bytes.toString("hex", 0, 26)).toBe(`4200000019${TAG}01020304`);
  expect(encodeHello(18, true).toString("hex")).toBe("56000000090001001201");
  expect(encodePong().toString("hex")).toBe("5a00000004");
  expect(encodePageReply(5, new Uint8Array(8192)).toString("hex", 0, 9)).toBe("4b0000200800000005");
  expect(encodeErrorReply(5, 2, "né").toString("hex")).toBe("450000000d0000000500026ec3a9");
});

// Aim: the result does not depend on how bytes are cut, in either direction. Method: random cuts of many requests.
test.each(["neon", "x1"] as const)(
  "a session in the dialect %s answers however its input is cut",
  async (dialect) => {
    const requests = Array.from({ length: 6 }, (_, block) => wireRequest(block, 1 + block, block));
    const wanted = await Promise.all(requests.map((_, block) => expectedPage(requestFor(block, 1 + block))));
    const input = Buffer.concat(requests.map((request) => encodeRequest(request, dialect)));
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, size: "max", maxLength: 30 }),
        (sizes) => {
          const chunks: Buffer[] = [];
          for (let at = 0, turn = 0; at < input.byteLength; turn += 1) {
            const size = sizes[turn % sizes.length] ?? 1;
            chunks.push(input.subarray(at, at + size));
            at += size;
          }
          const output = Buffer.concat(replies(dialect, ...chunks));
          const pages: Buffer[] = [];
          const reader = new ReplyReader(dialect, {
            page: (id, page) => {
              expect(id).toBe(pages.length);
              pages.push(Buffer.from(page));
            },
            failure: () => expect.fail("no failure is due"),
            pong: () => expect.fail("no pong is due"),
          });
          for (const { id } of requests) reader.expect(id);
          for (let at = 0; at < output.byteLength; at += 5000) reader.take(output.subarray(at, at + 5000));
          expect(pages.map((page, index) => Buffer.compare(page, wanted[index] ?? page))).toEqual(
            requests.map(() => 0),
          );
        },
      ),
      { numRuns: 30 },
    );
  },
);

test("a record that does not fit is an answer in x1, and the end in neon", () => {
  const { page, base, modifications } = impossibleRequest(3);
  const records = modifications.filter(
    (each): each is WireRecord & { kind: "record" } => each.kind === "record",
  );
  const request = { id: 4, page, base: base?.bytes, records };
  const good = wireRequest(3, 1, 5);
  const [failure, answer] = replies("x1", encodeRequest(request, "x1"), encodeRequest(good, "x1"));
  expect([failure?.toString("latin1", 0, 1), failure?.readUInt32BE(5), failure?.readUInt16BE(9)]).toEqual([
    "E",
    4,
    2,
  ]);
  expect(failure?.toString("utf8", 11)).toMatch(/item 9/);
  expect([answer?.toString("latin1", 0, 1), answer?.readUInt32BE(5)]).toEqual(["K", 5]);
  expect(() => replies("neon", encodeRequest(request, "neon"))).toThrow(RedoError);
});

test("a page without a base begins as zeros, and a record of another page changes nothing", () => {
  const { page } = wireRequest(7, 1);
  const { records } = wireRequest(8, 1);
  const [answer] = replies("neon", encodeRequest({ id: 1, page, base: undefined, records }, "neon"));
  expect(answer?.every((byte) => byte === 0)).toBe(true);
  expect(replies("neon", encodePing())[0]?.byteLength).toBe(8192);
});

const tag = Buffer.from(TAG, "hex");
const frame = (type: string, payload: Uint8Array, length = 4 + payload.byteLength): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
};
const begin = frame("B", tag);
const other = Buffer.from(TAG.replace(/07$/, "08"), "hex");
const record = Buffer.alloc(8 + 24);
record.writeUInt32LE(25, 8);

const bad: readonly (readonly [string, readonly Buffer[]])[] = [
  ["an unknown type", [frame("Q", Buffer.alloc(0))]],
  ["a length below its own", [frame("H", Buffer.alloc(0), 3)]],
  ["a length beyond any record", [frame("A", Buffer.alloc(0), 0x7fff_ffff)]],
  ["a ping with contents", [frame("H", Buffer.alloc(1))]],
  ["get without begin", [frame("G", tag)]],
  ["a record without begin", [frame("A", record)]],
  ["get of another page", [begin, frame("G", other)]],
  ["a base of another page", [begin, frame("P", Buffer.concat([other, Buffer.alloc(8192)]))]],
  ["a base that is too short", [begin, frame("P", tag)]],
  ["a record of another length than it says", [begin, frame("A", record)]],
  ["begin within a request", [begin, begin]],
  ["begin with too little", [frame("B", tag.subarray(1))]],
];

test.each(bad)("a session refuses %s", (_what, frames) => {
  let code: string | undefined;
  try {
    replies("neon", ...frames);
  } catch (error) {
    code = error instanceof RedoError ? error.code : String(error);
  }
  expect(code).toBe("ERR_REDO_PROTOCOL");
});

describe("the program", () => {
  async function run(input: Buffer): Promise<{ code: number | null; stdout: Buffer; stderr: string }> {
    const order = JSON.stringify({ dialect: "neon", pgMajor: 15, hintLsn: false });
    const child = spawn(process.execPath, [MAIN, order], { stdio: ["pipe", "pipe", "pipe"] });
    const output: Buffer[] = [];
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { code, stdout: Buffer.concat(output), stderr };
  }

  test("ends well when its input does, and badly in the middle of a request", async () => {
    const whole = encodeRequest(wireRequest(7, 2), "neon");
    const done = await run(whole);
    expect([done.code, done.stderr]).toEqual([0, ""]);
    expect(Buffer.compare(done.stdout, await expectedPage(requestFor(7, 2)))).toBe(0);
    expect((await run(whole.subarray(0, -1))).code).toBe(1);
  });

  test("says on stderr why it ends", async () => {
    const { code, stderr, stdout } = await run(Buffer.concat([encodePing(), frame("Q", Buffer.alloc(0))]));
    expect([code, stdout.byteLength]).toEqual([1, 8192]);
    expect(stderr).toMatch(/^ERROR: .*type 81/);
  });
});

// Aim: nobody gets a page that is none. Method: bytes that are no reply, one at a time.
test.each<[string, RedoDialect, Buffer]>([
  ["a page that nobody asked for", "neon", Buffer.alloc(8192 * 2)],
  ["a reply that is no page", "neon", Buffer.alloc(8192, 0x33)],
  ["a frame of another type", "x1", frame("B", tag)],
  ["a page of another length", "x1", frame("K", Buffer.alloc(100))],
  ["an error without a code", "x1", frame("E", Buffer.alloc(4))],
  ["a complaint about a frame", "x1", encodeErrorReply(1, 3, "bad frame")],
])("%s ends the connection", (_what, dialect, bytes) => {
  const reader = new ReplyReader(dialect, {
    page: () => undefined,
    failure: () => undefined,
    pong: () => undefined,
  });
  reader.expect(1);
  expect(() => reader.take(bytes)).toThrow(RedoError);
});

test("frames come out of the reader as they went in", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300, size: "max" }), { maxLength: 20, size: "max" }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 10, size: "max" }),
      (payloads, sizes) => {
        const input = Buffer.concat(payloads.map((payload) => frame("A", payload)));
        const reader = new FrameReader();
        const seen: string[] = [];
        for (let at = 0, turn = 0; at < input.byteLength; turn += 1) {
          const size = sizes[turn % sizes.length] ?? 1;
          reader.push(input.subarray(at, at + size));
          at += size;
          for (let next = reader.next(); next !== undefined; next = reader.next())
            seen.push(next.payload.toString("hex"));
        }
        expect(seen).toEqual(payloads.map((payload) => Buffer.from(payload).toString("hex")));
        expect(reader.pendingBytes).toBe(0);
      },
    ),
  );
});

test("positions above 32 bits are written whole", () => {
  const { page, records } = wireRequest(7, 1);
  const [first] = records;
  if (first === undefined) throw new Error("no record");
  const far = { endLsn: toLsn(0x1234_5678_9abc_def0n), bytes: first.bytes };
  const bytes = encodeRequest({ id: 0, page, base: undefined, records: [far] }, "neon");
  expect(bytes.toString("hex", 27, 35)).toBe("123456789abcdef0");
});
