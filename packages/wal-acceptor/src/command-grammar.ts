/**
 * The query strings of the WAL port, from text to a tagged value; nothing here touches a connection.
 *
 * Two dialects meet on this port. Neon's proposer and compute tools send START_WAL_PUSH and TIMELINE_STATUS; stock
 * clients (walreceiver, pg_receivewal, pg_basebackup, psycopg2) send the replication commands of PostgreSQL's
 * repl_gram.y and a few SQL statements. Keywords are case-insensitive and one trailing `;` is allowed, except that
 * START_WAL_PUSH is an exact upper-case prefix and whatever follows it is ignored unless it is a parenthesised
 * list: proposers of 2022 appended a connection URL.
 *
 * A command that is recognised but not served (BASE_BACKUP, anything logical) parses to `unsupported`, so that the
 * answer is "not supported" and not "syntax error".
 */
import type { Lsn } from "@millrace/lsn";
import type { ProtocolVersion } from "@millrace/wal-protocol";

import { clip, syntaxError, tokenize, TokenReader, valueError } from "./command-tokens.js";
import { AcceptorError } from "./errors.js";

/** One query of the WAL port. */
export type WalPortCommand =
  | StartWalPush
  | StartReplication
  | CreateReplicationSlot
  | { readonly type: "drop-replication-slot"; readonly slot: string }
  | { readonly type: "identify-system" }
  | { readonly type: "timeline-status" }
  | { readonly type: "show"; readonly name: string }
  | { readonly type: "timeline-history"; readonly timelineId: number }
  | { readonly type: "read-replication-slot"; readonly slot: string }
  | { readonly type: "set-datestyle" }
  | { readonly type: "set-search-path" }
  | { readonly type: "empty" }
  | { readonly type: "unsupported"; readonly command: string; readonly hint: string | undefined };

/** START_WAL_PUSH with its options filled in. */
export interface StartWalPush {
  readonly type: "start-wal-push";
  /** Version of the messages inside the stream; 2 unless given, as in Neon. */
  readonly protocolVersion: ProtocolVersion;
  /** Whether the greeting may create a timeline that is absent. */
  readonly allowTimelineCreation: boolean;
}

/** START_REPLICATION of physical WAL. */
export interface StartReplication {
  readonly type: "start-replication";
  readonly slot: string | undefined;
  readonly startLsn: Lsn;
  /** PostgreSQL's timeline; `undefined` for Neon's readers, which know one only. */
  readonly timelineId: number | undefined;
  /** With a term the stream reaches the flush position, as long as the acceptor stays in that term. */
  readonly term: bigint | undefined;
}

/** CREATE_REPLICATION_SLOT of a physical slot. */
export interface CreateReplicationSlot {
  readonly type: "create-replication-slot";
  readonly slot: string;
  /** Gone with the connection that made it. */
  readonly temporary: boolean;
  /** Whether WAL is held back from now on, and not only from the first stream on. */
  readonly reserveWal: boolean;
}

const START_WAL_PUSH = "START_WAL_PUSH";
const U32_MAX = 2 ** 32 - 1;

/**
 * Parses one simple query.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_COMMAND_SYNTAX (unknown command or malformed text),
 *   ERR_ACCEPTOR_COMMAND_VALUE (an option has a value outside its type),
 *   ERR_ACCEPTOR_UNSUPPORTED (a protocol version other than 2 and 3)
 */
export function parseCommand(text: string): WalPortCommand {
  const trimmed = text.trim();
  if (trimmed.startsWith(START_WAL_PUSH))
    return parseStartWalPush(trimmed.slice(START_WAL_PUSH.length).trim());
  const tokens = tokenize(trimmed);
  if (tokens.at(-1)?.kind === "semicolon") tokens.pop();
  if (tokens.length === 0) return { type: "empty" };
  return parseTokens(new TokenReader(tokens, trimmed));
}

/** A short name of the command for counters; never more than the words of the grammar, whatever a peer sends. */
export function commandName(command: WalPortCommand): string {
  return command.type === "unsupported" ? command.command : command.type.replaceAll("-", "_").toUpperCase();
}

function parseStartWalPush(rest: string): StartWalPush {
  const body = rest.endsWith(";") ? rest.slice(0, -1).trimEnd() : rest;
  let protocolVersion: ProtocolVersion = 2;
  let allowTimelineCreation = true;
  if (body.startsWith("(")) {
    if (!body.endsWith(")")) throw syntaxError(`unterminated option list of ${START_WAL_PUSH}`);
    for (const [key, value] of parseOptionList(body.slice(1, -1))) {
      if (key === "proto_version") protocolVersion = parseProtocolVersion(value);
      else if (key === "allow_timeline_creation") allowTimelineCreation = parseBoolean(key, value);
    }
  }
  return { type: "start-wal-push", protocolVersion, allowTimelineCreation };
}

// `key 'value', key 'value'`; a value holds neither commas nor blanks, so splitting is the grammar.
function parseOptionList(list: string): (readonly [key: string, value: string])[] {
  return list.split(",").map((item) => {
    const words = item.trim().split(/\s+/);
    const [key, value] = words;
    if (key === undefined || key === "") throw syntaxError(`empty option of ${START_WAL_PUSH}`);
    if (value === undefined) throw syntaxError(`option "${clip(key)}" of ${START_WAL_PUSH} has no value`);
    if (words.length > 2)
      throw syntaxError(`option "${clip(key)}" of ${START_WAL_PUSH} has more than one value`);
    return [key, value.replace(/^'+/, "").replace(/'+$/, "")] as const;
  });
}

function parseProtocolVersion(value: string): ProtocolVersion {
  const version = /^[0-9]{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isNaN(version) || version > U32_MAX) throw valueError("proto_version", value);
  if (version !== 2 && version !== 3) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_UNSUPPORTED",
      `unsupported protocol version ${version}, use 2 or 3`,
    );
  }
  return version;
}

function parseBoolean(key: string, value: string): boolean {
  if (value === "true") return true;
  if (value === "false") return false;
  throw valueError(key, value);
}

// What PostgreSQL's replication grammar or Neon's knows and this server does not serve.
const UNSUPPORTED: ReadonlyMap<string, string | undefined> = new Map([
  [
    "BASE_BACKUP",
    "Take the base backup from the primary (-X none or -X stream there) and stream from the acceptor.",
  ],
  ["ALTER_REPLICATION_SLOT", undefined],
  ["UPLOAD_MANIFEST", undefined],
  ["JSON_CTRL", undefined],
]);

function parseTokens(tokens: TokenReader): WalPortCommand {
  const keyword = tokens.word()?.toUpperCase();
  switch (keyword) {
    case "IDENTIFY_SYSTEM":
      tokens.end();
      return { type: "identify-system" };
    case "TIMELINE_STATUS":
      tokens.end();
      return { type: "timeline-status" };
    case "SHOW": {
      const name = tokens.name("a parameter name");
      tokens.end();
      return { type: "show", name };
    }
    case "TIMELINE_HISTORY": {
      const timelineId = tokens.number("a timeline number");
      tokens.end();
      return { type: "timeline-history", timelineId };
    }
    case "READ_REPLICATION_SLOT": {
      const slot = tokens.identifier("a slot name");
      tokens.end();
      return { type: "read-replication-slot", slot };
    }
    case "START_REPLICATION":
      return parseStartReplication(tokens);
    case "CREATE_REPLICATION_SLOT":
      return parseCreateSlot(tokens);
    case "DROP_REPLICATION_SLOT": {
      const slot = tokens.identifier("a slot name");
      tokens.take("WAIT"); // waiting for the slot's reader to leave is not done: a slot in use is an error
      tokens.end();
      return { type: "drop-replication-slot", slot };
    }
    case "SET":
      // Drivers set datestyle after connecting; the value cannot matter to a server that prints no dates.
      if (tokens.word()?.toUpperCase() === "DATESTYLE") return { type: "set-datestyle" };
      throw tokens.unsupported();
    case "SELECT":
      return parseSetSearchPath(tokens);
    case undefined:
    default:
      if (keyword !== undefined && UNSUPPORTED.has(keyword)) {
        return { type: "unsupported", command: keyword, hint: UNSUPPORTED.get(keyword) };
      }
      throw tokens.unsupported();
  }
}

const LOGICAL: WalPortCommand = {
  type: "unsupported",
  command: "LOGICAL",
  hint: "An acceptor keeps WAL and no catalogs; decode on the primary or on a standby.",
};

function parseStartReplication(tokens: TokenReader): WalPortCommand {
  const slot = tokens.take("SLOT") ? tokens.identifier("a slot name") : undefined;
  if (tokens.take("LOGICAL")) return LOGICAL;
  tokens.take("PHYSICAL");
  const startLsn = tokens.lsn();
  const timelineId = tokens.take("TIMELINE") ? tokens.number("a timeline number") : undefined;
  let term: bigint | undefined;
  if (tokens.take("(")) {
    tokens.expect("TERM");
    tokens.expect("=");
    term = tokens.quotedU64("a term in quotes");
    tokens.expect(")");
  }
  tokens.end();
  return { type: "start-replication", slot, startLsn, timelineId, term };
}

// `PHYSICAL [RESERVE_WAL]` before PostgreSQL 15, `PHYSICAL [(RESERVE_WAL [on|off])]` since.
function parseCreateSlot(tokens: TokenReader): WalPortCommand {
  const slot = tokens.identifier("a slot name");
  const temporary = tokens.take("TEMPORARY");
  if (tokens.take("LOGICAL")) return LOGICAL;
  tokens.expect("PHYSICAL");
  let reserveWal = tokens.take("RESERVE_WAL");
  if (!reserveWal && tokens.take("(")) {
    tokens.expect("RESERVE_WAL");
    reserveWal = !tokens.take("OFF") && !tokens.take("FALSE");
    if (reserveWal && !tokens.take("ON")) tokens.take("TRUE");
    tokens.expect(")");
  }
  tokens.end();
  return { type: "create-replication-slot", slot, temporary, reserveWal };
}

// Every libpq tool built since the 2018 search_path fix sends exactly this after connecting to a database.
const SET_SEARCH_PATH = ["pg_catalog", ".", "set_config", "(", "search_path", ",", "", ",", "false", ")"];

function parseSetSearchPath(tokens: TokenReader): WalPortCommand {
  for (const expected of SET_SEARCH_PATH) {
    if (tokens.next()?.text.toLowerCase() !== expected) throw tokens.unsupported();
  }
  tokens.end();
  return { type: "set-search-path" };
}
