/**
 * JSON whose integers survive: a bigint is written as a bare number token, an integer beyond 2^53 is read as a bigint.
 *
 * System ids and terms are unsigned 64-bit numbers and the management API writes them as JSON numbers, as Neon's
 * safekeeper does. `JSON.parse` would round them silently and `JSON.stringify` refuses bigints, hence this file.
 *
 * What stays true: for every value built of null, booleans, strings, finite numbers, bigints, arrays and plain
 * objects, parsing what was written gives back the same mathematical values (an integer within the safe range comes
 * back as a number, even if it went in as a bigint). The text accepted is exactly RFC 8259. Input is bounded in
 * depth and in digits per integer, so a request body cannot exhaust the stack or make BigInt quadratic.
 */
import { AcceptorError } from "./errors.js";

/** What `parseJson` gives: JSON's own types, and bigint for integers a double cannot hold. */
export type JsonValue =
  null | boolean | string | number | bigint | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** Nesting allowed in either direction; our own documents stay below ten. */
export const JSON_DEPTH_MAX = 64;
/** Digits allowed in an integer; a u64 has 20, and BigInt() takes quadratic time. */
export const JSON_INTEGER_DIGITS_MAX = 128;

/**
 * Writes `value` as compact JSON.
 *
 * Members that are `undefined` are left out, as JSON.stringify does; bigints become number tokens of all their digits.
 *
 * @throws {TypeError} for what has no JSON form: NaN, infinities, functions, symbols, `undefined` outside an object,
 *   objects other than plain ones and arrays, nesting beyond `JSON_DEPTH_MAX` (so also for a cycle)
 */
export function stringifyJson(value: unknown): string {
  return write(value, 0);
}

function write(value: unknown, depth: number): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "boolean":
      return value ? "true" : "false";
    case "bigint":
      return value.toString();
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${value} has no JSON form`);
      return writeNumber(value);
    case "object":
      return value === null ? "null" : writeNested(value, depth + 1);
    case "undefined":
    case "function":
    case "symbol":
    default:
      throw new TypeError(`a value of type ${typeof value} has no JSON form`);
  }
}

// A double prints as the shortest digits that lead back to it, and for a large integer those are not its value.
function writeNumber(value: number): string {
  const inexact = Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21;
  return inexact ? BigInt(value).toString() : JSON.stringify(value);
}

function writeNested(value: object, depth: number): string {
  if (depth > JSON_DEPTH_MAX) throw new TypeError(`nested deeper than ${JSON_DEPTH_MAX} levels, or a cycle`);
  if (Array.isArray(value)) return `[${value.map((item: unknown) => write(item, depth)).join(",")}]`;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError("only plain objects and arrays have a JSON form");
  }
  const members: string[] = [];
  for (const [key, member] of Object.entries(value) as [string, unknown][]) {
    if (member !== undefined) members.push(`${JSON.stringify(key)}:${write(member, depth)}`);
  }
  return `{${members.join(",")}}`;
}

/**
 * Reads one JSON document.
 *
 * Integers without fraction and exponent become a number within ±(2^53 - 1) and a bigint beyond; every other number
 * token becomes a number. Of repeated keys the last one counts. Objects have no prototype, so a key such as
 * `__proto__` is an ordinary member.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_JSON with the position and what was expected there
 */
export function parseJson(text: string): JsonValue {
  const parser = new Parser(text);
  return parser.document();
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
// A string token without looking inside its escapes; JSON.parse then checks and decodes exactly that token.
// eslint-disable-next-line no-control-regex -- JSON forbids raw control characters in strings
const STRING = /"(?:[^"\\\u0000-\u001f]|\\.)*"/y;
const BLANKS = /[ \t\n\r]*/y;

/** Recursive descent over one text; holds the position and nothing else. */
class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): JsonValue {
    const value = this.#value(0);
    this.#blanks();
    if (this.#at !== this.#text.length) throw this.#error("the end of the text");
    return value;
  }

  #value(depth: number): JsonValue {
    this.#blanks();
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth + 1);
      case "[":
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      case undefined:
      default:
        return this.#number();
    }
  }

  #object(depth: number): JsonValue {
    this.#enter(depth);
    const members = Object.create(null) as Record<string, JsonValue>;
    if (this.#take("}")) return members;
    for (;;) {
      this.#blanks();
      const key = this.#string();
      if (!this.#take(":")) throw this.#error("':'");
      members[key] = this.#value(depth);
      if (this.#take("}")) return members;
      if (!this.#take(",")) throw this.#error("',' or '}'");
    }
  }

  #array(depth: number): JsonValue {
    this.#enter(depth);
    const items: JsonValue[] = [];
    if (this.#take("]")) return items;
    for (;;) {
      items.push(this.#value(depth));
      if (this.#take("]")) return items;
      if (!this.#take(",")) throw this.#error("',' or ']'");
    }
  }

  #string(): string {
    const token = this.#match(STRING);
    if (token === undefined) throw this.#error("a string");
    try {
      return JSON.parse(token[0]) as string;
    } catch (cause) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_JSON",
        `bad escape in the string ending at position ${this.#at}`,
        {
          cause,
        },
      );
    }
  }

  #number(): JsonValue {
    const token = this.#match(NUMBER);
    if (token === undefined) throw this.#error("a value");
    const digits = token[0];
    if (token[1] !== undefined || token[2] !== undefined) {
      const value = Number(digits);
      if (!Number.isFinite(value)) throw this.#error("a number within the range of a double, before here");
      return value;
    }
    if (digits.length > JSON_INTEGER_DIGITS_MAX) throw this.#error("an integer of fewer digits, before here");
    const value = Number(digits);
    return Number.isSafeInteger(value) ? value : BigInt(digits);
  }

  #word<T extends JsonValue>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#error("a value");
    this.#at += word.length;
    return value;
  }

  #enter(depth: number): void {
    if (depth > JSON_DEPTH_MAX) throw this.#error(`at most ${JSON_DEPTH_MAX} levels of nesting`);
    this.#at += 1;
  }

  // Skips blanks, then the character if it is there.
  #take(character: string): boolean {
    this.#blanks();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #blanks(): void {
    this.#match(BLANKS);
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }

  #error(expected: string): AcceptorError {
    return new AcceptorError(
      "ERR_ACCEPTOR_JSON",
      `invalid JSON at position ${this.#at}: expected ${expected}`,
    );
  }
}
