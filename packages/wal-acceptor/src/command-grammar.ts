/**
 * The query strings of the WAL port, from text to a tagged value; nothing here touches a connection.
 *
 * Two dialects meet on this port. Neon's proposer and compute tools send START_WAL_PUSH and TIMELINE_STATUS; stock
 * clients (walreceiver, pg_receivewal, pg_basebackup, psycopg2) send the replication commands of PostgreSQL's
 * repl_gram.y and a few SQL statements. Keywords are case-insensitive and one trailing `;` is allowed, except that
 * START_WAL_PUSH is an exact upper-case prefix and whatever follows it is ignored unless it is a parenthesised
 * list: proposers of 2022 appended a connection URL.
 *
 * A command that is recognised but not served (BASE_BACKUP, START_REPLICATION and the slot and history commands of a
 * walsender) parses to `unsupported`, so that the answer is "not supported" and not "syntax error".
 */
import type { ProtocolVersion } from "@millrace/wal-protocol";

import { AcceptorError } from "./errors.js";

/** One query of the WAL port. */
export type WalPortCommand =
  | StartWalPush
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

const LATER = "a later version of this server adds it";

// What PostgreSQL's replication grammar or Neon's knows and this server does not serve. The walsender commands are
// listed so that a standby pointed here learns why it cannot stream.
const UNSUPPORTED: ReadonlyMap<string, string | undefined> = new Map([
  [
    "BASE_BACKUP",
    "Take the base backup from the primary (-X none or -X stream there) and stream from the acceptor.",
  ],
  ["START_REPLICATION", LATER],
  ["CREATE_REPLICATION_SLOT", LATER],
  ["DROP_REPLICATION_SLOT", LATER],
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
      const slot = tokens.name("a slot name");
      tokens.end();
      return { type: "read-replication-slot", slot };
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

// Every libpq tool built since the 2018 search_path fix sends exactly this after connecting to a database.
const SET_SEARCH_PATH = ["pg_catalog", ".", "set_config", "(", "search_path", ",", "", ",", "false", ")"];

function parseSetSearchPath(tokens: TokenReader): WalPortCommand {
  for (const expected of SET_SEARCH_PATH) {
    if (tokens.next()?.text.toLowerCase() !== expected) throw tokens.unsupported();
  }
  tokens.end();
  return { type: "set-search-path" };
}

interface Token {
  readonly kind: "word" | "quoted-name" | "string" | "number" | "punctuation" | "semicolon";
  /** Content: quotes removed and doubled quotes undone. */
  readonly text: string;
}

const TOKEN =
  /\s*(?:([A-Za-z_][A-Za-z0-9_$]*)|"((?:[^"]|"")*)"|'((?:[^']|'')*)'|([0-9]+(?:\/[0-9A-Fa-f]+)?)|(;)|([^\s\w"';]))/y;
/** A query of the grammar has below twenty tokens; `SET datestyle` and option lists a few more. */
const TOKENS_MAX = 256;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const found = TOKEN.exec(text);
    if (found === null || tokens.length === TOKENS_MAX)
      throw syntaxError(`unsupported command "${clip(text)}"`);
    const [, word, name, string, number, semicolon, punctuation] = found;
    if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (name !== undefined) tokens.push({ kind: "quoted-name", text: name.replaceAll('""', '"') });
    else if (string !== undefined) tokens.push({ kind: "string", text: string.replaceAll("''", "'") });
    else if (number !== undefined) tokens.push({ kind: "number", text: number });
    else if (semicolon !== undefined) tokens.push({ kind: "semicolon", text: semicolon });
    else tokens.push({ kind: "punctuation", text: punctuation ?? "" });
  }
  return tokens;
}

/** Reads the tokens of one command from left to right. */
class TokenReader {
  readonly #tokens: readonly Token[];
  readonly #text: string;
  #at = 0;

  constructor(tokens: readonly Token[], text: string) {
    this.#tokens = tokens;
    this.#text = text;
  }

  next(): Token | undefined {
    const token = this.#tokens[this.#at];
    this.#at += 1;
    return token;
  }

  word(): string | undefined {
    const token = this.next();
    return token?.kind === "word" ? token.text : undefined;
  }

  name(what: string): string {
    const token = this.next();
    if (token?.kind !== "word" && token?.kind !== "quoted-name") throw this.#expected(what);
    return token.text;
  }

  number(what: string): number {
    const token = this.next();
    const value = token?.kind === "number" && /^[0-9]+$/.test(token.text) ? Number(token.text) : 0;
    if (value < 1 || value > U32_MAX) throw this.#expected(what);
    return value;
  }

  end(): void {
    if (this.#at < this.#tokens.length) throw this.#expected("the end of the command");
  }

  unsupported(): AcceptorError {
    return syntaxError(`unsupported command "${clip(this.#text)}"`);
  }

  #expected(what: string): AcceptorError {
    return syntaxError(`expected ${what} in command "${clip(this.#text)}"`);
  }
}

/** Characters of a peer's text repeated in an error message; enough to recognise it, too few to flood a log. */
const QUOTED_TEXT_MAX = 200;

function clip(text: string): string {
  return text.length <= QUOTED_TEXT_MAX ? text : `${text.slice(0, QUOTED_TEXT_MAX)}…`;
}

function syntaxError(message: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_COMMAND_SYNTAX", message);
}

function valueError(key: string, value: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_COMMAND_VALUE", `invalid value "${clip(value)}" of option "${key}"`);
}
