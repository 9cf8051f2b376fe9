/**
 * Which tenant and timeline a connection is about, read from the `options` of its startup packet.
 *
 * A proposer sends `-c timeline_id=<hex> tenant_id=<hex>`; compute tools of 2022 sent the names with a leading z.
 * A stock server refuses undotted unknown settings, but takes dotted ones as placeholders, so
 * `walacceptor.tenant_id` lets one connection string name a primary and acceptors. Splitting the option string into
 * `key=value` tokens is pg-wire's; here the keys get their meaning.
 *
 * Both ids may be absent here: they are asked for when a command needs them. A malformed id is refused at once.
 */
import { AcceptorError } from "./errors.js";

/** Ids of a connection: 32 lower-case hex digits each, `undefined` when not given. */
export interface ConnectionTarget {
  readonly tenantId: string | undefined;
  readonly timelineId: string | undefined;
}

const TENANT_KEYS = ["tenant_id", "ztenantid", "walacceptor.tenant_id"] as const;
const TIMELINE_KEYS = ["timeline_id", "ztimelineid", "walacceptor.timeline_id"] as const;
const SHARD_KEYS = ["shard_count", "shard_number", "shard_stripe_size"] as const;
const ID = /^[0-9a-fA-F]{32}$/;

/**
 * Reads the ids from the `key=value` tokens of the startup options.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_STARTUP for an id that is not 32 hex digits, for two different values of one
 *   id, and for shard keys, which belong to the pageserver's interpreted protocol that is not served here
 */
export function parseConnectionTarget(options: ReadonlyMap<string, string>): ConnectionTarget {
  for (const key of SHARD_KEYS) {
    if (options.has(key)) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_STARTUP",
        `option ${key} needs the interpreted protocol, not served here`,
      );
    }
  }
  return { tenantId: readId(options, TENANT_KEYS), timelineId: readId(options, TIMELINE_KEYS) };
}

/** Whether `text` is a tenant or timeline id as this package keeps them: exactly 32 lower-case hex digits. */
export function isId(text: string): boolean {
  return ID.test(text) && text === text.toLowerCase();
}

function readId(options: ReadonlyMap<string, string>, keys: readonly string[]): string | undefined {
  let id: string | undefined;
  for (const key of keys) {
    const value = options.get(key);
    if (value === undefined) continue;
    if (!ID.test(value)) {
      throw new AcceptorError("ERR_ACCEPTOR_STARTUP", `option ${key} must be exactly 32 hexadecimal digits`);
    }
    if (id !== undefined && id !== value.toLowerCase()) {
      throw new AcceptorError("ERR_ACCEPTOR_STARTUP", `option ${key} contradicts an earlier option`);
    }
    id = value.toLowerCase();
  }
  return id;
}
