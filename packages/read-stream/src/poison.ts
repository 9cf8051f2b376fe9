/**
 * Makes a record useless, so that a consumer who keeps one for too long finds out.
 *
 * A record belongs to the consumer from the call that returned its buffer until the next one. Afterwards the callback may
 * fill it for another block at any time, and code that still reads it works by luck. Only streams made with `debug` do this.
 */

/** What bytes become; PostgreSQL wipes freed memory with the same. */
const POISON_BYTE = 0x7f;

/** Overwrites what `record` holds: bytes with 0x7f, numbers with NaN, everything else with undefined. */
export function poison(record: unknown): void {
  if (ArrayBuffer.isView(record)) {
    new Uint8Array(record.buffer, record.byteOffset, record.byteLength).fill(POISON_BYTE);
    return;
  }
  if (typeof record !== "object" || record === null) return;
  const fields = record as Record<string, unknown>;
  for (const name of Object.keys(fields))
    fields[name] = typeof fields[name] === "number" ? Number.NaN : undefined;
}
