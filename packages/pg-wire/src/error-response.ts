/**
 * The body of ErrorResponse and NoticeResponse: single-letter fields, each a NUL-terminated string, closed by a NUL.
 *
 * Written: S, V (the severity that is never translated), C, M, and what else is given. Read: every field that
 * ErrorFields names, V in preference to S; unknown letters are skipped, as the protocol demands.
 */
import { protocolError } from "./errors.js";
import type { ErrorFields } from "./errors.js";

type OptionalField = Exclude<keyof ErrorFields, "severity" | "code" | "message">;

const OPTIONAL_FIELDS: readonly (readonly [letter: string, name: OptionalField])[] = [
  ["D", "detail"],
  ["H", "hint"],
  ["P", "position"],
  ["W", "where"],
  ["s", "schema"],
  ["t", "table"],
  ["c", "column"],
  ["n", "constraint"],
  ["F", "file"],
  ["L", "line"],
  ["R", "routine"],
];

/** Longest text of one field that is written, in UTF-16 units: a cause chain must not fill the peer's log. */
export const ERROR_FIELD_CHARS_MAX = 8192;

/** The body without the frame around it. NULs inside a value, which would end it early, become spaces. */
export function serializeErrorFields(fields: ErrorFields): Buffer {
  const severity = fieldText(fields.severity);
  let text = `S${severity}\0V${severity}\0C${fieldText(fields.code)}\0M${fieldText(fields.message)}\0`;
  for (const [letter, name] of OPTIONAL_FIELDS) {
    const value = fields[name];
    if (value !== undefined) text += `${letter}${fieldText(value)}\0`;
  }
  return Buffer.from(`${text}\0`);
}

/**
 * Parses the body of an ErrorResponse or NoticeResponse. Missing fields become "ERROR", "XX000" and "". Text that is
 * not UTF-8 (an error from before the encoding was settled) is decoded with replacement characters.
 *
 * @throws {WireError} ERR_WIRE_PROTOCOL if a field or the list is not terminated
 */
export function parseErrorFields(body: Buffer): ErrorFields {
  const byLetter = new Map<string, string>();
  let offset = 0;
  while (body[offset] !== 0) {
    const end = body.indexOf(0, offset + 1);
    if (end < 0) throw protocolError("error response is not terminated");
    byLetter.set(String.fromCharCode(body[offset] ?? 0), body.toString("utf8", offset + 1, end));
    offset = end + 1;
  }
  const optional: Partial<Record<OptionalField, string>> = {};
  for (const [letter, name] of OPTIONAL_FIELDS) {
    const value = byLetter.get(letter);
    if (value !== undefined) optional[name] = value;
  }
  return {
    severity: byLetter.get("V") ?? byLetter.get("S") ?? "ERROR",
    code: byLetter.get("C") ?? "XX000",
    message: byLetter.get("M") ?? "",
    ...optional,
  };
}

function fieldText(value: string): string {
  return value.slice(0, ERROR_FIELD_CHARS_MAX).replaceAll("\0", " ");
}
