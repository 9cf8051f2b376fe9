import fc from "fast-check";
import { expect, test } from "vitest";

import { JSON_DEPTH_MAX, JSON_INTEGER_DIGITS_MAX, parseJson, stringifyJson } from "../src/bigint-json.js";
import { thrownCode } from "./fixtures.js";

const U64_MAX = 2n ** 64n - 1n;

// Aim: 64-bit numbers keep every digit. Method: extremes are written and read back, and the text is looked at.
test("integers beyond 2^53 are bare number tokens and come back digit by digit", () => {
  const text = stringifyJson({ term: U64_MAX - 1n, system_id: 2n ** 63n, small: 7n, negative: -(2n ** 60n) });
  expect(text).toBe(
    '{"term":18446744073709551614,"system_id":9223372036854775808,"small":7,"negative":-1152921504606846976}',
  );
  expect({ ...(parseJson(text) as object) }).toEqual({
    term: U64_MAX - 1n,
    system_id: 2n ** 63n,
    small: 7,
    negative: -(2n ** 60n),
  });
});

// Aim: the border between number and bigint is where a double stops being exact. Method: the values around it.
test("integers up to 2^53 - 1 are numbers, from 2^53 on they are bigints", () => {
  expect(parseJson("9007199254740991")).toBe(9007199254740991);
  expect(parseJson("9007199254740992")).toBe(9007199254740992n);
  expect(parseJson("9007199254740993")).toBe(9007199254740993n);
  expect(parseJson("-9007199254740991")).toBe(-9007199254740991);
  expect(parseJson("-9007199254740993")).toBe(-9007199254740993n);
});

const leaf = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.boolean(),
  fc.constant(null),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
);
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "small" },
    leaf,
    fc.array(tie("tree"), { maxLength: 8, size: "max" }),
    fc.dictionary(fc.string({ unit: "binary" }), tie("tree"), { maxKeys: 8, size: "max" }),
  ),
}));

// What a round trip may change: a bigint that a double holds exactly becomes a number, -0 becomes 0.
function normal(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  // A double beyond 2^53 without a fraction prints as an integer of all its digits, until exponents begin.
  if (typeof value === "number") {
    return Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21
      ? BigInt(value)
      : value + 0;
  }
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, normal(member)]));
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]));
}

// Aim: writing and reading are inverse. Method: random trees with strings of any code unit and integers around 2^64.
test("any value comes back as it was written", () => {
  fc.assert(
    fc.property(tree, (value) => {
      expect(plain(parseJson(stringifyJson(value)))).toEqual(plain(normal(value)));
    }),
    { numRuns: 2000 },
  );
});

// Aim: the grammar is JSON's, no more and no less. Method: random short texts of JSON's characters; JSON.parse is
// the model for what is accepted and for the value, numbers aside.
test("exactly the texts that JSON.parse accepts are accepted", () => {
  const piece = fc.constantFrom(
    ...Array.from('{}[]:,"\\ \n-+.eE0123456789'),
    "true",
    "false",
    "null",
    '"a"',
    "\\u00e9",
    "\\x",
    "nul",
    "\u00a0",
    "1e5",
    "-0",
    "01",
  );
  const texts = fc.array(piece, { maxLength: 12, size: "max" }).map((pieces) => pieces.join(""));
  fc.assert(
    fc.property(texts, (text) => {
      let model: { readonly value: unknown } | undefined;
      try {
        model = { value: JSON.parse(text) };
      } catch {
        model = undefined;
      }
      const overflows = /[eE]\+?[0-9]{3,}/.test(text); // JSON.parse gives Infinity there, we refuse
      if (overflows) return;
      const code = thrownCode(() => parseJson(text));
      expect(code).toBe(model === undefined ? "ERR_ACCEPTOR_JSON" : "returned");
      if (model !== undefined) expect(plain(parseJson(text))).toEqual(plain(model.value));
    }),
    { numRuns: 20_000 },
  );
});

// Aim: hostile input is refused cheaply. Method: nesting and digits just within and just beyond the bounds.
test("nesting and digits are bounded in both directions", () => {
  const nested = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
  expect(thrownCode(() => parseJson(nested(JSON_DEPTH_MAX)))).toBe("returned");
  expect(thrownCode(() => parseJson(nested(JSON_DEPTH_MAX + 1)))).toBe("ERR_ACCEPTOR_JSON");
  expect(thrownCode(() => parseJson("[".repeat(1_000_000)))).toBe("ERR_ACCEPTOR_JSON");
  expect(thrownCode(() => parseJson("9".repeat(JSON_INTEGER_DIGITS_MAX)))).toBe("returned");
  expect(thrownCode(() => parseJson("9".repeat(JSON_INTEGER_DIGITS_MAX + 1)))).toBe("ERR_ACCEPTOR_JSON");
  expect(thrownCode(() => parseJson("1e999"))).toBe("ERR_ACCEPTOR_JSON");
  const cycle: unknown[] = [];
  cycle.push(cycle);
  expect(() => stringifyJson(cycle)).toThrow(TypeError);
});

// Aim: what has no JSON form is an error and not a surprise. Method: one value of each such kind.
test("values without a JSON form are refused and undefined members are left out", () => {
  for (const value of [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    undefined,
    () => 1,
    Symbol("s"),
    new Date(0),
    new Map(),
  ]) {
    expect(() => stringifyJson(value)).toThrow(TypeError);
    expect(() => stringifyJson([value])).toThrow(TypeError);
  }
  expect(stringifyJson({ a: undefined, b: 1 })).toBe('{"b":1}');
});

// Aim: keys cannot reach a prototype, errors say where. Method: the notorious key; an error in the middle.
test("special keys are ordinary members and errors name the position", () => {
  const value = parseJson('{"__proto__":{"polluted":true},"constructor":1}') as Record<string, unknown>;
  expect(Object.keys(value)).toEqual(["__proto__", "constructor"]);
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  expect(() => parseJson('{"a":1,}')).toThrow("invalid JSON at position 7: expected a string");
  expect(() => parseJson('{"a":1} x')).toThrow("position 8: expected the end of the text");
});
