/**
 * The cutting of a byte stream into messages: views where possible, copies only once, bounds before bodies.
 */
import { expect, test } from "vitest";
import { FrameReader } from "../src/index.js";
import { bytes, message } from "./transcript.js";

const unlimited = (): number => 1024 * 1024;

// Aim: a body that lies within a chunk is not copied. Method: compare the memory of body and chunk.
test("a body within one chunk is a view of it", () => {
  const reader = new FrameReader(unlimited);
  const chunk = Buffer.concat([message("d", "abc"), message("d", "defg")]);
  reader.push(chunk);
  expect(reader.next()).toBe(true);
  expect(reader.body.buffer).toBe(chunk.buffer);
  expect(reader.body.toString()).toBe("abc");
  expect(reader.next()).toBe(true);
  expect(reader.body.byteOffset).toBe(chunk.byteOffset + 13);
  expect(reader.next()).toBe(false);
  expect(reader.atBoundary).toBe(true);
});

// Aim: a socket that reads into one slab gets views even for messages that came in pieces. Method: push adjacent
// pieces of one buffer, compare the memory of the body.
test("pieces that continue each other in memory are one chunk", () => {
  const reader = new FrameReader(unlimited);
  const slab = Buffer.from(message("d", Buffer.alloc(10_000, "x")));
  for (let offset = 0; offset < slab.length; offset += 3000)
    reader.push(slab.subarray(offset, offset + 3000));
  expect(reader.next()).toBe(true);
  expect(reader.body.buffer).toBe(slab.buffer);
  expect(reader.body.length).toBe(10_000);
});

// Aim: bodies stay valid however long they are kept. Method: keep all bodies of a stream in tiny chunks, which are
// gathered into shared blocks, and compare them at the end.
test("bodies that were handed out are never overwritten", () => {
  const reader = new FrameReader(unlimited);
  const kept: Buffer[] = [];
  const expected: string[] = [];
  for (let index = 0; index < 500; index++) {
    const text = `body ${index} `.repeat(1 + (index % 40));
    expected.push(text);
    const frame = message("d", text);
    for (let offset = 0; offset < frame.length; offset += 7) {
      reader.push(Buffer.from(frame.subarray(offset, offset + 7)));
    }
    if (index % 3 === 0) while (reader.next()) kept.push(reader.body);
  }
  while (reader.next()) kept.push(reader.body);
  expect(kept.map(String)).toEqual(expected);
});

// Aim: a peer that sends single bytes does not cost an object each. Method: push a large body byte by byte and look
// at the memory that the process holds for it; without gathering it is above 100 MB.
test("a body of a million single-byte chunks takes memory in proportion to its bytes", () => {
  const reader = new FrameReader(() => 16 * 1024 * 1024);
  const count = 1024 * 1024;
  reader.push(bytes("d", count + 4));
  const before = process.memoryUsage();
  for (let index = 0; index < count; index++) reader.push(Uint8Array.of(index));
  const after = process.memoryUsage();
  expect(after.external + after.heapUsed - before.external - before.heapUsed).toBeLessThan(64 * 1024 * 1024);
  expect(reader.next()).toBe(true);
  expect(reader.body.length).toBe(count);
  expect(reader.body[300]).toBe(300 & 0xff);
});

// Aim: a wrong length is refused from the header alone, and stays refused. Method: headers without bodies.
test.each([
  ["shorter than its own length word", bytes("d", 3)],
  ["length zero", bytes("d", 0)],
  ["over the limit of its type", bytes("Q", 64 * 1024 + 5)],
  ["2^31", bytes("d", 2 ** 31)],
  ["2^32 - 1", bytes("d", 2 ** 32 - 1)],
  ["a refused type", bytes("z", 4)],
])("refuses a header: %s", (_what, header) => {
  const limits: Readonly<Record<string, number>> = { d: 16 * 1024 * 1024, Q: 64 * 1024 };
  const reader = new FrameReader((type) => limits[String.fromCharCode(type)] ?? -1);
  reader.push(header);
  expect(reader.hasFrame).toBe(true);
  for (let attempt = 0; attempt < 2; attempt++) {
    expect(() => reader.next()).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
  }
});

// Aim: the largest allowed body passes. Method: exactly the limit.
test("accepts a body of exactly the limit", () => {
  const reader = new FrameReader(() => 100);
  reader.push(message("d", Buffer.alloc(100)));
  expect(reader.next()).toBe(true);
});

// Aim: startup packets are bounded on both sides. Method: 7 and 10001 are refused, 8 and 10000 pass.
test.each([
  [7, false],
  [8, true],
  [10_000, true],
  [10_001, false],
  [2 ** 32 - 1, false],
])("a startup packet of %i bytes is accepted: %s", (lengthBytes, accepted) => {
  const reader = new FrameReader(unlimited);
  reader.push(bytes(lengthBytes, Buffer.alloc(Math.min(lengthBytes, 20_000) - 4)));
  if (accepted) expect(reader.nextStartup()).toBe(true);
  else expect(() => reader.nextStartup()).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
});

// Aim: an end inside a message can be told from one between messages. Method: cut after each byte.
test("knows the boundary between messages", () => {
  const frame = message("d", "abc");
  for (let cut = 1; cut < frame.length; cut++) {
    const reader = new FrameReader(unlimited);
    reader.push(frame.subarray(0, cut));
    expect(reader.next()).toBe(false);
    expect(reader.atBoundary).toBe(false);
  }
});
