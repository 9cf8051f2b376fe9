/**
 * The file of a timeline's consumer slots: a JSON document, written by this version and read back strictly.
 *
 * Pure. A file that does not parse keeps the timeline from loading: without its slots, WAL would be removed that a
 * consumer was promised.
 */
import { formatLsn, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { parseJson, stringifyJson } from "./bigint-json.js";
import type { JsonValue } from "./bigint-json.js";
import { AcceptorError } from "./errors.js";

/** What is kept of a slot. */
export interface SlotRecord {
  readonly name: string;
  /** WAL from here on is kept; 0 while nothing is. */
  readonly restartLsn: Lsn;
  /** When a consumer was last connected, milliseconds since 1970. */
  readonly lastActiveMs: number;
}

const FORMAT_VERSION = 1;

/** Writes the file. */
export function serializeSlots(slots: readonly SlotRecord[]): Uint8Array {
  const list = slots.map(({ name, restartLsn, lastActiveMs }) => ({
    name,
    restart_lsn: formatLsn(restartLsn),
    last_active_ms: Math.floor(lastActiveMs),
  }));
  return Buffer.from(`${stringifyJson({ version: FORMAT_VERSION, slots: list })}\n`, "utf8");
}

/**
 * Reads the file.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_RECORDS_CORRUPT
 */
export function parseSlots(bytes: Uint8Array): readonly SlotRecord[] {
  let document: JsonValue;
  try {
    document = parseJson(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw corrupt(error instanceof Error ? error.message : String(error), error);
  }
  const { version, slots } = asObject(document);
  if (version !== FORMAT_VERSION || !Array.isArray(slots)) throw corrupt("not a list of version 1");
  return (slots as readonly JsonValue[]).map((slot) => {
    const { name, restart_lsn: restart, last_active_ms: lastActiveMs } = asObject(slot);
    const restartLsn = typeof restart === "string" ? tryParseLsn(restart) : undefined;
    if (typeof name !== "string" || restartLsn === undefined || typeof lastActiveMs !== "number")
      throw corrupt("a member is missing");
    return { name, restartLsn, lastActiveMs };
  });
}

function asObject(value: JsonValue | undefined): { readonly [key: string]: JsonValue } {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw corrupt("an object is missing");
  return value as { readonly [key: string]: JsonValue };
}

function corrupt(what: string, cause?: unknown): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_RECORDS_CORRUPT", `list of consumer slots: ${what}`, { cause });
}
