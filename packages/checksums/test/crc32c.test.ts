/**
 * The checksum itself: published vectors, then both implementations against the bitwise model at every length and
 * border where they change their way of working.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { updateInJavaScript } from "../src/crc32c-javascript.js";
import { Crc32cKernel } from "../src/crc32c-kernel.js";
import { INPUT_BYTES_MAX, LONG_LANE_BYTES, SHORT_LANE_BYTES } from "../src/crc32c-module.js";
import { KERNEL_BYTES_MIN } from "../src/crc32c.js";
import { combineCrc32c, Crc32c, crc32c, crc32cMethod, crc32cOfRange } from "../src/index.js";
import { runtimeWebAssembly } from "../src/webassembly.js";
import { bitwiseCrc32c, noise } from "./model.js";

const kernel = new Crc32cKernel(requireWebAssembly());

const implementations = {
  dispatched: crc32c,
  ranged: (bytes: Uint8Array, previous = 0): number => {
    const larger = Buffer.concat([Buffer.of(1, 2, 3), bytes, Buffer.of(4)]);
    return crc32cOfRange(larger, 3, 3 + bytes.length, previous);
  },
  javascript: (bytes: Uint8Array, previous = 0): number => ~updateInJavaScript(~previous, bytes) >>> 0,
  webassembly: (bytes: Uint8Array, previous = 0): number => ~kernel.update(~previous, bytes) >>> 0,
} as const;

/** Bytes from a length and a seed: arrays of thousands would take minutes to shrink when a property fails. */
const anyNoise = (lengthMax: number): fc.Arbitrary<Uint8Array> =>
  fc.tuple(fc.nat(lengthMax), fc.integer({ min: 1 })).map(([length, seed]) => noise(length, seed));

const each = test.each(Object.entries(implementations));

// Aim: it is CRC-32C. Method: the check value of the polynomial and the examples of RFC 3720, appendix B.4.
each("%s gives the published values", (_, checksum) => {
  const readCommand =
    "01c00000000000000000000000000000" +
    "14000000000004000000001400000018" +
    "28000000000000000200000000000000";
  const vectors: [Uint8Array, number][] = [
    [Buffer.from("123456789"), 0xe3069283],
    [new Uint8Array(0), 0],
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_value, index) => index), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_value, index) => 31 - index), 0x113fdb5c],
    [Buffer.from(readCommand, "hex"), 0xd9963a56],
  ];
  for (const [bytes, value] of vectors) expect(checksum(bytes)).toBe(value);
});

// Aim: every length is right. Method: all of 0 to 1000 against the bitwise model, continued from another checksum too.
each("%s agrees with the bitwise model at every length up to 1000", (_, checksum) => {
  const bytes = noise(1000);
  for (let length = 0; length <= bytes.length; length++) {
    const piece = bytes.subarray(0, length);
    expect(checksum(piece)).toBe(bitwiseCrc32c(piece));
    expect(checksum(piece, 0xdeadbeef)).toBe(bitwiseCrc32c(piece, 0xdeadbeef));
  }
});

// Aim: no border is off by one. Method: the lengths around each threshold, block and chunk, at all alignments near it.
each("%s is right around every threshold, block and chunk", (_, checksum) => {
  const borders = [
    KERNEL_BYTES_MIN,
    3 * SHORT_LANE_BYTES,
    6 * SHORT_LANE_BYTES,
    3 * LONG_LANE_BYTES,
    3 * LONG_LANE_BYTES + 3 * SHORT_LANE_BYTES,
    INPUT_BYTES_MAX,
    INPUT_BYTES_MAX + KERNEL_BYTES_MIN,
    2 * INPUT_BYTES_MAX,
  ];
  const bytes = noise(2 * INPUT_BYTES_MAX + 32, 7);
  for (const border of borders) {
    let expected = bitwiseCrc32c(bytes.subarray(0, border - 9));
    for (let length = border - 9; length <= border + 9; length++) {
      expect(checksum(bytes.subarray(0, length))).toBe(expected);
      expected = bitwiseCrc32c(bytes.subarray(length, length + 1), expected);
    }
    expect(checksum(bytes.subarray(13, 13 + border))).toBe(bitwiseCrc32c(bytes.subarray(13, 13 + border)));
  }
});

// Aim: content, offset and cut do not matter. Method: random bytes, a random view of them, cut at a random place.
each("%s agrees with the bitwise model on any view and cut", (_, checksum) => {
  const anyBytes = fc
    .tuple(fc.nat(4000), fc.integer({ min: 1 }))
    .map(([length, seed]) => noise(length, seed));
  fc.assert(
    fc.property(anyBytes, fc.nat(40), fc.nat(4000), (bytes, offset, cut) => {
      const view = bytes.subarray(offset);
      const whole = bitwiseCrc32c(view);
      expect(checksum(view)).toBe(whole);
      expect(checksum(view.subarray(cut), checksum(view.subarray(0, cut)))).toBe(whole);
    }),
  );
});

// Aim: every kind of byte view is read. Method: the same bytes behind each of them, at an odd offset.
each("%s reads buffers, odd offsets and shared memory", (_, checksum) => {
  for (const length of [5, 200, 9000, 20_000]) {
    const bytes = noise(length, length);
    const expected = bitwiseCrc32c(bytes);
    const padded = new Uint8Array(length + 3);
    padded.set(bytes, 3);
    const shared = new Uint8Array(new SharedArrayBuffer(length + 5), 5);
    shared.set(bytes);
    for (const view of [
      Buffer.from(bytes),
      padded.subarray(3),
      shared,
      Buffer.from(shared.buffer, 5, length),
    ]) {
      expect(checksum(view)).toBe(expected);
    }
  }
});

// Aim: the input is only read. Method: compare it with a copy afterwards.
each("%s leaves its input alone", (_, checksum) => {
  const bytes = noise(20_000, 3);
  const copy = bytes.slice();
  checksum(bytes);
  expect(Buffer.compare(bytes, copy)).toBe(0);
});

// Aim: a stream may be cut anywhere, and the state can be asked for at any time. Method: random cuts.
test("the streaming class agrees with one call", () => {
  const pieces = fc.array(anyNoise(2000), { maxLength: 12, size: "max" });
  fc.assert(
    fc.property(pieces, (pieces) => {
      const stream = new Crc32c();
      expect(stream.digest()).toBe(0);
      for (const [index, piece] of pieces.entries()) {
        expect(stream.update(piece)).toBe(stream);
        expect(stream.digest()).toBe(crc32c(Buffer.concat(pieces.slice(0, index + 1))));
      }
      expect(stream.reset()).toBe(stream);
      expect(stream.digest()).toBe(0);
    }),
  );
});

// Aim: a WAL record's order of bytes can be kept. Method: body first, header after, as PostgreSQL computes it.
test("pieces can be fed in another order than they are stored", () => {
  const record = noise(120, 9);
  const body = crc32c(record.subarray(24));
  const reordered = Buffer.concat([record.subarray(24), record.subarray(0, 20)]);
  expect(crc32c(record.subarray(0, 20), body)).toBe(bitwiseCrc32c(reordered));
});

// Aim: parts combine without reading them again. Method: random pieces, also empty ones, and associativity.
test("combining agrees with the checksum of both pieces", () => {
  const piece = anyNoise(2000);
  fc.assert(
    fc.property(piece, piece, piece, (a, b, c) => {
      const [sumA, sumB, sumC] = [crc32c(a), crc32c(b), crc32c(c)];
      const ab = combineCrc32c(sumA, sumB, b.length);
      expect(ab).toBe(crc32c(Buffer.concat([a, b])));
      const bc = combineCrc32c(sumB, sumC, c.length);
      expect(combineCrc32c(ab, sumC, c.length)).toBe(combineCrc32c(sumA, bc, b.length + c.length));
    }),
  );
});

// Aim: long pieces combine too. Method: 16 MiB of zeros in one call, and doubling up to 2^52 bytes against the
// law that combining twice by n is combining once by 2n.
test("combining works for lengths far beyond any buffer", () => {
  const mebibytes = 16 * 2 ** 20;
  const zeros = crc32c(new Uint8Array(mebibytes));
  expect(combineCrc32c(0xe3069283, zeros, mebibytes)).toBe(crc32c(new Uint8Array(mebibytes), 0xe3069283));
  // With 0 as the second checksum only the factor for the length remains.
  for (let power = 0; power < 52; power++) {
    const once = combineCrc32c(0xe3069283, 0, 2 ** power);
    expect(combineCrc32c(once, 0, 2 ** power)).toBe(combineCrc32c(0xe3069283, 0, 2 ** (power + 1)));
  }
  expect(combineCrc32c(1, 2, Number.MAX_SAFE_INTEGER)).toBeLessThan(2 ** 32);
});

// Aim: wrong arguments give an error and not a wrong checksum. Method: what would pass for empty or be cut to 32 bits.
test("arguments that are no bytes or no checksum are refused", () => {
  for (const bytes of [
    new ArrayBuffer(4),
    new DataView(new ArrayBuffer(4)),
    new Uint16Array(2),
    "text",
    [1],
    undefined,
  ]) {
    expect(() => crc32c(bytes as unknown as Uint8Array)).toThrow(TypeError);
  }
  for (const previous of [-1, 2 ** 32, 0.5, Number.NaN]) {
    expect(() => crc32c(new Uint8Array(1), previous)).toThrow(RangeError);
    expect(() => combineCrc32c(previous, 0, 0)).toThrow(RangeError);
    expect(() => combineCrc32c(0, previous, 0)).toThrow(RangeError);
  }
  for (const length of [-1, 0.5, 2 ** 53, Number.NaN])
    expect(() => combineCrc32c(0, 0, length)).toThrow(RangeError);
  const stream = new Crc32c().update(Buffer.from("1234"));
  expect(() => stream.update(new ArrayBuffer(4) as unknown as Uint8Array)).toThrow(TypeError);
  expect(stream.update(Buffer.from("56789")).digest()).toBe(0xe3069283);
});

// Aim: the fast way is taken where it exists. Method: Node without flags has WebAssembly.
test("long inputs go to WebAssembly", () => {
  expect(crc32cMethod()).toBe("webassembly");
});

function requireWebAssembly(): NonNullable<ReturnType<typeof runtimeWebAssembly>> {
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) throw new Error("the tests of the kernel need WebAssembly");
  return webAssembly;
}

// Aim: a range that is not there is refused, not read as zeros. Method: each border, and numbers that are none.
test.each([
  [-1, 4],
  [5, 4],
  [0, 11],
  [0.5, 4],
  [0, 4.5],
  [NaN, 4],
  [0, NaN],
])("a range from %f to %f of ten bytes is refused", (start, end) => {
  expect(() => crc32cOfRange(new Uint8Array(10), start, end)).toThrow(RangeError);
});
