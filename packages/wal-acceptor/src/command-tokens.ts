/**
 * The tokens of the WAL port's query strings, and the errors that quote them.
 *
 * The alphabet is that of PostgreSQL's repl_scanner.l, as far as its commands need it: words, quoted names, strings,
 * numbers, WAL positions, punctuation. Pure and bounded: a query gives at most TOKENS_MAX tokens, and an error repeats
 * a bounded part of what a peer sent.
 */
import { tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { AcceptorError } from "./errors.js";

const U32_MAX = 2 ** 32 - 1;
const U64_MAX = 2n ** 64n - 1n;

/** One token. */
export interface Token {
  readonly kind: "word" | "quoted-name" | "string" | "number" | "lsn" | "punctuation" | "semicolon";
  /** Content: quotes removed and doubled quotes undone. */
  readonly text: string;
}

// A position comes first: it may begin with a letter, and its first half alone would be a word or a number.
const TOKEN =
  /\s*(?:([0-9A-Fa-f]+\/[0-9A-Fa-f]+)|([A-Za-z_][A-Za-z0-9_$]*)|"((?:[^"]|"")*)"|'((?:[^']|'')*)'|([0-9]+)|(;)|([^\s\w"';]))/y;
/** A query of the grammar has below twenty tokens; `SET datestyle` and option lists a few more. */
const TOKENS_MAX = 256;

/**
 * Cuts a query into tokens.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_COMMAND_SYNTAX
 */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const found = TOKEN.exec(text);
    if (found === null || tokens.length === TOKENS_MAX)
      throw syntaxError(`unsupported command "${clip(text)}"`);
    const [, lsn, word, name, string, number, semicolon, punctuation] = found;
    if (lsn !== undefined) tokens.push({ kind: "lsn", text: lsn });
    else if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (name !== undefined) tokens.push({ kind: "quoted-name", text: name.replaceAll('""', '"') });
    else if (string !== undefined) tokens.push({ kind: "string", text: string.replaceAll("''", "'") });
    else if (number !== undefined) tokens.push({ kind: "number", text: number });
    else if (semicolon !== undefined) tokens.push({ kind: "semicolon", text: semicolon });
    else tokens.push({ kind: "punctuation", text: punctuation ?? "" });
  }
  return tokens;
}

/** Reads the tokens of one command from left to right. */
export class TokenReader {
  readonly #tokens: readonly Token[];
  readonly #text: string;
  #at = 0;

  constructor(tokens: readonly Token[], text: string) {
    this.#tokens = tokens;
    this.#text = text;
  }

  /** The next token, or undefined behind the last. */
  next(): Token | undefined {
    const token = this.#tokens[this.#at];
    this.#at += 1;
    return token;
  }

  /** Takes the next token if its text, in any case, is `text` and it is not quoted. */
  take(text: string): boolean {
    const token = this.#tokens[this.#at];
    const bare = token?.kind === "word" || token?.kind === "punctuation";
    if (!bare || token.text.toUpperCase() !== text) return false;
    this.#at += 1;
    return true;
  }

  /** Takes a token that must come here. */
  expect(text: string): void {
    if (!this.take(text)) throw this.#expected(`"${text}"`);
  }

  /** The next token if it is a word. */
  word(): string | undefined {
    const token = this.next();
    return token?.kind === "word" ? token.text : undefined;
  }

  /** An identifier, quoted or not, as it was written. */
  name(what: string): string {
    const token = this.next();
    if (token?.kind !== "word" && token?.kind !== "quoted-name") throw this.#expected(what);
    return token.text;
  }

  /** An identifier as PostgreSQL reads it: lower case unless it is quoted. */
  identifier(what: string): string {
    const quoted = this.#tokens[this.#at]?.kind === "quoted-name";
    const name = this.name(what);
    return quoted ? name : name.toLowerCase();
  }

  /** A WAL position. */
  lsn(): Lsn {
    const token = this.next();
    const lsn = token?.kind === "lsn" ? tryParseLsn(token.text) : undefined;
    if (lsn === undefined) throw this.#expected("a WAL position");
    return lsn;
  }

  /** A u64 inside a string, as in `'12'`. */
  quotedU64(what: string): bigint {
    const token = this.next();
    const value = token?.kind === "string" && /^[0-9]{1,20}$/.test(token.text) ? BigInt(token.text) : -1n;
    if (value < 0n || value > U64_MAX) throw this.#expected(what);
    return value;
  }

  /** A whole number from 1 to 2^32 - 1. */
  number(what: string): number {
    const token = this.next();
    const value = token?.kind === "number" && /^[0-9]+$/.test(token.text) ? Number(token.text) : 0;
    if (value < 1 || value > U32_MAX) throw this.#expected(what);
    return value;
  }

  /** Nothing may follow. */
  end(): void {
    if (this.#at < this.#tokens.length) throw this.#expected("the end of the command");
  }

  /** The error for a command that this port does not know. */
  unsupported(): AcceptorError {
    return syntaxError(`unsupported command "${clip(this.#text)}"`);
  }

  #expected(what: string): AcceptorError {
    return syntaxError(`expected ${what} in command "${clip(this.#text)}"`);
  }
}

/** Characters of a peer's text repeated in an error message; enough to recognise it, too few to flood a log. */
const QUOTED_TEXT_MAX = 200;

/** The beginning of a peer's text, for error messages. */
export function clip(text: string): string {
  return text.length <= QUOTED_TEXT_MAX ? text : `${text.slice(0, QUOTED_TEXT_MAX)}…`;
}

/** ERR_ACCEPTOR_COMMAND_SYNTAX. */
export function syntaxError(message: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_COMMAND_SYNTAX", message);
}

/** ERR_ACCEPTOR_COMMAND_VALUE for an option. */
export function valueError(key: string, value: string): AcceptorError {
  return new AcceptorError("ERR_ACCEPTOR_COMMAND_VALUE", `invalid value "${clip(value)}" of option "${key}"`);
}
