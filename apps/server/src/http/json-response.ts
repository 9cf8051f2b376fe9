/**
 * JSON answers whose 64-bit integers keep all their digits.
 *
 * hono's own `c.json` uses JSON.stringify, which refuses bigint; terms and system ids are bigint. Errors have one
 * shape everywhere: `{"msg": "..."}`, as Neon's tools expect it.
 */
import { stringifyJson } from "@millrace/wal-acceptor";

/** A response with `value` as its JSON body. */
export function jsonResponse(value: unknown, status = 200): Response {
  return new Response(stringifyJson(value), {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });
}

/** A response that says what is wrong. */
export function errorResponse(status: number, message: string): Response {
  return jsonResponse({ msg: message }, status);
}
