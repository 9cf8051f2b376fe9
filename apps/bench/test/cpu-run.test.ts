import { expect, test } from "vitest";
import { crc32c } from "@millrace/checksums";
import fc from "fast-check";
import { fastestSlice } from "../src/cpu-run.js";
import { pseudoRandomBytes } from "../src/pseudo-random.js";
import { slicingBy8 } from "../src/slicing-by-8.js";

// Aim: every slice runs and is checked. Method: count the calls; then a slice whose result changes.
test("all slices run, and differing ones are refused", async () => {
  let calls = 0;
  const sample = await fastestSlice({ warmUp: 2, timed: 3 }, 10, () => {
    calls += 1;
    return -1;
  });
  expect(calls).toBe(5);
  expect(sample.checksum).toBe("ffffffff");
  expect(sample.rate).toBeGreaterThan(0);
  await expect(fastestSlice({ warmUp: 0, timed: 2 }, 1, () => (calls += 1))).rejects.toThrow(RangeError);
});

// Aim: the reference of the suite `checksum` computes CRC-32C. Method: against the package, for any whole steps.
test("slicing by 8 gives the checksums of the package", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096, size: "max" }), (bytes) => {
      const whole = bytes.slice(0, bytes.length - (bytes.length % 8));
      expect(slicingBy8(new Uint32Array(whole.buffer, 0, whole.length / 4))).toBe(crc32c(whole));
    }),
  );
  expect(() => slicingBy8(new Uint32Array(3))).toThrow(RangeError);
});

// Aim: inputs are the same in every run. Method: the checksum of the first bytes, and two seeds.
test("pseudo-random bytes depend on the seed alone", () => {
  expect(pseudoRandomBytes(64)).toEqual(pseudoRandomBytes(64));
  expect(pseudoRandomBytes(64, 1)).not.toEqual(pseudoRandomBytes(64, 2));
  expect(new Set(pseudoRandomBytes(4096)).size).toBeGreaterThan(200);
});
