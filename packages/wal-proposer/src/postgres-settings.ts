/**
 * Settings of PostgreSQL as SHOW prints them, and what is wrong with them for a bridge. Pure functions.
 *
 * The bridge can only promise that a commit is on a quorum if PostgreSQL waits for it. Whether it does is decided by
 * a handful of settings that an operator may change at any time, so a bad value is a warning and not an error.
 * The grammar of synchronous_standby_names is that of PostgreSQL's syncrep_gram.y; what it means, of syncrep.c.
 */
import { ProposerError } from "./errors.js";

const BYTE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1024,
  MB: 1024 ** 2,
  GB: 1024 ** 3,
  TB: 1024 ** 4,
};
const MS_UNITS: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Reads a size as SHOW prints it: `16MB`, `1GB`, `512kB`, `100B`.
 *
 * @throws {ProposerError} ERR_BRIDGE_SETTING
 */
export function parseBytesSetting(name: string, text: string): number {
  return parseWithUnit(name, text, BYTE_UNITS);
}

/**
 * Reads a duration as SHOW prints it, in milliseconds: `1min`, `500ms`, `0`.
 *
 * @throws {ProposerError} ERR_BRIDGE_SETTING
 */
export function parseDurationSetting(name: string, text: string): number {
  return parseWithUnit(name, text, MS_UNITS);
}

function parseWithUnit(name: string, text: string, units: Readonly<Record<string, number>>): number {
  const match = /^(\d{1,15})([A-Za-z]{0,3})$/.exec(text);
  const unit = match?.[2] === "" ? 1 : units[match?.[2] ?? ""];
  if (match === null || unit === undefined) {
    throw new ProposerError("ERR_BRIDGE_SETTING", `${name} is shown as ${JSON.stringify(text.slice(0, 40))}`);
  }
  return Number(match[1]) * unit;
}

/** A value of synchronous_standby_names. Undefined stands for an empty one: nobody is waited for. */
export interface SynchronousStandbys {
  readonly method: "first" | "any";
  /** How many standbys a commit waits for. */
  readonly count: number;
  /** Application names in order; `*` is any. */
  readonly names: readonly string[];
}

/**
 * Parses synchronous_standby_names.
 *
 * @throws {ProposerError} ERR_BRIDGE_SETTING if it is not one; PostgreSQL would not have accepted it either
 */
export function parseSynchronousStandbyNames(text: string): SynchronousStandbys | undefined {
  const tokens = tokenize(text);
  if (tokens.length === 0) return undefined;
  const [first, second, third] = tokens;
  const keyword = first?.quoted === false ? first.text.toLowerCase() : "";
  if ((keyword === "first" || keyword === "any") && isNumber(second) && third?.text === "(") {
    return standbys(text, keyword, second.text, tokens.slice(2));
  }
  if (isNumber(first) && second?.text === "(") return standbys(text, "first", first.text, tokens.slice(1));
  return { method: "first", count: 1, names: nameList(text, tokens) };
}

interface Token {
  readonly text: string;
  readonly quoted: boolean;
}

function tokenize(text: string): Token[] {
  const pattern = /\s*(?:"((?:[^"]|"")*)"|([(),])|([^\s(),"]+))/gy;
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  while (pattern.lastIndex < end) {
    const match = pattern.exec(text);
    if (match === null) throw badNames(text);
    if (match[1] === undefined) tokens.push({ text: match[2] ?? match[3] ?? "", quoted: false });
    else tokens.push({ text: match[1].replaceAll('""', '"'), quoted: true });
  }
  return tokens;
}

function isNumber(token: Token | undefined): token is Token {
  return token !== undefined && !token.quoted && /^\d{1,9}$/.test(token.text);
}

function standbys(
  text: string,
  method: "first" | "any",
  count: string,
  list: readonly Token[],
): SynchronousStandbys {
  const last = list.at(-1);
  if (last?.text !== ")" || last.quoted) throw badNames(text);
  return { method, count: Number(count), names: nameList(text, list.slice(1, -1)) };
}

function nameList(text: string, tokens: readonly Token[]): readonly string[] {
  const names: string[] = [];
  for (const [index, token] of tokens.entries()) {
    const isSeparator = !token.quoted && /^[(),]$/.test(token.text);
    if (index % 2 === 1 ? token.text !== "," : isSeparator) throw badNames(text);
    if (index % 2 === 0) names.push(token.text);
  }
  if (tokens.length % 2 === 0) throw badNames(text);
  return names;
}

function badNames(text: string): ProposerError {
  return new ProposerError(
    "ERR_BRIDGE_SETTING",
    `synchronous_standby_names cannot be read: ${JSON.stringify(text.slice(0, 200))}`,
  );
}

/** The settings that decide whether a commit waits for the quorum, as SHOW prints them. */
export interface DurabilitySettings {
  readonly synchronousStandbyNames: string;
  readonly synchronousCommit: string;
  readonly fsync: string;
  readonly fullPageWrites: string;
  readonly walLevel: string;
}

/** One thing that an operator should change. */
export interface SettingWarning {
  /** The setting's name. */
  readonly warning: string;
  readonly detail: string;
}

/**
 * What keeps commits from waiting for the quorum, or keeps the WAL from being worth waiting for. Names in
 * synchronous_standby_names are taken to be unique, as PostgreSQL's documentation asks for.
 */
export function durabilityWarnings(
  settings: DurabilitySettings,
  applicationName: string,
): readonly SettingWarning[] {
  const warnings: SettingWarning[] = [];
  const standby = standbyWarning(settings.synchronousStandbyNames, applicationName);
  if (standby !== undefined) warnings.push({ warning: "synchronous_standby_names", detail: standby });
  if (settings.synchronousCommit === "off" || settings.synchronousCommit === "local") {
    const detail = `synchronous_commit = ${settings.synchronousCommit}: commits do not wait for the acceptors`;
    warnings.push({ warning: "synchronous_commit", detail });
  }
  if (settings.fsync !== "on") {
    const detail = "fsync is off: after a crash PostgreSQL may have lost WAL that acceptors have";
    warnings.push({ warning: "fsync", detail });
  }
  if (settings.fullPageWrites !== "on") {
    const detail = "full_page_writes is off: a torn page cannot be repaired from the WAL";
    warnings.push({ warning: "full_page_writes", detail });
  }
  if (settings.walLevel === "minimal") {
    const detail = "wal_level is minimal: the WAL does not hold all that a standby needs";
    warnings.push({ warning: "wal_level", detail });
  }
  return warnings;
}

function standbyWarning(text: string, applicationName: string): string | undefined {
  const parsed = parseSynchronousStandbyNames(text);
  if (parsed === undefined) return "it is empty: commits wait for nobody";
  const own = applicationName.toLowerCase();
  // PostgreSQL compares names without regard to case.
  const others = parsed.names.filter((name) => name.toLowerCase() !== own);
  const wildcard = others.includes("*");
  if (others.length === parsed.names.length && !wildcard) {
    return `${JSON.stringify(applicationName)} is not among ${JSON.stringify(text)}: commits do not wait for the acceptors`;
  }
  if (wildcard || others.length >= parsed.count) {
    return `${JSON.stringify(text)} can be satisfied without ${JSON.stringify(applicationName)}`;
  }
  return undefined;
}
